"""Follow a PostgreSQL store for a key table: on a thread and connections of its own, and never writing.

The thread keeps the rows of a full load, a million perhaps, off the loop on which callers wait. One
connection asks for changes and is told of them by NOTIFY; what it was not told of, it finds when it
asks next. A full load has another connection, so that changes are followed meanwhile.

A read proves something only if the very statement that reads where the history stands also shows a
server that takes writes: a standby may be behind, and what was a primary may have been replaced.

The store's clock is read in that statement and compared with the boot clock as it was *before* the
question was sent. The answer can only have been true later than that, so the difference is too large
by the time that the question took, never too small: a key may end that little early, but never late.

Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

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
from gateway.store.loop_thread import LoopThread, ThreadEndedError
from gateway.store.postgres_connect import CONNECT_S, connect
from gateway.store.postgres_errors import LinkError, sentence, told_as_store_error
from gateway.store.postgres_link import STATEMENT_S, Link, drive
from gateway.store.postgres_migrate import check_schema
from gateway.store.postgres_url import Host, PostgresUrl
from gateway.store.texts import queries

CHANNEL = "gateway_changes"
LOAD_BATCH = 1000
"""Keys handed over at a time: taking their rows apart holds the interpreter for about a millisecond."""
CONNECTS_IN_ANSWERS = 2
"""How many times as long as an answer a new connection may take: it takes several round trips."""

T = TypeVar("T")


class _Head(NamedTuple):
    """Where the history stood, its id for the number asked for, and the clocks' difference, in seconds."""

    number: int
    known_id: str | None
    now_s: float
    offset_s: float


class PostgresFollower:
    """A ``Follower`` of one database."""

    def __init__(self, url: PostgresUrl, boot_clock: Callable[[], float], answer_s: float) -> None:
        self._url = url
        self._boot_clock = boot_clock
        self._answer_s = answer_s
        self._thread = LoopThread("follow")
        self._caller: asyncio.AbstractEventLoop | None = None
        self._stirred = asyncio.Event()
        # What follows is touched on the thread alone.
        self._asking: Link | None = None
        self._loading: Link | None = None
        self._cursor: Any = None
        self._first: Host | None = None

    async def changed(self, within_s: float) -> None:
        """Return at a notification, or when a connection was lost, or after ``within_s`` seconds."""
        self._caller = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._stirred.wait()
        self._stirred.clear()

    async def poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        """Return what follows ``position``."""
        return await self._in_thread(self._poll(position, build))

    async def begin_load(self) -> LoadStart:
        """Open a snapshot of everything."""
        return await self._in_thread(self._begin_load())

    async def batches(self, build: Callable[[LiveRow], T]) -> AsyncGenerator[list[T], None]:
        """Stream the keys of the snapshot; it is closed at the end, also when the stream is left early."""
        try:
            while batch := await self._in_thread(self._next_batch(build)):
                yield batch
        finally:
            with contextlib.suppress(StoreError):
                await self._in_thread(self._end_load())

    async def close(self) -> None:
        """Cut the connections and let the thread go."""
        with contextlib.suppress(StoreError):
            await self._in_thread(self._disconnect())
        await self._thread.close()

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        self._caller = asyncio.get_running_loop()
        try:
            return await self._thread.run(work)
        except ThreadEndedError:
            raise StoreError(f"the store {self._url.location} is no longer followed") from None
        except OSError as error:
            raise StoreError(f"the store {self._url.location} {sentence(error)}") from None

    async def _poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        link = self._asking
        try:
            with told_as_store_error(self._url.location):
                if link is None or link.closed:
                    link = self._asking = await self._connected(self._answer_s)
                    await self._listen(link)
                head = await self._head(link, "begin_poll", position.number)
                outcome: Unchanged | Delta[T] | Reload = Unchanged(head.offset_s)
                if (head.number, head.known_id) != (position.number, position.id):
                    steps = changes_after(position, head.number, head.known_id, build, head.offset_s)
                    outcome, _ = await drive(link, steps)
                await link.script("COMMIT")
                return outcome
        except BaseException:
            # Whatever is wrong, the next poll begins with a fresh connection.
            self._asking = None
            if link is not None:
                link.terminate()
            raise

    async def _begin_load(self) -> LoadStart:
        await self._end_load()
        try:
            with told_as_store_error(self._url.location):
                link = self._loading = await self._connected(STATEMENT_S)
                head = await self._head(link, "begin_load", 0)
                await self._check_whole(link)
                now_ms = int(head.now_s * 1000)
                start, _ = await drive(link, begin_load(head.offset_s))
                self._cursor = await link.cursor(
                    queries("postgres")["live_keys"], (now_ms - KEPT_AFTER_END_MS,)
                )
                return start
        except BaseException:
            await self._end_load()
            raise

    async def _next_batch(self, build: Callable[[LiveRow], T]) -> list[T]:
        if self._loading is None:
            raise StoreError(f"no load of the store {self._url.location} is under way")
        with told_as_store_error(self._url.location):
            return [build(LiveRow(*row)) for row in await self._loading.fetch(self._cursor, LOAD_BATCH)]

    async def _end_load(self) -> None:
        link, self._loading, self._cursor = self._loading, None, None
        if link is not None:
            link.terminate()

    async def _disconnect(self) -> None:
        await self._end_load()
        if self._asking is not None:
            self._asking.terminate()

    async def _connected(self, statement_s: float) -> Link:
        """Return a new connection to a store of this program's schema, for questions of so many seconds."""
        within_s = min(CONNECT_S, CONNECTS_IN_ANSWERS * self._answer_s)
        link = await connect(self._url, within_s=within_s, statement_s=statement_s, first=self._first)
        try:
            await link.script(queries("postgres")["begin_look"])
            await check_schema(link, self._url.location)
            await link.script("COMMIT")
        except BaseException:
            link.terminate()
            raise
        self._first = link.host
        return link

    async def _check_whole(self, link: Link) -> None:
        """Raise StoreError in the middle of a restored dump: what is not there yet would never be read.

        The rows come without changes of their own, and some after the change log's.
        """
        ((whole, wanted),) = await link.rows(queries("postgres")["whole_tables"])
        if whole < wanted:
            raise StoreError(f"the store {self._url.location} is being restored: not all is there yet")

    async def _listen(self, link: Link) -> None:
        # In a transaction, though it takes no part in one, so that a pooler keeps it on one connection.
        await link.script("BEGIN")
        await link.listen(CHANNEL, self._stir)
        await link.script("COMMIT")

    def _stir(self) -> None:
        caller = self._caller
        if caller is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                caller.call_soon_threadsafe(self._stirred.set)

    async def _head(self, link: Link, begin: str, known: int) -> _Head:
        """Open a snapshot and return where its history stands. Raises StoreError if that proves nothing."""
        texts = queries("postgres")
        await link.script(texts[begin])
        before = self._boot_clock()
        ((number, known_id, standby, read_only, now_s),) = await link.rows(texts["follow_head"], (known,))
        if self._boot_clock() - before > link.statement_s:
            # The machine slept on the question: the server's clock would be taken for so much later, and
            # keys for expired, since the time that ends a call does not pass meanwhile.
            raise LinkError("the machine stood still while it answered")
        if standby or read_only:
            raise StoreError(
                f"the store {self._url.location} takes no writes, so that what it shows may be out of date"
            )
        return _Head(number, known_id, now_s, now_s - before)
