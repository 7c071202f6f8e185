"""The embedded store: one SQLite file, one thread that works on it.

A connection lives for one piece of work. That costs a millisecond beside the 20 that a key's
argon2id takes, and means that a file which was replaced or came back is simply the file at the
path, and that no forgotten connection holds the log of one that is gone.

Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from gateway.store import operations as ops
from gateway.store.base import ANSWER_S, DuplicateError, StoreError
from gateway.store.engine import Engine
from gateway.store.sqlite_files import close, connect, prepare, told_as_store_error, use_wal
from gateway.store.sqlite_follow import SqliteFollower
from gateway.store.sqlite_steps import drive, schema_version
from gateway.store.steps import Steps
from gateway.store.texts import Migration, migrations

R = TypeVar("R")


class SqliteStore(Engine):
    """A ``Store`` in one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is opened before the first use."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._held: sqlite3.Connection | None = None

    @property
    def location(self) -> str:
        """Return the path of the database file."""
        return str(self._path)

    @property
    def pepper_path(self) -> Path | None:
        """Return the pepper's place beside the database file."""
        return self._path.with_name(self._path.name + ".pepper")

    @property
    def has_clock(self) -> bool:
        """Return False: it is embedded."""
        return False

    async def migrate(self) -> Sequence[str]:
        """Create the file if missing and bring its schema up to date; return what was applied."""
        return await self._in_thread(self._migrate)

    async def write(self, work: Steps[R], *, alone: bool = True) -> R:
        """Do a piece of work in one transaction, behind those of all other writers in any case."""
        return await self._in_thread(functools.partial(self._transaction, "BEGIN IMMEDIATE", work))

    async def read(self, work: Steps[R]) -> R:
        """Do a piece of work that only reads, on one snapshot."""
        return await self._in_thread(functools.partial(self._transaction, "BEGIN", work))

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[None]:
        """Keep one connection over several transactions: its page cache pays in bulk work."""
        await self._in_thread(self._hold)
        try:
            yield
        finally:
            await self._in_thread(self._release)

    def follow(self, boot_clock: Callable[[], float], answer_s: float = ANSWER_S) -> SqliteFollower:
        """Return a reader for a key table, with a thread and a connection of its own; a file answers."""
        return SqliteFollower(self._path, boot_clock)

    async def close(self) -> None:
        """Wait for what is under way and let the thread go."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        # Shielded: a caller who goes away does not undo what is being committed.
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError:
            raise StoreError(f"the store {self._path} has been closed") from None
        return await asyncio.shield(future)

    def _transaction(self, begin: str, steps: Steps[R]) -> R:
        with told_as_store_error(self._path), self._connection() as connection:
            try:
                return drive(connection, begin, steps)
            except sqlite3.IntegrityError as error:
                raise DuplicateError("record", str(error)) from None

    def _migrate(self) -> list[str]:
        prepare(self._path)
        with told_as_store_error(self._path), self._connection() as connection:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                use_wal(connection)
            if not self._pending(connection):
                return []
            connection.execute("BEGIN IMMEDIATE")
            try:
                applied = self._pending(connection)
                for migration in applied:
                    drive(connection, None, ops.migration(migration, int(time.time() * 1000)))
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise
            return [migration.name for migration in applied]

    def _pending(self, connection: sqlite3.Connection) -> tuple[Migration, ...]:
        known = migrations()
        found = schema_version(connection)
        if found is None:
            raise StoreError(f"the store {self._path} is the database of another program")
        if found > known[-1].version:
            raise StoreError(
                f"the store {self._path} has schema {found}, newer than this program's {known[-1].version}:"
                " use the newer program"
            )
        return tuple(migration for migration in known if migration.version > found)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._held is not None:
            yield self._held
            return
        connection = connect(self._path, writable=True)
        try:
            yield connection
        finally:
            close(connection)

    def _hold(self) -> None:
        with told_as_store_error(self._path):
            if self._held is None:
                self._held = connect(self._path, writable=True)
                self._held.execute("PRAGMA cache_size = -262144")
                self._held.execute("PRAGMA wal_autocheckpoint = 20000")

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            close(held)
