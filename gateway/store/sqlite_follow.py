"""Follow a SQLite store for a key table: on connections and threads of its own, and never writing.

None of the threads is the one that writes, because a full load of a million keys takes seconds that
no revocation should wait for; nor does the one that asks for changes wait for the one that loads. In
WAL mode a reader holds up nobody. Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeVar

from gateway.store.base import (
    KEPT_AFTER_END_MS,
    Delta,
    LiveRow,
    LoadStart,
    Position,
    Reload,
    StoreError,
    Unchanged,
)
from gateway.store.following import begin_load, look_and_follow
from gateway.store.sqlite_reading import SqliteReader
from gateway.store.sqlite_steps import bound, drive
from gateway.store.texts import queries

LOAD_BATCH = 4000
"""Keys handed over at a time: their assignment holds the event loop for about a millisecond."""
LOOK_INTERVAL_S = 0.2
"""How often the file is looked at: SQLite tells nobody that another process has written."""

T = TypeVar("T")


class SqliteFollower:
    """A ``Follower`` of one database file, whichever file stands at its path."""

    def __init__(self, path: Path, boot_clock: Callable[[], float]) -> None:
        self._path = path
        self._boot_clock = boot_clock
        self._changes = SqliteReader(path, "follow")
        self._loads = SqliteReader(path, "load")
        self._cursor: sqlite3.Cursor | None = None
        self._read_at: tuple[int, int, Position] | None = None

    async def changed(self, within_s: float) -> None:
        """Return when it is time to look again; a look that finds nothing costs microseconds."""
        await asyncio.sleep(min(LOOK_INTERVAL_S, within_s))

    async def poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        """Return what follows ``position``."""
        return await self._changes.run(functools.partial(self._poll, position, build))

    async def begin_load(self) -> LoadStart:
        """Open a snapshot of everything."""
        return await self._loads.run(self._begin_load)

    async def batches(self, build: Callable[[LiveRow], T]) -> AsyncGenerator[list[T], None]:
        """Stream the keys of the snapshot; it is closed at the end, also when the stream is left early."""
        try:
            while batch := await self._loads.go_on(functools.partial(self._next_batch, build)):
                yield batch
        finally:
            await self._loads.rest()
            self._end_statement()

    async def close(self) -> None:
        """Close the connections and let the threads go."""
        await self._changes.close()
        await self._loads.close()

    def _poll(
        self, position: Position, build: Callable[[LiveRow], T], connection: sqlite3.Connection
    ) -> Unchanged | Delta[T] | Reload:
        generation = self._changes.generation
        # Read before the rest: what is written in between is looked for at the next poll.
        version = int(connection.execute("PRAGMA data_version").fetchone()[0])
        if self._read_at == (generation, version, position):
            return Unchanged(self._offset())
        outcome = drive(connection, "BEGIN", look_and_follow(position, build, self._offset()))
        if isinstance(outcome, Delta) and not outcome.more:
            self._read_at = (generation, version, outcome.position)
        return outcome

    def _begin_load(self, connection: sqlite3.Connection) -> LoadStart:
        self._end_statement()
        connection.execute("BEGIN")
        now_ms = int(time.time() * 1000)
        start = drive(connection, None, begin_load(self._offset()))
        ended_after = now_ms - KEPT_AFTER_END_MS
        self._cursor = connection.execute(queries("sqlite")["live_keys"], bound((ended_after,)))
        return start

    def _next_batch(self, build: Callable[[LiveRow], T], _: sqlite3.Connection) -> list[T]:
        if self._cursor is None:
            raise StoreError(f"no load of the store {self._path} is under way")
        return [build(LiveRow(*row)) for row in self._cursor.fetchmany(LOAD_BATCH)]

    def _end_statement(self) -> None:
        """End the statement of a load that was not read to its end.

        While it is open SQLite keeps its snapshot beyond any ROLLBACK, and what is read next would be as
        old as that, but dated anew.
        """
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()

    def _offset(self) -> float:
        # The embedded store has no clock of its own: it is this machine's.
        return time.time() - self._boot_clock()
