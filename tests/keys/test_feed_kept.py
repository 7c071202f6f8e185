"""The feed falls back on a kept table where none was ever read, and goes on from where that stands."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app.keeping import _make_up
from gateway.core.model import Freshness, KeyTable
from gateway.keys.feed import Feed
from gateway.keys.keeper import Keeper
from gateway.keys.restoring import KeptPlace
from gateway.store.base import KeyRecord, Store, StoreError
from gateway.store.peppers import tie_pepper
from gateway.store.urls import open_store
from tests.keys.test_feed import DIGESTER, added, is_revoked, knows, made, revoked, until
from tests.store.samples import pepper_of

PEPPER = "a pepper for the tests of the feed"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    store = await made(path)
    await store.write(tie_pepper(pepper_of(DIGESTER)))
    yield store
    await store.close()


@pytest.fixture
def place(tmp_path: Path) -> KeptPlace:
    return KeptPlace(tmp_path / "table", DIGESTER, Freshness())


@pytest.fixture
async def key(store: Store, place: KeptPlace) -> KeyRecord:
    """A key of the table that was kept."""
    key = await added(store)
    feed = Feed(store, KeyTable(), DIGESTER)
    await feed.sync()
    keeper = Keeper(place, feed.replica)
    await keeper.turn()
    await keeper.stop()
    await feed.stop()
    return key


@pytest.fixture
def table() -> KeyTable:
    return KeyTable()


@pytest.fixture
async def feed(store: Store, table: KeyTable, place: KeptPlace) -> AsyncIterator[Feed]:
    feed = Feed(store, table, DIGESTER, kept=place.usable)
    yield feed
    await feed.stop()


async def test_a_store_that_was_lost_before_its_first_reading_is_made_up_for(
    key: KeyRecord, feed: Feed, table: KeyTable, store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.move(path, path.with_suffix(".away"))
    feed.start()
    await asyncio.wait_for(feed.synced.wait(), 5)
    assert knows(table, key)
    assert feed.from_kept
    assert table.outage
    loads = feed.loads  # the first was tried
    assert [line for line in caplog.messages if line.startswith("serving from the kept table, ")]
    shutil.move(path.with_suffix(".away"), path)
    await until(lambda: feed.store_up, 5)
    assert not feed.from_kept
    new = await added(store)
    await revoked(store, key)
    await until(lambda: knows(table, new) and is_revoked(table, key), 5)
    assert feed.loads == loads, "what followed was read, not all anew"


async def test_a_table_of_another_history_is_read_anew(
    key: KeyRecord, feed: Feed, table: KeyTable, path: Path, tmp_path: Path
) -> None:
    shutil.move(path, path.with_suffix(".away"))
    feed.start()
    await asyncio.wait_for(feed.synced.wait(), 5)
    other = await made(tmp_path / "other.db")
    await other.write(tie_pepper(pepper_of(DIGESTER)))
    theirs = await added(other)
    await other.close()
    shutil.move(tmp_path / "other.db", path)
    await until(lambda: feed.store_up and knows(table, theirs) and not feed.loading, 5)
    assert not knows(table, key)


async def test_a_store_that_can_be_read_is_read(
    key: KeyRecord, feed: Feed, table: KeyTable, store: Store
) -> None:
    await revoked(store, key)
    feed.start()
    await asyncio.wait_for(feed.synced.wait(), 5)
    assert is_revoked(table, key)
    assert not feed.from_kept
    assert feed.loads == 1


async def test_what_was_read_once_is_not_replaced_by_what_was_kept(
    key: KeyRecord, feed: Feed, table: KeyTable, store: Store, path: Path
) -> None:
    await revoked(store, key)
    feed.start()
    await asyncio.wait_for(feed.synced.wait(), 5)
    shutil.move(path, path.with_suffix(".away"))
    failed = feed.failed_reads
    await until(lambda: feed.failed_reads > failed + 1, 10)
    assert is_revoked(table, key)
    assert not feed.from_kept


async def test_a_kept_table_takes_the_place_of_half_a_load(
    key: KeyRecord, feed: Feed, table: KeyTable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a cut load leaves behind is not taken for read, and nothing mixes with one that goes on."""
    late = await added(store)
    await revoked(store, key)
    follower, half, cut_now = feed._follower, asyncio.Event(), asyncio.Event()
    batches = follower.batches

    async def broken(build):  # type: ignore[no-untyped-def]
        async with contextlib.aclosing(batches(build)) as whole:
            async for batch in whole:
                yield batch[:1]
                half.set()
                await cut_now.wait()
                raise StoreError("the line is cut")

    async def no_more(*_: object) -> object:
        raise StoreError("the line is cut")

    with monkeypatch.context() as cut:
        cut.setattr(follower, "batches", broken)
        cut.setattr(follower, "poll", no_more)
        feed.start()
        await asyncio.wait_for(half.wait(), 5)
        await until(lambda: feed.failed_reads > 0, 5)
        assert feed.loading
        assert not feed.from_kept
        cut_now.set()
        await asyncio.wait_for(feed.synced.wait(), 10)
        assert feed.from_kept
        assert knows(table, key)
        assert not is_revoked(table, key), "the table is as it was kept"
    await until(lambda: is_revoked(table, key) and knows(table, late), 10)


async def test_where_changes_can_be_read_but_not_all_keys_it_goes_on_from_what_was_kept(
    key: KeyRecord, feed: Feed, table: KeyTable, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(build):  # type: ignore[no-untyped-def]
        raise StoreError("a page is damaged")
        yield

    monkeypatch.setattr(feed._follower, "batches", damaged)
    late = await added(store)
    feed.start()
    await until(lambda: knows(table, key) and knows(table, late) and feed.store_up, 5)
    assert not feed.from_kept


async def test_what_is_made_up_for_never_makes_a_store(tmp_path: Path) -> None:
    missing = tmp_path / "gateway.db"
    store = open_store(f"sqlite://{missing}")
    with pytest.raises(StoreError, match="cannot be found"):
        await _make_up(store, pepper=PEPPER, pepper_file=None)
    assert not missing.exists()
    await store.close()


async def test_a_store_of_another_pepper_stays_out(store: Store) -> None:
    await _make_up(store, pepper=PEPPER, pepper_file=None)
    with pytest.raises(StoreError, match="is not the one that the keys"):
        await _make_up(store, pepper="another pepper, just as long as the first", pepper_file=None)


async def test_what_has_to_come_before_reading_is_tried_until_it_succeeds(
    key: KeyRecord, store: Store, table: KeyTable, place: KeptPlace
) -> None:
    tries = 0

    async def prepare() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreError("not yet")

    feed = Feed(store, table, DIGESTER, prepare=prepare, poll_s=0.1)
    feed.restore(await place.read())
    feed.start()
    await until(lambda: feed.failed_reads == 2, 5)
    assert feed.from_kept
    assert feed.last_error == "not yet"
    await until(lambda: feed.store_up, 5)
    assert tries == 3
    await feed.stop()
