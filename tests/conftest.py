"""What the tests at the wire share: one store with keys, one backend, a few running gateways.

Starting a process costs about a second, so gateways live for the session and tests keep to paths of
their own; a test that needs other settings starts its own by ``product``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import (
    lone_postgres,
    lone_server,
    postgres_database,
    postgres_server,
    postgres_url,
    recycled_postgres,
)
from tests.wire.backend import Backend
from tests.wire.product import Keys, Product

__all__ = [
    "lone_postgres",
    "lone_server",
    "postgres_database",
    "postgres_server",
    "postgres_url",
    "recycled_postgres",
]

HASTY = {
    "limits": {"head_bytes": 2048, "header_lines": 20, "target_bytes": 512, "body_bytes": 65536},
    "timeouts": {
        "head": "1s",
        "keep_alive": "1s",
        "body_stall": "1s",
        "response_head": "1s",
        "response_stall": "1s",
        "connect": "1s",
        "upstream_idle": "1s",
    },
}

ROUTED = {
    "roles": {"SitesEditor": {"permission": "editor", "routes": ["/sites"]}},
    "routes": [
        {"path": "/plain", "upstream": "backend"},
        {"path": "/sites", "upstream": "backend"},
        {"path": "/public", "upstream": "backend", "auth": "anonymous", "strip_prefix": "/public"},
        {"path": "/v2", "upstream": "backend", "strip_prefix": "/v2", "add_prefix": "/api"},
        {"path": "/search", "upstream": "backend", "read_methods": ["POST"]},
        {"path": "/header-only", "upstream": "backend", "credentials": ["x-api-key"]},
        {"path": "/keep", "upstream": "backend", "forward_credential": True},
        {"path": "/elsewhere", "upstream": "backend", "tenants": ["somebody-else"]},
        {"path": "/unvia", "upstream": "backend", "via": False},
        {"path": "/slash", "upstream": "backend", "path_check": "encoded_slash"},
        {"path": "/off", "upstream": "backend", "path_check": "off"},
        {"path": "/", "host": "only.test", "upstream": "backend"},
        {"path": "/nobody", "upstream": "nobody"},
        {"path": "/plain/deeper", "upstream": "backend", "roles": ["SitesEditor"]},
    ],
}


PROCESSES = 4
"""At most so many share the tests: each starts gateways and a PostgreSQL of its own."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes share the tests: one a core for all of them, none besides for a part."""
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        return 0
    return min(os.cpu_count() or 1, PROCESSES)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def shared_backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture
def backend(shared_backend: Backend) -> Iterator[Backend]:
    """The shared backend; at the end nothing malformed may have reached it."""
    shared_backend.failures.clear()
    yield shared_backend
    assert shared_backend.failures == []


Start = Callable[..., Product]


@pytest.fixture(scope="session")
def start_shared(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, shared_backend: Backend
) -> Iterator[Start]:
    running: list[Product] = []

    def start(settings: Mapping[str, Any] | None = None) -> Product:
        directory = tmp_path_factory.mktemp("gateway")
        product = Product(directory, keys, shared_backend.port, settings)
        running.append(product)
        return product

    yield start
    _stop_all(running)


@pytest.fixture(scope="session")
def gateway(start_shared: Start) -> Product:
    """A gateway with the default limits and deadlines: every path leads to the backend."""
    return start_shared()


@pytest.fixture(scope="session")
def hasty(start_shared: Start) -> Product:
    """A gateway with small limits and deadlines of one second."""
    return start_shared(HASTY)


@pytest.fixture(scope="session")
def routed(start_shared: Start) -> Product:
    """A gateway with a route of each kind and none for the rest."""
    return start_shared(ROUTED | {"upstreams": {"nobody": {"targets": ["http://127.0.0.1:9"]}}})


@pytest.fixture
def product(tmp_path: Path, keys: Keys, shared_backend: Backend) -> Iterator[Start]:
    """Start gateways of the test's own; whatever still runs at its end is stopped cleanly."""
    running: list[Product] = []

    def start(settings: Mapping[str, Any] | None = None, **options: Any) -> Product:
        upstream = options.pop("upstream_port", shared_backend.port)
        made = Product(tmp_path / f"gateway{len(running)}", keys, upstream, settings, **options)
        running.append(made)
        return made

    yield start
    _stop_all(running)


_paths = itertools.count(1)


@pytest.fixture
def path() -> str:
    """A path that no other test uses."""
    return f"/t{next(_paths)}"


def _stop_all(running: list[Product]) -> None:
    failures = []
    for product in running:
        try:
            product.stop()
        except (AssertionError, OSError) as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)
