"""How a key table follows PostgreSQL: woken at once, by a server that proves something, whatever breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest

from gateway.keys.clock import boot_clock
from gateway.store import postgres_follow
from gateway.store.base import (
    ANSWER_S,
    Delta,
    Follower,
    LiveRow,
    LoadStart,
    Position,
    Store,
    StoreError,
    Unchanged,
)
from gateway.store.urls import open_store
from tests.faults.standby import Standby
from tests.postgres import Server
from tests.store.samples import ACTOR, a_key, audit_of

PATIENCE_S = 20.0


class Followed:
    """A store and a follower of it that has read everything there was at first."""

    def __init__(self, url: str, clock: Callable[[], float] = boot_clock, answer_s: float = ANSWER_S) -> None:
        self.store: Store = open_store(url)
        self.follower: Follower = self.store.follow(clock, answer_s)
        self.position = Position(0, "")

    async def begin(self) -> None:
        self.position = (await self.follower.begin_load()).position
        assert [batch async for batch in self.follower.batches(live_id)] == []
        assert await self.new_keys() == []

    async def make(self) -> str:
        key = a_key()
        return (await self.store.insert_key(key, audit_of(key))).id

    async def new_keys(self) -> list[str]:
        outcome = await self.follower.poll(self.position, live_id)
        if isinstance(outcome, Unchanged):
            return []
        assert isinstance(outcome, Delta)
        self.position = outcome.position
        return outcome.keys

    async def woken(self) -> bool:
        """Tell whether it was told to look again long before it would have looked by itself."""
        began = time.monotonic()
        await self.follower.changed(PATIENCE_S)
        return time.monotonic() - began < PATIENCE_S / 2

    async def refusal(self) -> str:
        with pytest.raises(StoreError) as refused:
            await self.follower.poll(self.position, live_id)
        return str(refused.value)

    async def close(self) -> None:
        await self.follower.close()
        await self.store.close()


def live_id(row: LiveRow) -> str:
    return row.id


@pytest.fixture
async def followed(postgres_url: str) -> AsyncIterator[Followed]:
    found = Followed(postgres_url)
    await found.begin()
    yield found
    await found.close()


@pytest.fixture
async def alone(lone_postgres: Server) -> AsyncIterator[Followed]:
    """A store on a server of its own, to be broken."""
    found = Followed(lone_postgres.migrated_database())
    await found.begin()
    yield found
    await found.close()


async def test_a_change_wakes_whoever_waits_for_one(followed: Followed) -> None:
    for _ in range(3):
        waiting = asyncio.create_task(followed.woken())
        await asyncio.sleep(0)
        made = await followed.make()
        assert await waiting
        assert await followed.new_keys() == [made]


async def test_a_change_between_reading_and_waiting_wakes_too(followed: Followed) -> None:
    made = await followed.make()
    assert await followed.woken()
    assert await followed.new_keys() == [made]


async def test_an_import_wakes_and_a_refused_change_does_not(followed: Followed) -> None:
    key = a_key()
    await followed.store.bulk_insert([key], ACTOR)
    assert await followed.woken()
    assert await followed.new_keys() == [key.id]
    with pytest.raises(ValueError, match="exists already"):
        await followed.store.insert_key(key, audit_of(key))
    await followed.follower.changed(0.1)
    assert await followed.new_keys() == []


async def test_without_a_change_waiting_ends_in_time(followed: Followed) -> None:
    await followed.follower.changed(0.05)
    assert await followed.new_keys() == []


async def test_changes_are_read_while_a_load_is_under_way(followed: Followed) -> None:
    before = [await followed.make() for _ in range(3)]
    start = await followed.follower.begin_load()
    later = await followed.make()
    followed.position = start.position
    assert await followed.new_keys() == [later]
    loaded = [key async for batch in followed.follower.batches(live_id) for key in batch]
    assert sorted(loaded) == sorted(before)


async def test_a_load_that_is_left_early_leaves_nothing_behind(
    followed: Followed, postgres_server: Server, postgres_url: str
) -> None:
    await followed.store.bulk_insert([a_key() for _ in range(2 * postgres_follow.LOAD_BATCH)], ACTOR)
    await followed.follower.begin_load()
    batches = followed.follower.batches(live_id)
    assert len(await anext(batches)) == postgres_follow.LOAD_BATCH
    await batches.aclose()
    open_ones = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{urlsplit(postgres_url).path[1:]}'"
        " AND state = 'idle in transaction'"
    )
    deadline = time.monotonic() + PATIENCE_S
    while postgres_server.sql(open_ones) != "0":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    with pytest.raises(StoreError, match="no load"):
        await anext(followed.follower.batches(live_id))


async def test_a_connection_that_the_server_ends_is_replaced_at_once(
    followed: Followed, postgres_server: Server, postgres_url: str
) -> None:
    name = urlsplit(postgres_url).path[1:]
    postgres_server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert await followed.woken()
    assert await followed.new_keys() == []
    made = await followed.make()
    assert await followed.woken()
    assert await followed.new_keys() == [made]


async def test_after_a_restart_of_the_server_it_is_followed_and_heard_again(
    alone: Followed, lone_postgres: Server
) -> None:
    lone_postgres.stop("immediate")
    assert "cannot be reached: connection refused" in await alone.refusal()
    lone_postgres.start()
    assert await alone.new_keys() == []
    made = await alone.make()
    while not (found := await alone.new_keys()):
        assert await alone.woken()
    assert found == [made]


async def test_a_frozen_server_is_a_failed_read_and_thawed_it_is_followed_again(
    lone_postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_follow, "STATEMENT_S", 0.8)
    followed = Followed(lone_postgres.migrated_database(), answer_s=0.7)
    await followed.begin()
    await followed.make()
    await followed.follower.begin_load()
    lone_postgres.freeze()
    assert "did not answer within 0.7 s" in await followed.refusal()
    assert "does not answer in time" in await followed.refusal()
    with pytest.raises(StoreError, match=r"did not answer within 0\.8 s"):
        await anext(followed.follower.batches(live_id))
    with pytest.raises(StoreError, match="does not answer in time"):
        await followed.follower.begin_load()
    lone_postgres.thaw()
    assert len(await followed.new_keys()) == 1
    await followed.close()


async def test_a_server_that_was_made_read_only_proves_nothing(
    alone: Followed, lone_postgres: Server
) -> None:
    lone_postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    lone_postgres.reload()

    async def read_on() -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:  # a session takes note of it at its next statement or so
            await alone.new_keys()

    with pytest.raises(StoreError, match="takes no writes"):
        await read_on()
    with pytest.raises(StoreError, match="takes no writes"):
        await alone.follower.begin_load()


async def test_a_standby_proves_nothing_and_of_several_hosts_the_primary_is_taken(
    lone_postgres: Server,
) -> None:
    url = lone_postgres.migrated_database()
    standby = Standby(lone_postgres)
    try:
        read = Followed(url.replace(f":{lone_postgres.port}/", f":{standby.port}/"))
        with pytest.raises(StoreError, match="takes no writes: it is a standby"):
            await read.follower.begin_load()
        with pytest.raises(StoreError, match="takes no writes: it is a standby"):
            await read.store.keys()
        await read.close()
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:9,127.0.0.1:{lone_postgres.port}"
        both = Followed(url.replace(f"127.0.0.1:{lone_postgres.port}", hosts))
        await both.begin()
        made = await both.make()
        assert await both.new_keys() == [made]
        # The standby takes over: what had been the primary is gone.
        standby.wait_in_step()
        lone_postgres.stop("immediate")
        standby.promote()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                made = await both.make()
                assert made in await both.new_keys()
                break
            except StoreError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        await both.close()
    finally:
        standby.close()


async def test_a_schema_of_another_program_version_is_not_read(
    followed: Followed, postgres_server: Server, postgres_url: str
) -> None:
    name = urlsplit(postgres_url).path[1:]
    newest = postgres_server.sql("SELECT max(version) FROM schema_migrations", name)
    for change, says in [
        ("UPDATE schema_migrations SET version = 9999 WHERE version = " + newest, "schema 9999, newer than"),
        ("DELETE FROM schema_migrations WHERE version = 9999", "older than this program's"),
        ("DELETE FROM schema_migrations", "is no gateway store (yet)"),
        ("DROP TABLE schema_migrations", "is no gateway store (yet)"),
    ]:
        postgres_server.sql(change, name)
        other = followed.store.follow(boot_clock)
        with pytest.raises(StoreError) as refused:
            await other.begin_load()
        assert says in str(refused.value)
        await other.close()


async def test_a_dump_that_is_being_restored_is_not_read_before_every_table_is_whole(
    followed: Followed, postgres_server: Server, postgres_url: str
) -> None:
    """Its users come last, and would be missing for ever: the change log says nothing of them."""
    database = postgres_url.rpartition("/")[2]
    postgres_server.sql("ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE", database)
    with pytest.raises(StoreError, match="is being restored"):
        await followed.follower.begin_load()
    postgres_server.sql("ALTER TABLE users ADD PRIMARY KEY (id)", database)
    await followed.follower.begin_load()


async def test_the_clocks_difference_is_taken_so_that_nothing_ends_late(postgres_url: str) -> None:
    asked: list[float] = []

    def clock() -> float:
        asked.append(time.time())
        return 1000.0

    found = Followed(postgres_url, clock)
    for read in (found.follower.begin_load, lambda: found.follower.poll(found.position, live_id)):
        start = await read()
        assert isinstance(start, LoadStart | Unchanged)
        # Test and server have one clock: the difference is that of an instant after ours was looked at.
        assert asked[-1] - 0.001 <= start.offset_s + 1000.0 <= time.time() + 0.001
        found.position = start.position if isinstance(start, LoadStart) else found.position
    await found.close()


async def test_an_answer_over_which_the_machine_slept_tells_no_time(postgres_url: str) -> None:
    """Keys would be taken for expired that end hours from now."""
    slept_s = 0.0

    def clock() -> float:
        return boot_clock() + slept_s

    found = Followed(postgres_url, clock)
    await found.begin()
    link = found.follower._asking  # type: ignore[attr-defined]
    rows = link.rows

    async def asleep(*args: object) -> object:
        nonlocal slept_s
        slept_s += 8 * 3600
        return await rows(*args)

    link.rows = asleep
    assert "stood still" in await found.refusal()
    assert isinstance(await found.follower.poll(found.position, live_id), Unchanged)
    await found.close()


async def test_a_follower_that_was_closed_says_so(followed: Followed) -> None:
    await followed.follower.close()
    assert "no longer followed" in await followed.refusal()
    await followed.follower.close()
