"""The worlds in which faults are tried."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.faults.files import FileWorld
from tests.faults.fleet import Fleet
from tests.faults.world import STARTED_S, World
from tests.postgres import Server

W = TypeVar("W", bound=World)


@contextlib.contextmanager
def running(world: W) -> Iterator[W]:
    """Wait until a world's gateways serve, lend it, and hold it to a clean end."""
    try:
        for replica in world.replicas:
            replica.wait_ready(STARTED_S)
        world.populate()
        yield world
        world.close()
    finally:
        for replica in world.replicas:
            replica.kill()


@pytest.fixture(scope="module")
def file_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileWorld]:
    """One gateway of several workers over a file."""
    with running(FileWorld(tmp_path_factory.mktemp("file"))) as world:
        yield world


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three gateways over one PostgreSQL, which go from one fault to the next."""
    directory = tmp_path_factory.mktemp("fleet")
    with contextlib.closing(Server()) as server, running(Fleet(directory, server)) as made:
        yield made
