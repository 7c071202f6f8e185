"""The worlds in which faults are tried."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import pytest

from tests.faults.files import FileWorld
from tests.faults.fleet import Fleet
from tests.faults.world import World, running
from tests.postgres import Server

W = TypeVar("W", bound=World)


class Lender(Generic[W]):
    """Lends one world to test after test, and another one once a test has left it broken."""

    def __init__(self, start: Callable[[contextlib.ExitStack], W]) -> None:
        self._start = start
        self._stack = contextlib.ExitStack()
        self._world: W | None = None

    def lend(self) -> W:
        if self._world is not None and not all(replica.is_ready for replica in self._world.replicas):
            self._world = None
            with contextlib.suppress(Exception):  # told where it broke
                self._stack.close()
        if self._world is None:
            self._stack = contextlib.ExitStack()
            self._world = self._start(self._stack)
        return self._world

    def close(self) -> None:
        self._stack.close()


def lender(start: Callable[[contextlib.ExitStack], W]) -> Iterator[Lender[W]]:
    made = Lender(start)
    yield made
    made.close()


@pytest.fixture(scope="module")
def file_worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender[FileWorld]]:
    def start(stack: contextlib.ExitStack) -> FileWorld:
        return stack.enter_context(running(FileWorld(tmp_path_factory.mktemp("file"))))

    yield from lender(start)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender[Fleet]]:
    def start(stack: contextlib.ExitStack) -> Fleet:
        server = stack.enter_context(contextlib.closing(Server()))
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), server)
        stack.callback(lambda: fleet.server.close())  # it may be another one by then
        return stack.enter_context(running(fleet))

    yield from lender(start)


@pytest.fixture
def file_world(file_worlds: Lender[FileWorld]) -> FileWorld:
    """One gateway of several workers over a file, which goes from one fault to the next."""
    return file_worlds.lend()


@pytest.fixture
def fleet(fleets: Lender[Fleet]) -> Fleet:
    """Three gateways over one PostgreSQL, which go from one fault to the next."""
    return fleets.lend()
