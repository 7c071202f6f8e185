"""Follow a SQLite store for a key table: on a connection and a thread of its own, and never writing.

The thread is not the one that writes, because a full load of a million keys takes seconds that no
revocation should wait for; in WAL mode a reader holds up nobody. Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
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
from gateway.store.following import begin_load, changes_after
from gateway.store.sqlite_files import FileState, connect, file_state, told_as_store_error
from gateway.store.sqlite_steps import bound, drive, schema_version
from gateway.store.texts import migrations, queries

LOAD_BATCH = 4000
"""Keys handed over at a time: their assignment holds the event loop for about a millisecond."""

T = TypeVar("T")


class SqliteFollower:
    """A ``Follower`` of one database file, whichever file stands at its path."""

    def __init__(self, path: Path, boot_clock: Callable[[], float]) -> None:
        self._path = path
        self._boot_clock = boot_clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="follow")
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._opened: FileState | None = None
        self._read_at: tuple[int, Position] | None = None

    async def poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        """Return what follows ``position``."""
        return await self._in_thread(functools.partial(self._poll, position, build))

    async def begin_load(self) -> LoadStart:
        """Open a snapshot of everything."""
        return await self._in_thread(self._begin_load)

    async def batches(self, build: Callable[[LiveRow], T]) -> AsyncGenerator[list[T], None]:
        """Stream the keys of the snapshot; it is closed at the end, also when the stream is left early."""
        try:
            while batch := await self._in_thread(functools.partial(self._next_batch, build)):
                yield batch
        finally:
            await self._in_thread(self._end_load)

    async def close(self) -> None:
        """Close the connection and let the thread go."""
        await self._in_thread(self._disconnect)
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except StoreError:
            raise
        except RuntimeError:
            raise StoreError(f"the store {self._path} is no longer followed") from None

    def _poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        with told_as_store_error(self._path):
            try:
                connection = self._current()
                version = self._data_version(connection)
                if self._read_at == (version, position):
                    return Unchanged(self._offset())
                outcome = drive(connection, "BEGIN", changes_after(position, build, self._offset()))
            except sqlite3.Error:
                # Whatever is wrong with the file, the next poll begins with a fresh connection.
                self._disconnect()
                raise
        if isinstance(outcome, Delta) and not outcome.more:
            self._read_at = (version, outcome.position)
        return outcome

    def _begin_load(self) -> LoadStart:
        with told_as_store_error(self._path):
            try:
                connection = self._current()
                version = self._data_version(connection)
                connection.execute("BEGIN")
                now_ms = int(time.time() * 1000)
                start = drive(connection, None, begin_load(self._offset(), now_ms))
                ended_after = now_ms - KEPT_AFTER_END_MS
                self._cursor = connection.execute(queries("sqlite")["live_keys"], bound((ended_after,)))
            except sqlite3.Error:
                self._disconnect()
                raise
        self._read_at = (version, start.position)
        return start

    def _next_batch(self, build: Callable[[LiveRow], T]) -> list[T]:
        if self._cursor is None:
            raise StoreError(f"no load of the store {self._path} is under way")
        with told_as_store_error(self._path):
            return [build(LiveRow(*row)) for row in self._cursor.fetchmany(LOAD_BATCH)]

    def _end_load(self) -> None:
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None
        if self._connection is not None and self._connection.in_transaction:
            self._connection.rollback()

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the file that stands at the path now.

        Another file, or this one written to past SQLite (a backup copied over it, but also a
        checkpoint), is opened afresh: a page cache of what was there before proves nothing.
        """
        self._end_load()
        found = file_state(self._path)
        if self._connection is None or found != self._opened:
            self._disconnect()
            # Taken before opening: what changes in between is noticed at the next poll.
            self._opened = found
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._path, writable=False)
        try:
            version = schema_version(connection)
        except sqlite3.Error:
            connection.close()
            raise
        newest = migrations()[-1].version
        if version == newest:
            return connection
        connection.close()
        if not version:
            raise StoreError(f"the file {self._path} is no gateway store (yet)")
        word = "newer" if version > newest else "older"
        raise StoreError(f"the store {self._path} has schema {version}, {word} than this program's {newest}")

    def _disconnect(self) -> None:
        self._read_at = None
        self._cursor = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _offset(self) -> float:
        # The embedded store has no clock of its own: it is this machine's.
        return time.time() - self._boot_clock()

    @staticmethod
    def _data_version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])
