"""Stores to test with. What holds of every engine takes ``store``, and runs on each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.store.base import Store
from gateway.store.urls import open_store
from tests.postgres import Recycled, Server, database_name


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def empty_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that nobody has migrated yet."""
    if engine == "sqlite":
        return f"sqlite://{tmp_path}/gateway.db"
    server: Server = request.getfixturevalue("postgres_server")
    return server.create_database(database_name())


@pytest.fixture
def store_url(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that may have been migrated."""
    if engine == "sqlite":
        yield f"sqlite://{tmp_path}/gateway.db"
        return
    recycled: Recycled = request.getfixturevalue("recycled_postgres")
    yield recycled.url
    recycled.clean()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    store = open_store(store_url)
    await store.migrate()
    yield store
    await store.close()
