"""The table follows a store through a rotation of peppers, whichever of the peppers are here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.model import KeyTable
from gateway.core.tokens import Digester
from gateway.keys.feed import Feed
from gateway.store.base import KeyRecord, Store, StoreError
from gateway.store.peppers import Found, begin_rotation, end_rotation, keep_digests, tie_pepper
from gateway.store.urls import open_store
from tests.store.samples import a_key, audit, audit_of, now_ms, pepper_of

OLD, NEW = b"an old pepper of well over 32 bytes", b"a new pepper of well over 32 bytes"
ONE, BOTH, LAST = Digester([OLD]), Digester([NEW, OLD]), Digester([NEW])
NEW_ID, OLD_ID = BOTH.pepper_ids


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    await store.write(tie_pepper(pepper_of(ONE)))
    yield store
    await store.close()


class Replica:
    """A table and its feed, with some peppers at hand."""

    def __init__(self, store: Store, digester: Digester) -> None:
        self.table = KeyTable()
        self.digester = digester
        self.feed = Feed(store, self.table, digester)

    async def ids(self, token: bytes) -> list[str | None]:
        """Return the keys that a token is found to be, by each digest in turn."""
        await self.feed.sync()
        found = [self.table.by_digest.get(each) for each in self.digester.digests(token).values()]
        return [key.key_id for key in found if key is not None]


@pytest.fixture
async def late(store: Store) -> AsyncIterator[Replica]:
    replica = Replica(store, ONE)
    yield replica
    await replica.feed.stop()


@pytest.fixture
async def updated(store: Store) -> AsyncIterator[Replica]:
    replica = Replica(store, BOTH)
    yield replica
    await replica.feed.stop()


async def made(store: Store, token: bytes, **fields: object) -> KeyRecord:
    record = a_key(**({"digest": ONE.digest(token), "pepper_id": OLD_ID} | fields))
    return await store.insert_key(record, audit_of(record))


async def rotate(store: Store) -> None:
    await store.write(begin_rotation(pepper_of(BOTH), lambda _: None, audit(kind="pepper", entity=NEW_ID)))


async def test_a_key_that_goes_along_is_found_once_and_ends_everywhere(
    store: Store, late: Replica, updated: Replica
) -> None:
    key = await made(store, b"t")
    assert await late.ids(b"t") == await updated.ids(b"t") == [key.id]
    await rotate(store)
    await store.write(keep_digests([Found(key.id, BOTH.digests(b"t"), ONE.digest(b"t"))]))
    assert await late.ids(b"t") == await updated.ids(b"t") == [key.id]
    assert list(updated.table.by_digest) == [BOTH.digest(b"t")]
    assert list(late.table.by_digest) == [ONE.digest(b"t")]
    await store.revoke_key(key.id, now_ms(), "x", audit(entity=key.id))
    for replica in (late, updated):
        await replica.feed.sync()
        assert [each.revoked_at is not None for each in replica.table.by_digest.values()] == [True]
    assert (late.feed.loads, updated.feed.loads) == (1, 1)


async def test_what_is_loaded_in_the_middle_is_what_was_followed(store: Store, late: Replica) -> None:
    await rotate(store)
    key = await made(
        store,
        b"t",
        digest=BOTH.digest(b"t"),
        pepper_id=NEW_ID,
        older_digest=ONE.digest(b"t"),
        older_pepper_id=OLD_ID,
    )
    assert await late.ids(b"t") == [key.id]
    assert list(late.table.by_digest) == [ONE.digest(b"t")]


async def test_a_cold_key_is_loaded_followed_and_warm_when_its_digest_comes(
    store: Store, updated: Replica
) -> None:
    first = await made(store, b"1", digest=None, pepper_id=None)
    await updated.feed.sync()
    second = await made(store, b"2", digest=None, pepper_id=None)
    await updated.feed.sync()
    assert {cold.key.key_id for cold in updated.table.cold.values()} == {first.id, second.id}
    version = updated.table.version
    await store.write(keep_digests([Found(first.id, BOTH.digests(b"1"), None, first.verifier)]))
    assert await updated.ids(b"1") == [first.id]
    assert list(updated.table.cold) == [second.locator.encode()]
    assert updated.table.version > version
    await store.revoke_key(second.id, now_ms(), "x", audit(entity=second.id))
    await updated.feed.sync()
    assert [cold.key.revoked_at is not None for cold in updated.table.cold.values()] == [True]


async def test_the_end_of_a_rotation_makes_what_was_not_seen_cold(store: Store, updated: Replica) -> None:
    await rotate(store)
    unseen, mute = await made(store, b"1"), await made(store, b"2", verifier="")
    assert await updated.ids(b"1") == [unseen.id]
    await store.write(end_rotation([OLD_ID], now_ms(), audit(kind="pepper", entity=OLD_ID)))
    assert await updated.ids(b"1") == await updated.ids(b"2") == []
    assert updated.table.by_digest == {}
    assert [cold.key.key_id for cold in updated.table.cold.values()] == [unseen.id]
    assert mute.id not in {cold.key.key_id for cold in updated.table.cold.values()}
    assert updated.feed.loads == 2


async def test_without_the_older_pepper_nothing_is_believed_before_its_end(store: Store) -> None:
    await rotate(store)
    hasty = Replica(store, LAST)
    try:
        with pytest.raises(StoreError, match="another pepper"):
            await hasty.feed.sync()
        await store.write(end_rotation([OLD_ID], now_ms(), audit(kind="pepper", entity=OLD_ID)))
        await hasty.feed.sync()
    finally:
        await hasty.feed.stop()
