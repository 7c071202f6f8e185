"""Gateways share one canary and see it arrive; whatever fails about it harms nothing. On every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.core.model import Freshness, KeyTable
from gateway.keys.feed import Feed
from gateway.keys.upkeep import Upkeep
from gateway.keys.watch import Watch
from gateway.store.base import Store, StoreError
from gateway.store.urls import open_store
from tests.keys.test_feed import DIGESTER, until
from tests.store.conftest import engine, store_url
from tests.store.samples import now_ms
from tests.store.test_upkeep import age_canary, numbers

__all__ = ["engine", "store_url"]

SOON_S = 5.0


class Replica:
    """As much of a gateway as follows the store and takes part in its upkeep."""

    def __init__(self, url: str, every_s: float = 10.0, **fields: Any) -> None:
        self.store = open_store(url)
        self.table = KeyTable()
        self.propagations: list[float] = []
        self.feed = Feed(self.store, self.table, DIGESTER, propagated=self.propagations.append)
        watch = Watch(self.table, Freshness())
        self.upkeep = Upkeep(self.store, self.feed, watch, every_s=every_s, **fields)

    async def start(self) -> Replica:
        await self.store.migrate()
        self.feed.start()
        await asyncio.wait_for(self.feed.synced.wait(), SOON_S)
        return self

    async def stop(self) -> None:
        await self.upkeep.stop()
        await self.feed.stop()
        await self.store.close()


Make = Callable[..., Replica]


@pytest.fixture
async def replica(store_url: str) -> AsyncIterator[Make]:
    made: list[Replica] = []

    def make(**fields: Any) -> Replica:
        made.append(Replica(store_url, **fields))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


async def test_the_canary_arrives_at_every_replica_and_drops_nothing_that_was_concluded(
    replica: Make,
) -> None:
    fleet = [await replica().start() for _ in range(3)]
    versions = [each.table.version for each in fleet]
    before = now_ms()
    assert [each.upkeep.canary_age_s for each in fleet] == [None] * 3
    for each in fleet:
        each.upkeep.start()
    await until(lambda: all(each.feed.canary_at for each in fleet), SOON_S)
    (at,) = {each.feed.canary_at for each in fleet}
    assert abs(at - before) < SOON_S * 1000
    for each in fleet:
        assert each.upkeep.canary_age_s is not None
        assert each.upkeep.canary_age_s < SOON_S
        assert len(each.propagations) == 1, "its way is measured as that of a key is"
        assert each.propagations[0] < SOON_S
    assert [each.table.version for each in fleet] == versions
    assert len(await numbers(fleet[0].store)) == 2, "the tenant's making, and one canary for all"


async def test_canaries_go_on_as_long_as_anybody_is_there_to_write_them(replica: Make) -> None:
    first, second = [await replica(every_s=0.2).start() for _ in range(2)]
    first.upkeep.start()
    second.upkeep.start()
    await until(lambda: bool(second.feed.canary_at), SOON_S)
    await first.upkeep.stop()
    await first.upkeep.stop()
    at = second.feed.canary_at
    await until(lambda: second.feed.canary_at > at + 400, SOON_S)
    assert first.feed.canary_at > at, "who writes none sees those of the others"


async def test_who_begins_later_knows_the_newest_canary_and_writes_none_before_its_time(
    replica: Make,
) -> None:
    first = await replica().start()
    first.upkeep.start()
    await until(lambda: bool(first.feed.canary_at), SOON_S)
    later = await replica().start()
    assert later.feed.canary_at == first.feed.canary_at
    later.upkeep.start()
    await asyncio.sleep(1.2)  # by then one that knew of none would have tried
    assert len(await numbers(first.store)) == 2


async def test_who_drains_writes_none(replica: Make) -> None:
    asked = 0

    def may() -> bool:
        nonlocal asked
        asked += 1
        return False

    draining = await replica(every_s=0.05, may=may).start()
    draining.upkeep.start()
    await until(lambda: asked > 2, SOON_S)
    assert draining.feed.canary_at == 0


class Broken:
    """A store whose writes fail in turn, as an outage does and as a fault of ours would."""

    def __init__(self, store: Store) -> None:
        self.failures = 0
        self._store = store

    async def write(self, work: Any) -> Any:
        if self.failures < 4:
            self.failures += 1
            raise StoreError("out") if self.failures % 2 else ZeroDivisionError
        return await self._store.write(work)


async def test_whatever_fails_about_it_it_is_tried_again(
    replica: Make, caplog: pytest.LogCaptureFixture
) -> None:
    one = await replica(every_s=0.05).start()
    one.upkeep._store = Broken(one.store)  # type: ignore[assignment]
    one.upkeep.start()
    await until(lambda: bool(one.feed.canary_at), SOON_S)
    assert one.feed.store_up
    told = [record for record in caplog.records if "upkeep" in record.message]
    assert len(told) == 2, "faults of ours are told; an outage is told by the feed"


async def test_a_feed_that_is_dead_shows_in_the_canary_s_age(replica: Make) -> None:
    one = await replica().start()
    one.upkeep.start()
    await until(lambda: bool(one.feed.canary_at), SOON_S)
    await one.feed.stop()
    await age_canary(one.store, 60_000)
    one.table.store_offset_s += 61
    assert one.upkeep.canary_age_s is not None
    assert 60 < one.upkeep.canary_age_s < 70
