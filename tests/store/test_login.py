"""Ended login tokens and counted login attempts in a store."""

from __future__ import annotations

from gateway.keys.clock import boot_clock
from gateway.store.base import Delta, Store
from gateway.store.login import ENDED_KEPT_MS, end_token, ended_token
from gateway.store.operations import read
from gateway.store.steps import Steps
from tests.store.samples import audit, audited


def ending(jti: str, expires_at: int, at: int) -> Steps[bool]:
    return end_token(jti, "subject_1", expires_at, at, audit("login.logout", "ended_token", jti))


async def test_an_ended_token_stays_ended_and_is_audited_once(store: Store) -> None:
    assert not await store.read(ended_token("one"))
    assert await store.write(ending("one", 2000, 1000))
    assert not await store.write(ending("one", 2000, 1001))
    assert await store.read(ended_token("one"))
    assert not await store.read(ended_token("two"))
    assert [row.action for row in await audited(store)].count("login.logout") == 1


async def test_the_end_of_a_token_is_in_the_change_log_under_its_id(store: Store) -> None:
    follower = store.follow(boot_clock)
    position = (await follower.begin_load()).position
    await store.write(ending("one", 2000, 1000))
    delta = await follower.poll(position, lambda row: row.id)
    assert isinstance(delta, Delta)
    assert delta.position.number == position.number + 1
    changed = await store.read(read("ended_tokens_changed", position.number, delta.position.number))
    assert changed == [("one", 2000)]
    await follower.close()


async def test_a_logout_by_a_clock_far_ahead_brings_no_other_token_back(store: Store) -> None:
    await store.write(ending("one", 2000, 1000))
    await store.write(ending("two", 9000 + ENDED_KEPT_MS, 8000 + ENDED_KEPT_MS))
    assert await store.read(ended_token("one"))
