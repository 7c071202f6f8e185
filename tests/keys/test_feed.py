"""The table follows the store: through changes, outages, replaced files and other histories."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.core.model import KeyTable
from gateway.core.policy import KeyPolicy
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.keys.feed import Feed
from gateway.store.base import DAY_MS, Environment, KeyRecord, Store, StoreError
from gateway.store.peppers import tie_pepper
from gateway.store.urls import open_store
from tests.store.samples import ACTOR, a_key, a_tenant, audit, audit_of, now_ms, pepper_of

DIGESTER = Digester([b"a pepper for the tests of the feed"])
SOON_S = 1.0
"""How soon a change must be seen, and an outage be over."""


async def until(condition: Callable[[], bool], within_s: float = SOON_S) -> float:
    """Wait for a condition; return how long that took."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < within_s, f"not within {within_s} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def made(path: Path) -> Store:
    store = open_store(f"sqlite://{path}")
    await store.migrate()
    return store


async def added(store: Store, **fields: object) -> KeyRecord:
    key = a_key(**fields)
    return await store.insert_key(key, audit_of(key))


async def revoked(store: Store, key: KeyRecord) -> None:
    await store.revoke_key(key.id, now_ms(), "ann", audit("key.revoke", "key", key.id))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await made(path)
    yield store
    await store.close()


@pytest.fixture
def table() -> KeyTable:
    return KeyTable()


@pytest.fixture
def propagations() -> list[float]:
    """Return the times that the feed tells, in seconds from a commit to its visibility."""
    return []


@pytest.fixture
async def feed(store: Store, table: KeyTable, propagations: list[float]) -> AsyncIterator[Feed]:
    feed = Feed(store, table, DIGESTER, propagated=propagations.append)
    yield feed
    await feed.stop()


def knows(table: KeyTable, key: KeyRecord) -> bool:
    return key.digest in table.by_digest


def is_revoked(table: KeyTable, key: KeyRecord) -> bool:
    assert key.digest is not None
    return table.by_digest[key.digest].revoked_at is not None


async def test_the_first_load_brings_keys_tenants_and_prefixes(
    feed: Feed, store: Store, table: KeyTable
) -> None:
    await store.insert_environment(
        Environment(id="e", tenant_id="default", prefix="qs_live_", created_at=1, updated_at=1), audit()
    )
    key = await added(store)
    assert table.synced_at is None
    assert not feed.store_up
    before = boot_clock()
    feed.start()
    await asyncio.wait_for(feed.synced.wait(), SOON_S)
    assert knows(table, key)
    assert set(table.tenants) == {"default"}
    assert table.prefixes == (b"gw_live_", b"qs_live_")
    assert table.synced_at is not None
    assert before <= table.synced_at <= boot_clock()
    assert abs(table.store_offset_s + boot_clock() - time.time()) < 0.5
    assert feed.store_up
    assert feed.last_error is None


async def test_what_other_processes_do_is_seen_within_a_second(
    feed: Feed, store: Store, table: KeyTable, path: Path, propagations: list[float]
) -> None:
    other = await made(path)
    feed.start()
    await feed.synced.wait()
    for _ in range(3):
        key = await added(other)
        await until(lambda key=key: knows(table, key))  # type: ignore[misc]
        version = table.version
        await revoked(other, key)
        await until(lambda key=key: is_revoked(table, key))  # type: ignore[misc]
        assert table.version > version
    await store.insert_tenant(a_tenant("acme"), audit(kind="tenant", entity="acme"))
    await until(lambda: "acme" in table.tenants)
    off = audit(kind="tenant", entity="acme")
    await store.change_tenant("acme", {"api_keys_enabled": False}, now_ms(), off)
    await until(lambda: not table.tenants["acme"].api_keys_enabled)
    assert feed.loads == 1
    assert propagations
    assert max(propagations) < SOON_S
    await other.close()


@pytest.mark.parametrize("own", [None, True, False])
@pytest.mark.parametrize("default", [True, False])
async def test_tenants_that_say_nothing_follow_the_policy(
    store: Store, table: KeyTable, own: bool | None, default: bool
) -> None:
    await store.insert_tenant(a_tenant("acme", api_keys_enabled=own), audit(kind="tenant"))
    feed = Feed(store, table, DIGESTER, policy=KeyPolicy(api_keys_enabled=default))
    await feed.sync()
    assert table.tenants["acme"].api_keys_enabled is (default if own is None else own)
    await feed.stop()


async def test_a_quiet_store_keeps_the_table_young_and_unchanged(feed: Feed, table: KeyTable) -> None:
    await feed.sync()
    first, version = table.synced_at, table.version
    await feed.sync()
    assert first is not None
    assert table.synced_at is not None
    assert table.synced_at > first
    assert table.version == version


