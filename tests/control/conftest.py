"""A domain service on a store of the test's own, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.making import CreatedKey
from gateway.control.service import KeyService
from gateway.store.base import Store
from gateway.store.urls import open_store
from tests.control.api import Api
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
def clock() -> list[float]:
    return [NOW_MS / 1000]


@pytest.fixture
def service(store: Store, clock: list[float]) -> KeyService:
    return KeyService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0])


@pytest.fixture
def make(service: KeyService) -> Callable[..., Any]:
    async def create(**fields: Any) -> CreatedKey:
        return await service.create_key(
            ANN, **({"tenant": "default", "name": "one", "permission": "viewer"} | fields)
        )

    return create


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[Api]:
    """The control API with the tenant ``default`` and another, ``acme``."""
    api = Api(store, clock)
    await api.service.add_tenant(ANN, "acme")
    async with api.serving():
        yield api
