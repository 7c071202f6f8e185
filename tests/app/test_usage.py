"""When keys were last used is written behind: seldom, in batches, and at no request's expense."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from gateway.app import usage
from gateway.app.usage import BATCH, LAST_S, REST_S, UsageWriter
from gateway.store.base import Store, StoreError
from gateway.store.steps import Steps
from gateway.store.urls import open_store
from gateway.store.usage import NEAR_ENOUGH_MS
from tests.store.samples import a_key, audit_of

NOW_MS = 1_800_000_000_000


class Switched:
    """A store that is out, or hangs, when the test says so; it counts what it was asked to write."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fault: BaseException | None = None
        self.hangs = False
        self.written: list[int] = []

    async def write(self, work: Steps[None], *, alone: bool = True) -> None:
        assert not alone, "no revocation should wait behind it"
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        await self._store.write(self._counted(work), alone=alone)

    def _counted(self, work: Steps[None]) -> Steps[None]:
        for query in work:
            self.written.append(len(query.args))
            yield query


class Gateway:
    """What uses keys, as the writer sees it."""

    def __init__(self, store: Switched) -> None:
        self.store = store
        self.used: set[str] = set()
        self.now_s = 0.0
        self.writer = UsageWriter(
            store,  # type: ignore[arg-type]
            self._take,
            now_ms=lambda: NOW_MS + int(self.now_s * 1000),
            clock=lambda: self.now_s,
        )

    def _take(self) -> Iterable[str]:
        used, self.used = self.used, set()
        return used

    async def round(self, *used: str, after_s: float = 0.0) -> None:
        """Let time pass, have keys used, and write what is due."""
        self.now_s += after_s
        self.used.update(used)
        self.writer.collect()
        await self.writer.write()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
def switched(store: Store) -> Switched:
    return Switched(store)


@pytest.fixture
def gateway(switched: Switched) -> Gateway:
    return Gateway(switched)


async def a_kept_key(store: Store) -> str:
    record = a_key()
    await store.insert_key(record, audit_of(record))
    return record.id


async def used_at(store: Store, key_id: str) -> int | None:
    found = await store.key(key_id)
    assert found is not None
    return None if found.last_used_at is None else found.last_used_at - NOW_MS


async def test_a_use_is_written_with_its_time(store: Store, gateway: Gateway) -> None:
    key, other = await a_kept_key(store), await a_kept_key(store)
    await gateway.round(key, after_s=7)
    assert await used_at(store, key) == 7_000
    assert await used_at(store, other) is None


async def test_a_key_in_steady_use_is_written_seldom_and_in_the_end_its_last_use_is_kept(
    store: Store, gateway: Gateway, switched: Switched
) -> None:
    key = await a_kept_key(store)
    await gateway.round(key)
    for _ in range(4):
        await gateway.round(key, after_s=60)
    assert switched.written == [1]
    assert await used_at(store, key) == 0
    await gateway.round(after_s=REST_S - 4 * 60 + 1)
    assert await used_at(store, key) == 4 * 60_000, "its last use, though it is not used any more"
    await gateway.round(after_s=2 * REST_S)
    assert switched.written == [1, 1], "nothing is written of a key that is not used"


async def test_many_keys_are_written_in_batches(store: Store, gateway: Gateway, switched: Switched) -> None:
    await gateway.round(*(f"apk_{number}" for number in range(2 * BATCH + 1)))
    assert switched.written == [BATCH, BATCH, 1]


@pytest.mark.parametrize("fault", [StoreError("the store is out"), ValueError("a fault of ours")])
async def test_what_cannot_be_written_is_kept_for_later_and_told_once(
    store: Store, gateway: Gateway, switched: Switched, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    key = await a_kept_key(store)
    switched.fault = fault
    caplog.set_level(logging.WARNING)
    await gateway.round(key)
    await gateway.round(after_s=60)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    switched.fault = None
    await gateway.round(after_s=60)
    assert await used_at(store, key) == 0


async def test_an_outage_costs_a_bounded_amount_of_memory(
    gateway: Gateway,
    switched: Switched,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(usage, "REMEMBERED_MAX", 500)
    switched.fault = StoreError("the store is out")
    await gateway.round(*(f"apk_{number}" for number in range(500)))
    assert gateway.writer.given_up == 0
    await gateway.round("apk_0", "further", "and further")
    assert gateway.writer.given_up == 2
    assert len([record for record in caplog.records if "given up" in record.message]) == 1
    switched.fault = None
    await gateway.round()
    assert sum(switched.written) == 500


async def test_the_end_writes_what_is_left_even_of_keys_that_were_written_a_moment_ago(
    store: Store, gateway: Gateway
) -> None:
    key = await a_kept_key(store)
    gateway.writer.start()
    await gateway.round(key)
    gateway.now_s += NEAR_ENOUGH_MS / 1000 + 1
    gateway.used.add(key)
    await gateway.writer.stop()
    await gateway.writer.stop()
    assert await used_at(store, key) == NEAR_ENOUGH_MS + 1000


async def test_the_end_does_not_wait_long_for_a_store_that_hangs(
    gateway: Gateway, switched: Switched
) -> None:
    gateway.writer.start()
    switched.hangs = True
    gateway.used.add("apk_1")
    async with asyncio.timeout(LAST_S + 5):
        await gateway.writer.stop()


async def test_uses_are_collected_and_written_by_themselves(
    store: Store, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "COLLECT_S", 0.01)
    key = await a_kept_key(store)
    gateway.writer.start()
    gateway.used.add(key)
    async with asyncio.timeout(5):
        while gateway.used:
            await asyncio.sleep(0.01)
        assert await used_at(store, key) is None, "the time to write has not come"
        gateway.now_s += 2 * usage.WRITE_S
        while await used_at(store, key) is None:
            await asyncio.sleep(0.01)
    await gateway.writer.stop()
