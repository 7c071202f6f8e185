"""A full load beside changes: whatever the order in which they arrive, the table ends as the store is.

The store, its follower and the feed are the real ones; a gate in between lets a read of changes and a
batch of the load through one at a time, in an order that is made up.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import KeyTable, LiveKey
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.keys.feed import Feed
from gateway.keys.table import EntryBuilder, TableWriter
from gateway.store.base import Follower, KeyRecord, LoadStart, Position, Store, StoreError
from gateway.store.operations import change_key
from gateway.store.upkeep import keep_up
from gateway.store.urls import open_store
from tests.keys.test_table import a_row
from tests.store.samples import a_key, audit, audit_of, now_ms

DIGESTER = Digester([b"a pepper for the tests of merging.."])
FIRST_KEYS = 7
BATCH = 2

STEPS = st.lists(
    st.one_of(
        st.sampled_from(["poll", "poll", "batch", "batch", "create", "forget", "trim", "break"]),
        st.tuples(st.sampled_from(["revoke", "describe", "lose"]), st.integers(0, FIRST_KEYS + 3)),
    ),
    max_size=24,
)


class Gate:
    """A follower that waits to be told before it lets anything through."""

    def __init__(self, inner: Follower) -> None:
        self.inner = inner
        self.at_rest = asyncio.Event()
        self.broken = False
        self.between_batches = asyncio.Event()
        self._turns = asyncio.Semaphore(0)
        self._batches = asyncio.Semaphore(0)

    async def changed(self, within_s: float) -> None:
        self.at_rest.set()
        await self._turns.acquire()

    async def poll(self, position: Position, build: Callable[..., Any]) -> Any:
        return await self.inner.poll(position, build)

    async def begin_load(self) -> LoadStart:
        return await self.inner.begin_load()

    async def batches(self, build: Callable[..., Any]) -> AsyncGenerator[list[Any], None]:
        async with contextlib.aclosing(self.inner.batches(build)) as batches:
            async for batch in batches:
                self.between_batches.set()
                await self._batches.acquire()
                self.between_batches.clear()
                if self.broken:
                    self.broken = False
                    raise StoreError("the line broke")
                yield batch

    async def close(self) -> None:
        await self.inner.close()

    async def let_poll(self) -> None:
        """Let the feed take one turn and wait for its end."""
        self.at_rest.clear()
        self._turns.release()
        await self.at_rest.wait()

    async def let_batch(self, feed: Feed) -> None:
        """Let one batch of the load through, if one is under way, and wait until it is in the table."""
        if not feed.loading:
            return
        await self.between_batches.wait()
        self.between_batches.clear()
        self._batches.release()
        while feed.loading and not self.between_batches.is_set():
            await asyncio.sleep(0)


class GatedStore:
    """As much of a store as a feed needs."""

    def __init__(self, store: Store) -> None:
        self.gate = Gate(store.follow(boot_clock))
        self.location = store.location

    def follow(self, boot_clock: Callable[[], float], answer_s: float) -> Gate:
        return self.gate


class World:
    """One store, one feed at the gate, and what has been seen of each key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = open_store(f"sqlite://{path}")
        gated = GatedStore(self.store)
        self.gate = gated.gate
        self.table = KeyTable()
        self.feed = Feed(gated, self.table, DIGESTER)  # type: ignore[arg-type]
        self.keys: list[KeyRecord] = []
        self.lost: set[str] = set()
        self.seen_dead: set[bytes] = set()

    async def create(self) -> None:
        key = a_key()
        self.keys.append(await self.store.insert_key(key, audit_of(key)))

    async def take(self, step: Any) -> None:
        if step == "poll":
            await self.gate.let_poll()
        elif step == "batch":
            await self.gate.let_batch(self.feed)
        elif step == "create":
            await self.create()
        elif step == "forget":
            self.forget_history()
        elif step == "trim":
            await self.store.write(keep_up(every_ms=0, kept_ms=-1))
        elif step == "break":
            self.gate.broken = self.feed.loading
        else:
            what, place = step
            key = self.keys[place % len(self.keys)]
            if what == "lose":
                self.lose(key)
            elif key.id in self.lost:
                pass
            elif what == "revoke":
                await self.store.revoke_key(key.id, now_ms(), "ann", audit("key.revoke", "key", key.id))
            else:
                await self.store.write(change_key(key.id, "d", now_ms(), audit("key.x", "key", key.id)))

    def lose(self, key: KeyRecord) -> None:
        """Have the store be a backup of before a key was made."""
        self.lost.add(key.id)
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DELETE FROM api_keys WHERE id = ?", (key.id,))
        self.forget_history()

    def forget_history(self) -> None:
        """Make the log one that the feed does not know, though the keys are what they were."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE changes SET id = hex(randomblob(8))")

    def look(self) -> None:
        """See which keys are dead, and that none of them has come to life again."""
        dead = {d for d, key in self.table.by_digest.items() if key.revoked_at is not None}
        risen = (self.seen_dead - dead) & self.table.by_digest.keys()
        assert not risen, "a revoked key is alive again"
        self.seen_dead |= dead

    async def expected(self) -> dict[bytes, LiveKey]:
        follower = self.store.follow(boot_clock)
        await follower.begin_load()
        build = EntryBuilder()
        found = [entry async for batch in follower.batches(build) for entry in batch]
        await follower.close()
        return dict(entry for entry in found if isinstance(entry, tuple))


@contextlib.asynccontextmanager
async def world_of(path: Path) -> AsyncIterator[World]:
    world = World(path)
    for _ in range(FIRST_KEYS):
        await world.create()
    world.feed.start()
    await world.gate.at_rest.wait()
    yield world
    await world.feed.stop()
    await world.store.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store without keys, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "gateway.db"

    async def make() -> None:
        store = open_store(f"sqlite://{path}")
        await store.migrate()
        await store.close()

    asyncio.run(make())
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.sqlite_follow.LOAD_BATCH", BATCH)
    monkeypatch.setattr("gateway.keys.feed.GATHER_S", 0.0)


async def replay(empty: Path, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(shutil.copy(empty, directory))
        async with world_of(path) as world:
            for step in steps:
                synced_at = world.table.synced_at
                await world.take(step)
                world.look()
                if step not in ("poll", "batch"):
                    assert world.table.synced_at == synced_at, "nothing was read"
            world.gate.broken = False
            for _ in range(2):
                while world.feed.loading:
                    await world.gate.let_batch(world.feed)
                    world.look()
                await world.gate.let_poll()
                world.look()
            while world.feed.loading:
                await world.gate.let_batch(world.feed)
                world.look()
            table = {
                digest: msgspec.structs.replace(key, load=0) for digest, key in world.table.by_digest.items()
            }
            assert table == await world.expected()
            assert world.feed.store_up


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(steps=STEPS)
def test_any_order_of_changes_and_batches_ends_as_the_store_is(empty: Path, steps: list[Any]) -> None:
    asyncio.run(replay(empty, steps))


def test_a_revocation_is_in_effect_while_the_load_is_under_way_and_survives_it(empty: Path) -> None:
    async def scenario(path: Path) -> None:
        async with world_of(path) as world:
            for place in range(FIRST_KEYS):
                await world.take(("revoke", place))
            assert world.table.by_digest == {}
            await world.take("poll")
            assert len(world.table.by_digest) == FIRST_KEYS, "before a single batch has come"
            assert world.table.synced_at is None, "and yet the table is not whole"
            while world.feed.loading:
                await world.take("batch")
            assert all(key.revoked_at is not None for key in world.table.by_digest.values())
            assert world.table.synced_at is not None

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(shutil.copy(empty, directory))))


def test_while_everything_is_read_again_the_table_ages_and_knows_what_it_knew(empty: Path) -> None:
    async def scenario(path: Path) -> None:
        async with world_of(path) as world:
            while world.feed.loading:
                await world.take("batch")
            await world.take("poll")
            before = world.table.synced_at
            await world.take(("lose", 0))
            await world.take("create")
            await world.take("poll")
            assert world.feed.loading
            await world.take("create")
            for _ in range(2):
                await world.take("poll")
                assert world.keys[-1].digest in world.table.by_digest, "what is new is known at once"
                assert world.keys[0].digest in world.table.by_digest, "what was known is, by the age rule"
                assert world.table.synced_at == before, "no read proves a table that is not whole"
                await world.take("batch")
            while world.feed.loading:
                await world.take("batch")
            assert world.keys[0].digest not in world.table.by_digest
            assert before is not None
            assert world.table.synced_at is not None
            assert world.table.synced_at > before

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(shutil.copy(empty, directory))))


def test_a_load_that_takes_long_is_as_young_as_the_last_read_of_changes_beside_it(empty: Path) -> None:
    """A store may be so slow that a load outlasts the bound: what it brings is no older for it."""

    async def scenario(path: Path) -> None:
        async with world_of(path) as world:
            for _ in range(3):
                await world.take("batch")
                began = boot_clock()
                await world.take("poll")
            assert world.feed.loading
            assert world.table.synced_at is None
            while world.feed.loading:
                await world.take("batch")
            assert world.table.synced_at is not None
            assert began <= world.table.synced_at <= boot_clock()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(shutil.copy(empty, directory))))


def test_a_load_that_breaks_begins_again_while_changes_go_on(empty: Path) -> None:
    async def scenario(path: Path) -> None:
        async with world_of(path) as world:
            await world.take("batch")
            await world.take("break")
            await world.take("batch")
            assert not world.feed.loading
            assert world.feed.last_error == "the line broke"
            assert world.table.synced_at is None
            await world.take(("revoke", 0))
            await world.take("poll")
            assert world.feed.loads == 2
            assert not world.feed.store_up, "not before it is whole"
            assert world.table.by_digest[world.keys[0].digest or b""].revoked_at is not None
            while world.feed.loading:
                await world.take("batch")
            world.look()
            assert world.feed.store_up
            assert world.feed.last_error is None
            assert len(world.table.by_digest) == FIRST_KEYS

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(shutil.copy(empty, directory))))


async def test_a_key_that_was_dropped_is_not_brought_back_by_an_older_load() -> None:
    table = KeyTable()
    writer = TableWriter(table)
    build = EntryBuilder()
    build.load = 1
    writer.begin_load(1)
    entry = build(a_row())
    writer.apply_keys([entry])
    writer.drop_keys([b"d" * 32])
    writer.apply_loaded([entry])
    assert table.by_digest == {}
    await writer.sweep_unseen(1)
    writer.begin_load(2)
    build.load = 2
    writer.apply_loaded([build(a_row())])
    assert len(table.by_digest) == 1, "the next load knows nothing of it"
