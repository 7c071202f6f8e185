"""The store's clock: read now and then, and carried on by one that no one sets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app.store_clock import LONGEST_READ_S, StoreClock
from gateway.store.base import Store, StoreError
from gateway.store.urls import open_store

HOUR = 3600.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    yield store
    await store.close()


async def test_a_machine_that_is_set_wrong_tells_the_stores_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - HOUR)
    clock = StoreClock(store)
    assert clock() < now - HOUR / 2
    await clock.read()
    assert clock() >= now


async def test_what_was_read_while_the_machine_slept_is_passed_over(store: Store) -> None:
    asked = 0

    def asleep() -> float:
        nonlocal asked
        asked += 1
        return 1000.0 + asked * (LONGEST_READ_S + 1)

    clock = StoreClock(store, asleep)
    before = clock() - asleep()
    await clock.read()
    assert clock() - asleep() == pytest.approx(before, rel=0, abs=0.001)


async def test_while_the_store_is_out_time_goes_on(store: Store, tmp_path: Path) -> None:
    ticks = 1000.0
    clock = StoreClock(store, lambda: ticks)
    await clock.read()
    (tmp_path / "gateway.db").unlink()
    with pytest.raises(StoreError):
        await clock.read()
    before = clock()
    ticks += 7
    assert clock() == before + 7
