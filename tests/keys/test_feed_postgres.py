"""The feed over PostgreSQL: woken at once, dated by the server's clock, and quick to recover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.core.model import KeyTable
from gateway.keys.clock import boot_clock
from gateway.keys.feed import RETRY_S, Feed
from gateway.store.base import Store
from gateway.store.upkeep import keep_up
from gateway.store.urls import open_store
from tests.keys.test_feed import DIGESTER, added, is_revoked, knows, revoked, until
from tests.postgres import Server, database_name, migrated
from tests.store.samples import ACTOR, a_key

FAR_S = 60.0
"""A poll that no test lives to see: what arrives was announced."""


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[Store]:
    store = open_store(postgres_url)
    yield store
    await store.close()


@pytest.fixture
def table() -> KeyTable:
    return KeyTable()


@pytest.fixture
async def feed_of(table: KeyTable) -> AsyncIterator[Callable[..., Feed]]:
    made: list[Feed] = []

    def make(store: Store, **fields: object) -> Feed:
        made.append(Feed(store, table, DIGESTER, **fields))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for feed in made:
        await feed.stop()


async def test_changes_are_announced_and_measured_on_the_server_s_clock(
    store: Store, postgres_url: str, table: KeyTable, feed_of: Callable[..., Feed]
) -> None:
    propagations: list[float] = []
    feed = feed_of(store, poll_s=FAR_S, propagated=propagations.append)
    feed.start()
    await feed.synced.wait()
    other = open_store(postgres_url)
    for _ in range(3):
        key = await added(other)
        await until(lambda key=key: knows(table, key))  # type: ignore[misc]
        await revoked(other, key)
        await until(lambda key=key: is_revoked(table, key))  # type: ignore[misc]
    assert len(propagations) == 6
    assert max(propagations) < 1.0
    await other.close()


async def test_every_change_is_measured_not_the_newest_alone(
    store: Store, table: KeyTable, feed_of: Callable[..., Feed]
) -> None:
    propagations: list[float] = []
    feed = feed_of(store, propagated=propagations.append)
    await feed.sync()
    await store.bulk_insert([a_key() for _ in range(1500)], ACTOR)
    await feed.sync()
    assert len(propagations) == 1500
    assert len(table.by_digest) == 1500


async def test_a_silent_store_is_asked_by_the_poll(
    store: Store, table: KeyTable, feed_of: Callable[..., Feed]
) -> None:
    feed = feed_of(store, poll_s=0.1)
    feed.start()
    await feed.synced.wait()
    first, version = table.synced_at, table.version
    assert first is not None
    await until(lambda: (table.synced_at or 0) > first + 0.3, 5)
    assert table.version == version
    assert feed.loads == 1


async def test_a_load_goes_on_beside_a_revocation(
    store: Store, table: KeyTable, feed_of: Callable[..., Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load is held up by a hand that does not come back before the revocation is in effect."""
    monkeypatch.setattr("gateway.store.postgres_follow.LOAD_BATCH", 100)
    keys = [a_key() for _ in range(1000)]
    await store.bulk_insert(keys, ACTOR)
    feed = feed_of(store, poll_s=FAR_S)
    held = asyncio.Event()
    batches = feed._follower.batches

    async def slow(build):  # type: ignore[no-untyped-def]
        async for batch in batches(build):
            yield batch
            await held.wait()

    monkeypatch.setattr(feed._follower, "batches", slow)
    feed.start()
    await until(lambda: len(table.by_digest) == 100, 5)
    for key in (keys[0], keys[-1]):
        await revoked(store, key)
        await until(lambda key=key: knows(table, key) and is_revoked(table, key))  # type: ignore[misc]
    assert feed.loading
    held.set()
    await asyncio.wait_for(feed.synced.wait(), 5)
    assert len(table.by_digest) == 1000
    assert is_revoked(table, keys[0])
    assert is_revoked(table, keys[-1])


async def test_a_server_that_refuses_is_not_asked_again_and_again(
    store: Store, postgres_server: Server, postgres_url: str, feed_of: Callable[..., Feed]
) -> None:
    feed = feed_of(store, poll_s=FAR_S)
    feed.start()
    await feed.synced.wait()
    database = postgres_url.rpartition("/")[2]
    await asyncio.to_thread(postgres_server.sql, "ALTER TABLE api_keys OWNER TO postgres", database)
    await store.write(keep_up(0))
    await until(lambda: feed.failed_reads > 1, 5)
    failed, began = feed.failed_reads, boot_clock()
    await asyncio.sleep(3 * RETRY_S)
    assert feed.failed_reads - failed <= (boot_clock() - began) / RETRY_S + 1


async def test_a_server_that_restarts_is_followed_again_without_another_load(
    lone_postgres: Server, table: KeyTable, feed_of: Callable[..., Feed]
) -> None:
    store = open_store(migrated(lone_postgres.create_database("restarted")))
    feed = feed_of(store, poll_s=0.2)
    feed.start()
    await feed.synced.wait()
    key = await added(store)
    await until(lambda: knows(table, key))
    await asyncio.to_thread(lone_postgres.stop)
    await until(lambda: not feed.store_up, 5)
    assert table.outage
    assert knows(table, key)
    await asyncio.to_thread(lone_postgres.start)
    await until(lambda: feed.store_up, 10)
    assert not table.outage
    await revoked(store, key)
    await until(lambda: is_revoked(table, key))
    assert feed.loads == 1
    await store.close()


async def test_a_database_of_another_history_is_loaded_whole(
    postgres_server: Server, postgres_url: str, table: KeyTable, feed_of: Callable[..., Feed]
) -> None:
    """A backup takes the database's place, as a restore does: renamed, since connections name it."""
    name, backup = postgres_url.rpartition("/")[2], database_name()
    store = open_store(postgres_url)
    kept = await added(store)
    await store.close()
    postgres_server.create_database(backup, template=name)
    store = open_store(postgres_url)
    lost = await added(store)
    feed = feed_of(store, poll_s=0.2)
    feed.start()
    await feed.synced.wait()
    assert knows(table, lost)
    postgres_server.drop_database(name)
    postgres_server.sql(f'ALTER DATABASE "{backup}" RENAME TO "{name}"')
    await until(lambda: not knows(table, lost), 10)
    assert knows(table, kept)
    later = await added(store)
    await until(lambda: knows(table, later), 5)
    assert feed.loads == 2
    assert table.synced_at is not None
    assert boot_clock() - table.synced_at < 5
    await store.close()
