"""How the key table stands is told once at each change, and never in place of the decision."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from gateway.core.model import Freshness, KeyTable, TableState
from gateway.keys.watch import Watch


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "gateway.keys"]


def test_each_change_is_one_line_and_a_start_that_goes_well_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    table, now = KeyTable(), [100.0]
    watch = Watch(table, Freshness(bound_s=10, fresh_s=5, grace_s=10), clock=lambda: now[0])
    watch.look()
    assert watch.state is TableState.LOADING
    assert (watch.age_s, watch.skew_s, watch.store_now_s) == (None, None, None)
    table.synced_at = 100.0
    watch.look()
    assert told(caplog) == []
    table.outage = True
    for _ in range(44):
        now[0] += 0.5
        watch.look()
    table.synced_at, table.outage = now[0], False
    for _ in range(3):
        watch.look()
    assert told(caplog) == [
        "the key table is 5.5 s old: keys that it does not know get 503 instead of 401",
        "the key table is 10.5 s old, more than its bound of 10 s: known keys go on"
        " by propagation.outage_grace, and so may those that were revoked meanwhile",
        "the key table is 20.5 s old: every key is refused until it can be read",
        "the key table is up to date again",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_skew_is_the_clock_that_keys_expire_on_less_this_machines() -> None:
    table = KeyTable()
    watch = Watch(table, Freshness(), clock=lambda: 50.0)
    table.synced_at, table.store_offset_s = 40.0, time.time() + 3600 - 50
    assert watch.age_s == 10
    assert watch.skew_s == pytest.approx(3600, abs=1)


async def test_it_looks_by_itself_and_stops_when_told_to(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.keys.watch.LOOK_EVERY_S", 0.01)
    table, now = KeyTable(), [0.0]
    watch = Watch(table, Freshness(), clock=lambda: now[0])
    table.synced_at = 0.0
    watch.start()
    now[0] = 301.0
    async with asyncio.timeout(5):
        while not told(caplog):
            await asyncio.sleep(0.01)
    await watch.stop()
    await watch.stop()
    now[0] = 0.0
    await asyncio.sleep(0.05)
    assert len(told(caplog)) == 1
