"""A store behind a transaction pooler: nothing rests on a session, and the poll stands in for LISTEN."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.keys.clock import boot_clock
from gateway.store.base import Delta, LiveRow, Position
from gateway.store.texts import migrations
from gateway.store.urls import open_store
from tests.pooler import Pooler
from tests.postgres import Server, database_name
from tests.store.samples import ACTOR, a_key, audit, audit_of, now_ms

WRITERS, EACH = 6, 10


@pytest.fixture(scope="module")
def pooler(postgres_server: Server) -> Iterator[Pooler]:
    found = Pooler(postgres_server)
    yield found
    found.close()


def live_id(row: LiveRow) -> str:
    return row.id


async def test_many_stores_and_followers_share_few_connections(
    pooler: Pooler, postgres_server: Server
) -> None:
    url = pooler.url(postgres_server.create_database(database_name()))
    stores = [open_store(url) for _ in range(WRITERS)]
    applied = await asyncio.gather(*(store.migrate() for store in stores))
    assert sorted(map(len, applied)) == [0] * (WRITERS - 1) + [len(migrations())]
    followers = [store.follow(boot_clock) for store in stores[:3]]
    starts = [await follower.begin_load() for follower in followers]
    for follower in followers:
        assert [batch async for batch in follower.batches(live_id)] == []

    async def write(place: int) -> list[str]:
        made = []
        for _ in range(EACH):
            key = a_key()
            made.append((await stores[place].insert_key(key, audit_of(key))).id)
            await stores[place].revoke_key(key.id, now_ms(), "ann", audit("key.revoke", "key", key.id))
        return made

    async def read(place: int) -> set[str]:
        position: Position = starts[place].position
        last, seen = position.number + 2 * WRITERS * EACH, set()
        while position.number < last:
            await followers[place].changed(0.02)
            outcome = await followers[place].poll(position, live_id)
            if isinstance(outcome, Delta):
                position = outcome.position
                seen.update(outcome.keys)
        return seen

    reading = [asyncio.create_task(read(place)) for place in range(len(followers))]
    made = {key for keys in await asyncio.gather(*map(write, range(WRITERS))) for key in keys}
    for found in await asyncio.wait_for(asyncio.gather(*reading), 30):
        assert found == made
    assert len(made) == WRITERS * EACH
    for follower in followers:
        await follower.close()
    for store in stores:
        await store.close()


async def test_a_load_and_an_import_go_on_while_connections_change_hands(
    pooler: Pooler, postgres_url: str
) -> None:
    store = open_store(pooler.url(postgres_url))
    await store.bulk_insert([a_key() for _ in range(2500)], ACTOR)
    follower = store.follow(boot_clock)
    start = await follower.begin_load()
    loaded = 0
    async for batch in follower.batches(live_id):
        loaded += len(batch)
        key = a_key()
        await store.insert_key(key, audit_of(key))
        assert isinstance(await follower.poll(start.position, live_id), Delta)
    assert loaded == 2500
    await follower.close()
    await store.close()
