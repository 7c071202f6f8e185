"""The canary is written once for all, and the log loses its oldest part and nothing else; on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.keys.clock import boot_clock
from gateway.store.base import DAY_MS, Delta, Follower, LiveRow, Reload, Store
from gateway.store.login import end_token
from gateway.store.steps import Query, Row, Steps
from gateway.store.upkeep import keep_up
from gateway.store.urls import open_store
from tests.store.samples import a_key, audit, audit_of, audited, now_ms


def live_id(row: LiveRow) -> str:
    return row.id


def run(text: str, *args: Any) -> Steps[list[Row]]:
    return (yield Query(text, args, literal=True))


@pytest.fixture
async def follower(store: Store) -> AsyncIterator[Follower]:
    follower = store.follow(boot_clock)
    yield follower
    await follower.close()


async def numbers(store: Store) -> list[int]:
    return [row[0] for row in await store.read(run("SELECT number FROM changes ORDER BY number"))]


async def add(store: Store, count: int = 1) -> None:
    for _ in range(count):
        key = a_key()
        await store.insert_key(key, audit_of(key))


async def age(store: Store, by_ms: int, *changes: int) -> None:
    """Have changes been written longer ago than they were."""
    listed = ", ".join(map(str, changes))
    await store.write(run(f"UPDATE changes SET at = at - {by_ms} WHERE number IN ({listed})"))


async def age_canary(store: Store, by_ms: int) -> None:
    await store.write(run(f"UPDATE canary SET at = at - {by_ms}"))


async def test_a_canary_is_a_change_that_changes_nothing(store: Store, follower: Follower) -> None:
    start = await follower.begin_load()
    assert start.canary_at == 0
    before = now_ms()
    at = await store.write(keep_up())
    assert at is not None
    assert before - 1000 <= at <= now_ms() + 1000
    delta = await follower.poll(start.position, live_id)
    assert isinstance(delta, Delta)
    assert delta.position.number == start.position.number + 1
    assert (delta.keys, delta.scopes, delta.users, delta.tokens) == ([], None, None, None)
    assert delta.canary_at == at
    assert delta.committed_at == [delta.canary_at]
    assert (await follower.begin_load()).canary_at == at, "who begins now knows when the newest one was"
    assert [row.action for row in await audited(store)] == ["tenant.create"], "nobody did anything"


async def test_only_one_of_many_writes_it_in_its_time(store_url: str) -> None:
    stores = [open_store(store_url) for _ in range(4)]
    await stores[0].migrate()
    done = await asyncio.gather(*(each.write(keep_up()) for each in stores for _ in range(3)))
    assert len([at for at in done if at is not None]) == 1
    assert await stores[0].write(keep_up()) is None
    await age_canary(stores[0], 9_000)
    assert await stores[1].write(keep_up()) is None
    await age_canary(stores[0], 1_001)
    assert await stores[1].write(keep_up()) is not None
    assert len(await numbers(stores[0])) == 3
    for store in stores:
        await store.close()


async def test_a_store_whose_clock_was_set_back_gets_a_canary_all_the_same(store: Store) -> None:
    await store.write(keep_up())
    await age_canary(store, -DAY_MS)
    assert await store.write(keep_up()) is not None


async def test_what_is_older_than_a_day_is_trimmed_in_small_parts(store: Store) -> None:
    await add(store, 9)
    await age(store, DAY_MS + 1000, *range(1, 8))
    for left in ([5, 6, 7, 8, 9, 10, 11], [8, 9, 10, 11, 12], [8, 9, 10, 11, 12, 13]):
        await age_canary(store, 20_000)
        await store.write(keep_up(batch=4))
        assert await numbers(store) == left


async def test_what_is_trimmed_is_the_oldest_part_without_a_gap(store: Store, follower: Follower) -> None:
    await add(store, 4)
    await age(store, 2 * DAY_MS, 1, 2, 4)
    start = (await follower.begin_load()).position
    await store.write(keep_up())
    assert await numbers(store) == [3, 4, 5, 6], "an old change behind a young one stays with it"
    delta = await follower.poll(start, live_id)
    assert isinstance(delta, Delta)


async def test_the_head_is_never_trimmed(store: Store, follower: Follower) -> None:
    await add(store)
    await store.write(keep_up(kept_ms=-1))
    assert await numbers(store) == [3]
    position = (await follower.begin_load()).position
    assert position.number == 3
    assert not isinstance(await follower.poll(position, live_id), Reload)


async def test_what_a_wrong_clock_put_far_ahead_keeps_nothing_in_the_log(store: Store) -> None:
    await add(store, 2)
    await age(store, -400 * DAY_MS, 1)
    await age(store, 2 * DAY_MS, 2)
    await store.write(keep_up())
    assert await numbers(store) == [3, 4]


async def test_who_was_away_for_longer_than_the_log_reaches_loads_everything(
    store: Store, follower: Follower
) -> None:
    start = (await follower.begin_load()).position
    await add(store, 2)
    await age(store, 2 * DAY_MS, start.number)
    await store.write(keep_up())
    assert await follower.poll(start, live_id) == Reload(
        f"change {start.number} is no longer in the log, or never was"
    )


async def test_who_was_away_for_less_goes_on(store: Store, follower: Follower) -> None:
    await add(store)
    await age(store, 2 * DAY_MS, 1)
    start = (await follower.begin_load()).position
    await add(store)
    await store.write(keep_up())
    assert await numbers(store) == [2, 3, 4]
    delta = await follower.poll(start, live_id)
    assert isinstance(delta, Delta)
    assert len(delta.keys) == 1


async def test_logged_out_tokens_that_have_ended_for_a_day_are_forgotten(store: Store) -> None:
    """Not sooner: the store's clock may be hours ahead until it is set right."""
    hour = 3_600_000
    for jti, ends_at in (
        ("live", now_ms() + hour),
        ("late", now_ms() - 23 * hour),
        ("gone", now_ms() - 25 * hour),
    ):
        row = audit("login.logout", "ended_token", jti)
        assert await store.write(end_token(jti, "subject_ann", ends_at, now_ms(), row))
    await store.write(keep_up())
    rows = await store.read(run("SELECT jti FROM ended_tokens ORDER BY jti"))
    assert [row[0] for row in rows] == ["late", "live"]
