"""The gateways that the tests of the dialects share; each costs about a second to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dialects.doors import Doors
from tests.dialects.harness import PUBLIC_URL, World
from tests.wire.backend import Backend


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[World]:
    """A gateway with the default policy, known to its clients by a public URL."""
    settings = {
        "control": {"public_url": PUBLIC_URL},
        "roles": {
            "SitesEditor": {"permission": "editor", "routes": ["/sites"]},
            "SitesViewer": {"permission": "viewer", "routes": ["/sites/public"]},
        },
    }
    made = World(tmp_path_factory.mktemp("dialects"), shared_backend.port, settings)
    yield made
    made.product.stop()


@pytest.fixture(scope="session")
def doors(world: World) -> Doors:
    """The endpoints that read a JSON body."""
    return Doors(world)
