"""Read a SQLite file on a thread of its own, whichever file stands at the path. Imports ``store`` only."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.store.base import StoreError
from gateway.store.sqlite_files import FileState, connect, file_state, told_as_store_error
from gateway.store.sqlite_steps import schema_version
from gateway.store.texts import migrations

T = TypeVar("T")


class SqliteReader:
    """One thread and its connection, which never writes.

    Attributes:
        generation: how often a connection was opened; what SQLite tells of one (its data version, a
            cursor) means nothing on the next.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Take the path; nothing is opened before the first use. ``name`` is the thread's."""
        self.generation = 0
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connection: sqlite3.Connection | None = None
        self._opened: FileState | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on a connection to the file that stands at the path now."""
        return await self._in_thread(functools.partial(self._work, work))

    async def go_on(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on the connection of the last ``run``, whatever stands at the path by now."""
        return await self._in_thread(functools.partial(self._go_on, work))

    async def rest(self) -> None:
        """Leave the transaction that ``run`` has left open, if any."""
        await self._in_thread(self._rest)

    async def close(self) -> None:
        """Close the connection and let the thread go."""
        await self._in_thread(self._disconnect)
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError:
            raise StoreError(f"the store {self._path} is no longer followed") from None

    def _work(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with told_as_store_error(self._path):
            try:
                return work(self._current())
            except sqlite3.Error:
                # Whatever is wrong with the file, the next read begins with a fresh connection.
                self._disconnect()
                raise

    def _go_on(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise StoreError(f"the store {self._path} is no longer followed")
        with told_as_store_error(self._path):
            return work(self._connection)

    def _rest(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            self._connection.rollback()

    def _current(self) -> sqlite3.Connection:
        """Return a connection to the file that stands at the path now, in no transaction.

        Another file, or this one written to past SQLite (a backup copied over it, but also a
        checkpoint), is opened afresh: a page cache of what was there before proves nothing.
        """
        found = file_state(self._path)
        if self._connection is None or found != self._opened:
            self._disconnect()
            # Taken before opening: what changes in between is noticed at the next read.
            self._opened = found
            self._connection = self._open()
            self.generation += 1
        self._rest()
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
        if self._connection is not None:
            self._connection.close()
            self._connection = None
