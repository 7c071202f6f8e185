"""Digests of keys that were seen come back to the store: in time, in batches, and at nobody's expense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.core.model import ColdKey, LiveKey
from gateway.core.tokens import Digester
from gateway.keys import digests as module
from gateway.keys.digests import BATCH, WAITING_MAX, DigestWriter
from gateway.keys.table import EntryBuilder, OddEntry
from gateway.store.base import KeyRecord, Store, StoreError
from gateway.store.peppers import begin_rotation, tie_pepper
from gateway.store.urls import open_store
from tests.keys.test_table import a_row
from tests.store.samples import ACTOR, a_key, audit, audit_of, pepper_of

OLD, NEW = b"an old pepper of well over 32 bytes", b"a new pepper of well over 32 bytes"
ONE, BOTH = Digester([OLD]), Digester([NEW, OLD])


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    await store.write(tie_pepper(pepper_of(ONE)))
    yield store
    await store.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.01)
    monkeypatch.setattr(module, "RETRY_S", 0.05)


async def rotate(store: Store) -> None:
    newer = pepper_of(BOTH)
    await store.write(begin_rotation(newer, lambda _: None, audit(kind="pepper", entity=newer.id)))


async def made(store: Store, token: bytes, **fields: object) -> KeyRecord:
    record = a_key(**({"digest": ONE.digest(token), "pepper_id": ONE.pepper_ids[0]} | fields))
    return await store.insert_key(record, audit_of(record))


async def cold(store: Store, token: bytes) -> tuple[KeyRecord, ColdKey]:
    record = await made(store, token, digest=None, pepper_id=None)
    return record, ColdKey(live(record), record.locator.encode(), record.verifier)


def live(record: KeyRecord) -> LiveKey:
    entry = EntryBuilder()(a_row(id=record.id))
    assert not isinstance(entry, OddEntry)
    return entry[1]


def see(writer: DigestWriter, record: KeyRecord, token: bytes) -> None:
    writer.found_older(live(record), token, ONE.digest(token))


async def kept(store: Store, record: KeyRecord) -> tuple[bytes | None, bytes | None]:
    found = await store.key(record.id)
    assert found is not None
    return found.digest, found.older_digest


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_proven_key_is_written_under_the_pepper_in_use(store: Store) -> None:
    record, key = await cold(store, b"a")
    writer = DigestWriter(store, BOTH)
    writer.proven(key, b"a")
    assert await writer.write()
    assert await kept(store, record) == (ONE.digest(b"a"), None)


async def test_a_key_under_an_older_pepper_is_written_once_a_rotation_has_begun(store: Store) -> None:
    record = await made(store, b"a")
    told: list[bool] = []
    writer = DigestWriter(store, BOTH, rotated=lambda: told.append(True))
    see(writer, record, b"a")
    assert await writer.write()
    assert await kept(store, record) == (ONE.digest(b"a"), None)
    assert told == []
    await rotate(store)
    assert await writer.write()
    assert told == [True], "whoever remembers what was found before has to find it again"
    see(writer, record, b"a")
    assert await writer.write()
    assert await kept(store, record) == (BOTH.digest(b"a"), ONE.digest(b"a"))


async def test_nothing_is_asked_of_the_store_while_nothing_was_seen(store: Store) -> None:
    writer = DigestWriter(store, BOTH)
    await store.close()
    assert await writer.write(), "a closed store would have been an error"


async def test_many_keys_take_several_short_transactions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rotate(store)
    tokens = [b"%d" % n for n in range(2 * BATCH + 1)]
    records = [
        a_key(digest=ONE.digest(token), pepper_id=ONE.pepper_ids[0], locator=f"l{n}")
        for n, token in enumerate(tokens)
    ]
    await store.bulk_insert(records, ACTOR)
    writer = DigestWriter(store, BOTH)
    see(writer, records[0], tokens[0])
    await writer.write()
    sizes: list[int] = []
    whole = module.keep_digests
    monkeypatch.setattr(module, "keep_digests", lambda found: (sizes.append(len(found)), whole(found))[1])
    for record, token in zip(records, tokens, strict=True):
        see(writer, record, token)
    assert await writer.write()
    assert sizes == [BATCH, BATCH, 1]
    assert {(await kept(store, record))[0] for record in records} == {BOTH.digest(token) for token in tokens}


@pytest.mark.usefixtures("quick")
async def test_what_a_store_that_is_out_did_not_take_is_written_later_and_said_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record, key = await cold(store, b"a")
    tries: list[int] = []
    write = store.write

    async def out(work, *, alone: bool = True):  # type: ignore[no-untyped-def]
        tries.append(1)
        work.close()
        raise StoreError("the store is out")

    monkeypatch.setattr(store, "write", out)
    writer = DigestWriter(store, BOTH)
    writer.proven(key, b"a")
    writer.start()
    await until(lambda: len(tries) >= 3)
    assert caplog.text.count("cannot be written back, and are kept for later: the store is out") == 1
    monkeypatch.setattr(store, "write", write)
    async with asyncio.timeout(5):
        while (await kept(store, record))[0] is None:
            await asyncio.sleep(0.01)
    await writer.stop()


async def test_what_waits_at_the_end_is_written_then(store: Store) -> None:
    record, key = await cold(store, b"a")
    writer = DigestWriter(store, BOTH)
    writer.start()
    writer.proven(key, b"a")
    await writer.stop()
    await writer.stop()
    assert (await kept(store, record))[0] == ONE.digest(b"a")


@pytest.mark.usefixtures("quick")
async def test_a_fault_of_ours_is_logged_and_ends_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (_, first), (record, second) = await cold(store, b"a"), await cold(store, b"b")
    whole = module.keep_digests
    monkeypatch.setattr(module, "keep_digests", lambda _: 1 / 0)
    writer = DigestWriter(store, BOTH)
    writer.start()
    writer.proven(first, b"a")
    await until(lambda: "writing digests back failed" in caplog.text)
    monkeypatch.setattr(module, "keep_digests", whole)
    writer.proven(second, b"b")
    async with asyncio.timeout(5):
        while (await kept(store, record))[0] is None:
            await asyncio.sleep(0.01)
    await writer.stop()


async def test_what_waits_is_bounded(store: Store) -> None:
    _, key = await cold(store, b"a")
    writer = DigestWriter(store, BOTH)
    for n in range(WAITING_MAX + 5):
        renamed = live(a_key(id=f"apk_{n}"))
        writer.proven(ColdKey(renamed, key.locator, key.verifier), b"a")
    assert len(writer._waiting) == WAITING_MAX
