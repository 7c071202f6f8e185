"""The store for more than one machine: a PostgreSQL database, by a few connections of the process's own.

Writers wait for one another at the change counter's row, which each locks before anything else, so
that what they read stays true until they commit, as under SQLite's single writer.

Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gateway.store.base import ANSWER_S, StoreError
from gateway.store.engine import Engine
from gateway.store.postgres_errors import LOST, told_as_store_error
from gateway.store.postgres_follow import PostgresFollower
from gateway.store.postgres_link import Link, drive
from gateway.store.postgres_migrate import migrate
from gateway.store.postgres_pool import Pool
from gateway.store.postgres_url import parse_postgres_url
from gateway.store.steps import Steps
from gateway.store.texts import queries

CLOSE_S = 5.0
"""How long work that is under way may take to end when the store is closed."""

R = TypeVar("R")


class PostgresStore(Engine):
    """A ``Store`` in one PostgreSQL database; used from one event loop."""

    def __init__(self, url: str) -> None:
        """Take the URL; nothing is connected before the first use. Raises StoreUrlError."""
        self._url = parse_postgres_url(url)
        self._pool: Pool | None = None
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def location(self) -> str:
        """Return where the database is, without secrets."""
        return self._url.location

    @property
    def pepper_path(self) -> Path | None:
        """Return None: a pepper belongs to the gateways, and not beside what it protects."""
        return None

    @property
    def has_clock(self) -> bool:
        """Return True: the server's."""
        return True

    async def migrate(self) -> Sequence[str]:
        """Bring the schema up to date; return what was applied."""
        return await self._apart(self._migrate())

    async def write(self, work: Steps[R], *, alone: bool = True) -> R:
        """Do a piece of work in one transaction, behind those of all other writers if ``alone``."""
        return await self._apart(self._transaction("begin_write" if alone else "begin_write_beside", work))

    async def read(self, work: Steps[R]) -> R:
        """Do a piece of work that only reads, on one snapshot."""
        return await self._apart(self._transaction("begin_read", work))

    def follow(self, boot_clock: Callable[[], float], answer_s: float = ANSWER_S) -> PostgresFollower:
        """Return a reader for a key table, with a thread and connections of its own."""
        return PostgresFollower(self._url, boot_clock, answer_s)

    async def close(self) -> None:
        """Wait a while for what is under way, and cut the connections; safe to call twice."""
        self._closed = True
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=CLOSE_S)
        if self._pool is not None:
            self._pool.close()

    async def _apart(self, work: Coroutine[Any, Any, R]) -> R:
        """Do work in a task of its own: a caller who goes away does not undo what is being committed."""
        if self._closed:
            work.close()
            raise StoreError(f"the store {self.location} has been closed")
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, if there still is one

    def _connections(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self._url)
        return self._pool

    async def _migrate(self) -> list[str]:
        pool = self._connections()
        link, _ = await pool.lend()
        try:
            with told_as_store_error(self.location):
                return await migrate(link, self.location)
        finally:
            # It may have been left amidst an error.
            link.terminate()
            pool.give_back(link)

    async def _transaction(self, begin: str, work: Steps[R]) -> R:
        pool = self._connections()
        link = await self._begun(pool, begin)
        try:
            with told_as_store_error(self.location):
                result, changed = await drive(link, work)
                await self._commit(link, "commit_and_notify" if changed else "commit")
                return result
        except BaseException:
            if not link.closed:
                await link.rollback()
            raise
        finally:
            pool.give_back(link)

    async def _begun(self, pool: Pool, begin: str) -> Link:
        """Return a connection on which a transaction has been opened.

        One that had been idle may prove dead only now, after a restart of the server: nothing has been
        asked on it yet, so that a new one can take its place.
        """
        while True:
            link, is_new = await pool.lend()
            try:
                with told_as_store_error(self.location):
                    try:
                        await link.script(queries("postgres")[begin])
                        return link
                    except LOST:
                        if is_new or link.expired:
                            raise
            except BaseException:
                link.terminate()
                pool.give_back(link)
                raise
            link.terminate()
            pool.give_back(link)
            pool.drop_idle()  # they have died of the same: the next one is new

    async def _commit(self, link: Link, commit: str) -> None:
        try:
            status = await link.script(queries("postgres")[commit])
        except LOST:
            raise StoreError(
                f"the store {self.location} was lost while it committed:"
                " whether the change was kept is not known"
            ) from None
        if status != "COMMIT":
            raise StoreError(f"the store {self.location} did not commit ({status})")
