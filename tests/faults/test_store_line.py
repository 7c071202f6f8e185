"""What a store makes of a line that fails: it works on, or says in one sentence that it cannot."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from gateway.keys.clock import boot_clock
from gateway.store.base import Position, StoreError
from gateway.store.postgres import PostgresStore
from tests.faults.proxy import PostgresProxy
from tests.faults.stage import Stage
from tests.postgres import Server

FAREWELL = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
FAREWELL = b"E" + struct.pack("!i", 4 + len(FAREWELL)) + FAREWELL


@pytest.fixture
def line(postgres_server: Server) -> Iterator[PostgresProxy]:
    stage = Stage()
    proxy = PostgresProxy(stage, ("127.0.0.1", postgres_server.port))
    yield proxy
    proxy.close()
    stage.close()


@pytest.fixture
async def store(
    line: PostgresProxy, postgres_server: Server, postgres_url: str
) -> AsyncIterator[PostgresStore]:
    through = postgres_url.replace(f":{postgres_server.port}/", f":{line.port}/")
    made = PostgresStore(f"{through}?sslmode=disable")
    await made.tenants()
    yield made
    await made.close()


async def test_a_server_that_takes_leave_of_an_idle_connection_is_asked_again_on_a_new_one(
    store: PostgresStore, line: PostgresProxy
) -> None:
    line.say(FAREWELL)
    await asyncio.sleep(0.1)  # it comes before the end of the connection does
    assert await store.tenants()
    assert await store.tenants()


async def test_a_server_that_takes_leave_of_a_follower_is_followed_on_a_new_connection(
    store: PostgresStore, line: PostgresProxy
) -> None:
    follower = store.follow(boot_clock)
    try:
        await follower.poll(Position(0, ""), lambda row: row)
        line.say(FAREWELL)
        await asyncio.sleep(0.1)
        deadline = time.monotonic() + 5
        while True:
            try:
                await follower.poll(Position(0, ""), lambda row: row)
                break
            except StoreError:
                assert time.monotonic() < deadline
    finally:
        await follower.close()


async def test_a_connection_that_ends_between_the_steps_of_a_question_is_told_as_lost(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = asyncpg.Connection._get_statement

    async def prepare_and_end(self: asyncpg.Connection, *args: object, **options: object) -> object:
        prepared = await prepare(self, *args, **options)
        self.terminate()  # as whoever waited too long does, in the very turn in which the answer comes
        return prepared

    with monkeypatch.context() as patched:
        patched.setattr(asyncpg.Connection, "_get_statement", prepare_and_end)
        with pytest.raises(StoreError, match="the connection was lost"):
            await store.tenants()
    assert await store.tenants()