@pytest.mark.parametrize("what", ["poll", "begin_load"])
async def test_the_age_counts_from_the_start_of_the_read(
    store: Store, table: KeyTable, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    now = [100.0]
    feed = Feed(store, table, DIGESTER, clock=lambda: now[0])
    if what == "poll":
        await feed.sync()
    read = getattr(feed._follower, what)

    async def slow(*args: object) -> object:
        found = await read(*args)
        now[0] += 7
        return found

    began = now[0]
    monkeypatch.setattr(feed._follower, what, slow)
    if what == "begin_load":
        # A log without its newest row: there is nothing to ask for changes with, so the load alone counts.
        with sqlite3.connect(store.location) as connection:
            connection.execute("DELETE FROM changes")
        connection.close()
    await feed.sync()
    assert table.synced_at == began
    await feed.stop()


async def test_an_outage_is_told_once_and_ages_the_table(
    feed: Feed, store: Store, table: KeyTable, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = await added(store)
    feed.start()
    await feed.synced.wait()
    shutil.move(path, path.with_suffix(".away"))
    await until(lambda: not feed.store_up)
    failed = feed.failed_reads
    synced = table.synced_at
    await until(lambda: feed.failed_reads > failed + 1, within_s=3)
    assert table.synced_at == synced
    assert knows(table, key)
    assert feed.last_error is not None
    assert "cannot be found" in feed.last_error
    shutil.move(path.with_suffix(".away"), path)
    await until(lambda: feed.store_up)
    assert feed.last_error is None
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1


async def test_an_exclusive_lock_is_a_failed_read_that_ends_with_the_lock(
    feed: Feed, store: Store, table: KeyTable, path: Path
) -> None:
    await feed.sync()
    await feed.stop()
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("PRAGMA locking_mode = EXCLUSIVE")
    lock.execute("BEGIN EXCLUSIVE")
    lock.execute("CREATE TABLE scratch (x)")
    lock.execute("COMMIT")
    locked = Feed(store, table, DIGESTER)
    with pytest.raises(StoreError, match="locked by another process"):
        await locked.sync()
    lock.close()
    await locked.sync()
    assert locked.store_up
    await locked.stop()


async def test_another_file_at_the_path_is_opened_and_loaded(
    feed: Feed, store: Store, table: KeyTable, path: Path, tmp_path: Path
) -> None:
    old = await added(store)
    feed.start()
    await feed.synced.wait()
    other = await made(tmp_path / "other" / "gateway.db")
    new = await added(other)
    await other.close()
    os.replace(tmp_path / "other" / "gateway.db", path)
    await until(lambda: knows(table, new) and not knows(table, old))
    later = await added(store)
    await until(lambda: knows(table, later))
    assert feed.store_up
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT id FROM api_keys ORDER BY number").fetchall() == [
            (new.id,),
            (later.id,),
        ]
    connection.close()


async def test_a_missing_file_fails_reads_until_a_file_is_back(
    feed: Feed, store: Store, table: KeyTable, path: Path
) -> None:
    key = await added(store)
    feed.start()
    await feed.synced.wait()
    backup = path.with_suffix(".backup")
    shutil.copy(path, backup)
    path.unlink()
    await until(lambda: not feed.store_up)
    assert knows(table, key)
    os.replace(backup, path)
    await until(lambda: feed.store_up)
    assert knows(table, key)
    later = await added(store)
    await until(lambda: knows(table, later))


@pytest.mark.parametrize("how", ["renamed into place", "copied over", "by SQLite's own backup"])
async def test_a_restored_backup_is_another_history(
    feed: Feed, store: Store, table: KeyTable, path: Path, how: str
) -> None:
    kept = await added(store)
    backup = path.with_suffix(".backup")
    shutil.copy(path, backup)
    lost = await added(store)
    feed.start()
    await feed.synced.wait()
    assert knows(table, lost)
    if how == "renamed into place":
        os.replace(backup, path)
    elif how == "copied over":
        shutil.copy(backup, path)
    else:
        source, target = sqlite3.connect(backup), sqlite3.connect(path)
        source.backup(target)
        source.close()
        target.close()
    await until(lambda: not knows(table, lost))
    assert knows(table, kept)
    # The same number, another id: what is made now must not pass for what was lost.
    made_now = await added(store)
    await until(lambda: knows(table, made_now))
    assert not knows(table, lost)


async def test_a_restored_backup_that_grew_past_the_old_position_is_noticed(
    feed: Feed, store: Store, table: KeyTable, path: Path
) -> None:
    backup = path.with_suffix(".backup")
    shutil.copy(path, backup)
    lost = await added(store)
    await feed.sync()
    os.replace(backup, path)
    grown = [await added(store) for _ in range(3)]
    await feed.sync()
    assert not knows(table, lost)
    assert all(knows(table, key) for key in grown)
    assert feed.loads == 2


async def test_an_empty_or_foreign_file_is_a_failed_read_and_sweeps_nothing(
    feed: Feed, store: Store, table: KeyTable, path: Path
) -> None:
    key = await added(store)
    await feed.sync()
    for content in (b"", b"not a database, certainly" * 200):
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(StoreError):
            await feed.sync()
        assert knows(table, key)
        assert not feed.store_up


async def test_a_store_of_another_pepper_is_a_failed_read_and_sweeps_nothing(
    feed: Feed, store: Store, table: KeyTable, path: Path, tmp_path: Path
) -> None:
    key = await added(store)
    await store.write(tie_pepper(pepper_of(DIGESTER)))
    await feed.sync()
    other = await made(tmp_path / "other.db")
    await other.write(tie_pepper(pepper_of(Digester([b"another pepper for the tests of the feed"]))))
    await other.close()
    os.replace(tmp_path / "other.db", path)
    for _ in range(2):
        with pytest.raises(StoreError, match="another pepper"):
            await feed.sync()
    assert knows(table, key)


async def test_a_load_that_breaks_off_keeps_the_old_keys(
    feed: Feed, store: Store, table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.sqlite_follow.LOAD_BATCH", 2)
    keys = [await added(store) for _ in range(6)]
    await feed.sync()
    synced = table.synced_at
    with sqlite3.connect(store.location) as connection:
        connection.execute("DELETE FROM changes WHERE number = 7")
    connection.close()
    monkeypatch.setattr(feed._follower, "_next_batch", _broken(feed._follower._next_batch, after=1))  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        await feed.sync()
    assert all(knows(table, key) for key in keys)
    assert table.synced_at == synced
    monkeypatch.undo()
    await feed.sync()
    assert all(knows(table, key) for key in keys)
    assert feed.store_up


def _broken(work: Callable[..., object], after: int) -> Callable[..., object]:
    calls = 0

    def run(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls > after:
            raise StoreError("the disk is gone")
        return work(*args)

    return run


async def test_known_keys_are_served_all_through_a_full_load(
    feed: Feed, store: Store, table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.sqlite_follow.LOAD_BATCH", 100)
    keys = [a_key() for _ in range(3000)]
    await store.bulk_insert(keys, ACTOR)
    await feed.sync()
    by_digest = table.by_digest
    with sqlite3.connect(store.location) as connection:
        connection.execute("UPDATE changes SET id = 'other' WHERE number = (SELECT MAX(number) FROM changes)")
    connection.close()
    reload = asyncio.create_task(feed.sync())
    looks = 0
    while not reload.done():
        assert all(key.digest in table.by_digest for key in keys[::50])
        looks += 1
        await asyncio.sleep(0)
    await reload
    assert looks > 10
    assert feed.loads == 2
    assert table.by_digest is by_digest
    assert {key.load for key in table.by_digest.values()} == {2}


async def test_keys_that_ended_stay_known_for_thirty_days(feed: Feed, store: Store, table: KeyTable) -> None:
    lately = await added(store, expires_at=now_ms() - 29 * DAY_MS)
    long_ago = await added(store, expires_at=now_ms() - 31 * DAY_MS)
    await feed.sync()
    assert knows(table, lately)
    assert not knows(table, long_ago)


async def test_what_ended_long_ago_is_swept_while_running(
    feed: Feed, store: Store, table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    await feed.sync()
    ended = await added(store, expires_at=now_ms() - 31 * DAY_MS)
    live = await added(store)
    await feed.sync()
    assert knows(table, ended)
    monkeypatch.setattr("gateway.keys.feed.SWEEP_INTERVAL_S", 0.0)
    feed.start()
    await until(lambda: not knows(table, ended))
    assert knows(table, live)


async def test_a_wall_clock_set_back_revives_no_expired_key_and_is_followed_in_time(
    store: Store, table: KeyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot, wall = [1000.0], [time.time()]
    monkeypatch.setattr("gateway.store.sqlite_follow.time.time", lambda: wall[0])
    feed = Feed(store, table, DIGESTER, clock=lambda: boot[0])
    await feed.sync()

    def store_now() -> float:
        return table.store_offset_s + boot[0]

    async def pass_time(seconds: float) -> None:
        boot[0] += seconds
        wall[0] += seconds
        await feed.sync()

    latest = store_now()
    assert latest == pytest.approx(wall[0])
    wall[0] -= 60
    for _ in range(61):
        await pass_time(2)
        assert store_now() > latest + 0.9, "it never stands still, nor goes back"
        latest = store_now()
    assert latest == pytest.approx(wall[0], abs=0.01), "what is wrong is not wrong for ever"
    wall[0] += 3600
    await pass_time(2)
    assert store_now() == pytest.approx(wall[0], abs=0.01), "keys end at once that have ended meanwhile"
    await feed.stop()


async def test_a_fault_of_our_own_does_not_end_the_feed(
    feed: Feed,
    store: Store,
    table: KeyTable,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed.start()
    await feed.synced.wait()
    with monkeypatch.context() as patch:
        patch.setattr(feed, "_catch_up", _raises)
        await until(lambda: not feed.store_up)
        assert feed.last_error == "internal error: ZeroDivisionError"
    key = await added(store)
    await until(lambda: knows(table, key))
    assert feed.store_up


async def _raises() -> None:
    raise ZeroDivisionError


async def test_stopping_in_the_middle_of_a_load_is_clean_and_can_be_done_twice(
    feed: Feed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.sqlite_follow.LOAD_BATCH", 10)
    await store.bulk_insert([a_key() for _ in range(3000)], ACTOR)
    feed.start()
    await until(lambda: feed.loads == 1)
    await feed.stop()
    await feed.stop()
    assert not feed.synced.is_set()
