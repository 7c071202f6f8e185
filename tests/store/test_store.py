"""What every store keeps and promises; these run on each engine."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.core.model import Permission
from gateway.keys.clock import boot_clock
from gateway.store.base import (
    Delta,
    DuplicateError,
    Environment,
    LiveRow,
    Position,
    Reload,
    Store,
    StoreError,
    UnknownEntityError,
)
from gateway.store.texts import migrations
from gateway.store.urls import open_store
from tests.store.samples import ACTOR, a_key, a_tenant, audit, audit_of, audited, now_ms


def live_id(row: LiveRow) -> str:
    return row.id


async def position_of(store: Store) -> Position:
    follower = store.follow(boot_clock)
    try:
        return (await follower.begin_load()).position
    finally:
        await follower.close()


async def test_a_new_store_has_the_tenant_default_and_says_what_it_applied(empty_url: str) -> None:
    store = open_store(empty_url)
    assert await store.migrate() == [migration.name for migration in migrations()]
    assert await store.migrate() == []
    assert [tenant.id for tenant in await store.tenants()] == ["default"]
    await store.close()


async def test_a_key_comes_back_as_it_was_kept(store: Store) -> None:
    await store.insert_environment(
        Environment(id="prod", tenant_id="default", prefix="qs_live_", created_at=1, updated_at=1), audit()
    )
    maker = a_key(permission=Permission.EDITOR)
    maker = await store.insert_key(maker, audit_of(maker))
    key = a_key(
        environment_id="prod",
        description="für Ärzte",
        role="MediaEditor",
        permission=Permission.EDITOR,
        intended_use="ci",
        created_by_key=maker.id,
        replaces="apk_2",
        last_used_at=5,
        root_id="subject_1",
        removed_at=6,
    )
    kept = await store.insert_key(key, audit_of(key))
    assert kept == msgspec.structs.replace(key, number=2)
    assert await store.key(key.id) == kept
    assert await store.keys(tenant_id="default") == [maker, kept]


async def test_numbers_count_within_a_tenant(store: Store) -> None:
    await store.insert_tenant(a_tenant("acme"), audit())
    tenants = ["default", "acme", "default", "acme", "acme"]
    made = [await store.insert_key(key, audit_of(key)) for key in [a_key(tenant_id=t) for t in tenants]]
    assert [key.number for key in made] == [1, 1, 2, 2, 3]


async def test_a_failed_insert_leaves_nothing_behind(store: Store) -> None:
    first = a_key()
    await store.insert_key(first, audit_of(first))
    before = await position_of(store)
    for broken, error in [
        (a_key(tenant_id="nobody"), UnknownEntityError),
        (a_key(environment_id="nowhere"), UnknownEntityError),
        (a_key(digest=first.digest), DuplicateError),
        (a_key(locator=first.locator), DuplicateError),
        (a_key(id=first.id), DuplicateError),
    ]:
        with pytest.raises(error):
            await store.insert_key(broken, audit_of(broken))
    assert len(await store.keys()) == 1
    assert await position_of(store) == before
    assert len(await audited(store)) == 2
    second = a_key()
    assert (await store.insert_key(second, audit_of(second))).number == 2


async def test_revoking_is_final_and_done_once(store: Store) -> None:
    key = a_key()
    await store.insert_key(key, audit_of(key))
    revoked, done = await store.revoke_key(key.id, 1000, "ann", audit("key.revoke", "key", key.id))
    assert done
    assert (revoked.revoked_at, revoked.revoked_by, revoked.status(0)) == (1000, "ann", "revoked")
    position = await position_of(store)
    again, done = await store.revoke_key(key.id, 2000, "bob", audit("key.revoke", "key", key.id))
    assert not done
    assert again == revoked
    assert await position_of(store) == position
    assert [row.action for row in await audited(store)].count("key.revoke") == 1
    with pytest.raises(UnknownEntityError):
        await store.revoke_key("apk_none", 1, "ann", audit())


async def test_tenants_and_environments_are_kept_once(store: Store) -> None:
    tenant = a_tenant("acme", api_keys_enabled=False, max_api_key_expiry="P30D", max_keys_per_user=5)
    await store.insert_tenant(tenant, audit())
    assert await store.tenant("acme") == tenant
    with pytest.raises(DuplicateError):
        await store.insert_tenant(tenant, audit())
    changed = msgspec.structs.replace(tenant, api_keys_enabled=True, name="Acme", updated_at=9)
    assert (
        await store.change_tenant("acme", {"api_keys_enabled": True, "name": "Acme"}, 9, audit()) == changed
    )
    assert await store.tenant("acme") == changed
    with pytest.raises(UnknownEntityError):
        await store.change_tenant("nobody", {}, 9, audit())
    environment = Environment(id="e", tenant_id="acme", prefix="qs_", created_at=1, updated_at=2)
    await store.insert_environment(environment, audit())
    with pytest.raises(DuplicateError):
        await store.insert_environment(environment, audit())
    with pytest.raises(UnknownEntityError):
        await store.insert_environment(msgspec.structs.replace(environment, tenant_id="nobody"), audit())
    assert await store.environments() == [environment]
    assert await store.environments(tenant_id="default") == []


async def test_settings_that_are_changed_at_once_are_all_kept(store: Store) -> None:
    changes = [{"api_keys_enabled": False}, {"max_keys_per_user": 3}, {"max_api_key_expiry": "P2D"}]
    await asyncio.gather(*(store.change_tenant("default", change, 9, audit()) for change in changes))
    kept = await store.tenant("default")
    assert kept is not None
    assert (kept.api_keys_enabled, kept.max_keys_per_user, kept.max_api_key_expiry) == (False, 3, "P2D")


async def test_every_change_stands_in_the_audit_with_who_and_where(store: Store) -> None:
    key = a_key()
    await store.insert_key(key, audit_of(key))
    newest = (await audited(store))[0]
    assert (newest.actor, newest.source, newest.action) == (ACTOR.name, "test", "key.create")
    assert (newest.kind, newest.entity, newest.tenant_id) == ("key", key.id, "default")
    assert abs(newest.at - now_ms()) < 60_000


async def test_bulk_insert_numbers_and_announces_every_key(store: Store) -> None:
    keys = [a_key() for _ in range(2500)]
    before = await position_of(store)
    assert await store.bulk_insert(iter(keys), ACTOR) == 2500
    kept = await store.keys()
    assert [key.number for key in kept] == list(range(1, 2501))
    assert {key.id for key in kept} == {key.id for key in keys}
    assert (await position_of(store)).number == before.number + 2500


async def test_a_bulk_insert_with_a_duplicate_loses_only_its_transaction(store: Store) -> None:
    twin = a_key()
    with pytest.raises(DuplicateError):
        await store.bulk_insert([a_key(), twin, twin], ACTOR)
    assert await store.keys() == []
    key = a_key()
    assert (await store.insert_key(key, audit_of(key))).number == 1


async def test_a_follower_sees_what_followed_its_position(store: Store) -> None:
    follower = store.follow(boot_clock)
    start = (await follower.begin_load()).position
    key = a_key()
    await store.insert_key(key, audit_of(key))
    delta = await follower.poll(start, live_id)
    assert isinstance(delta, Delta)
    assert (delta.keys, delta.scopes, delta.more) == ([key.id], None, False)
    assert delta.position.number == start.number + 1
    await store.insert_tenant(a_tenant("acme"), audit(kind="tenant"))
    later = await follower.poll(delta.position, live_id)
    assert isinstance(later, Delta)
    assert later.keys == []
    assert later.scopes is not None
    assert [tenant.id for tenant in later.scopes.tenants] == ["acme", "default"]
    await follower.close()


async def test_a_long_history_is_read_in_parts(store: Store) -> None:
    follower = store.follow(boot_clock)
    position = (await follower.begin_load()).position
    await store.bulk_insert([a_key() for _ in range(2300)], ACTOR)
    sizes = []
    more = True
    while more:
        delta = await follower.poll(position, live_id)
        assert isinstance(delta, Delta)
        sizes.append(len(delta.keys))
        position, more = delta.position, delta.more
    assert sizes == [1000, 1000, 300]
    await follower.close()


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (Position(10_000, "x"), "the change log stands at 1, before 10000"),
        (Position(1, "0123456789abcdef"), "change 1 is not the one that was read before"),
        (Position(0, ""), "change 0 is no longer in the log, or never was"),
    ],
    ids=["ahead of the counter", "another id", "no such row"],
)
async def test_another_history_asks_for_a_full_load(store: Store, shown: Position, why: str) -> None:
    follower = store.follow(boot_clock)
    assert await follower.poll(shown, live_id) == Reload(why)
    await follower.close()


async def test_a_load_is_one_snapshot_and_leaves_out_what_ended_long_ago(store: Store) -> None:
    day = 86_400_000
    live = a_key()
    lately = a_key(expires_at=now_ms() - 29 * day)
    long_ago = a_key(expires_at=now_ms() - 31 * day)
    revoked = a_key(revoked_at=now_ms() - 31 * day, revoked_by="ann")
    await store.bulk_insert([live, lately, long_ago, revoked], ACTOR)
    follower = store.follow(boot_clock)
    await follower.begin_load()
    later = a_key()
    await store.insert_key(later, audit_of(later))
    found = [key async for batch in follower.batches(live_id) for key in batch]
    assert set(found) == {live.id, lately.id}
    await follower.close()


async def test_a_load_that_begins_anew_reads_what_was_changed_since_the_last_one_began(store: Store) -> None:
    keys = [a_key(), a_key()]
    await store.bulk_insert(keys, ACTOR)
    follower = store.follow(boot_clock)
    before = (await follower.begin_load()).position
    await store.revoke_key(keys[1].id, now_ms(), "ann", audit("key.revoke", "key", keys[1].id))
    assert (await follower.begin_load()).position.number == before.number + 1
    rows = [row async for batch in follower.batches(lambda row: row) for row in batch]
    assert {row.id: row.revoked_at is not None for row in rows} == {keys[0].id: False, keys[1].id: True}
    await follower.close()


async def test_concurrent_inserts_number_without_gaps(store: Store) -> None:
    keys = [a_key() for _ in range(30)]
    made = await asyncio.gather(*(store.insert_key(key, audit_of(key)) for key in keys))
    assert sorted(key.number for key in made) == list(range(1, 31))


async def test_concurrent_writers_that_read_first_wait_for_one_another(store_url: str) -> None:
    stores = [open_store(store_url) for _ in range(4)]
    await stores[0].migrate()

    async def add(store: Store, name: str) -> None:
        for number in range(15):
            environment = Environment(
                id=f"{name}-{number}", tenant_id="default", prefix="qs_", created_at=1, updated_at=1
            )
            await store.insert_environment(environment, audit())

    await asyncio.gather(*(add(store, f"e{place}") for place, store in enumerate(stores)))
    assert len(await stores[0].environments()) == 60
    for store in stores:
        await store.close()


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreError):
        await store.keys()
    await store.close()


def test_a_key_record_never_shows_its_verifiers() -> None:
    key = a_key()
    assert key.digest is not None
    for text in (repr(key), str(key)):
        assert key.verifier not in text
        assert key.digest.hex() not in text
        assert repr(key.digest) not in text
