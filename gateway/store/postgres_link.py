"""One connection to PostgreSQL, each of whose calls ends in time.

A server that does not answer, because it is frozen or a packet filter swallows all, is never waited
for: when the time is up the connection is cut, and whoever waits on it is told. Nothing is
ever cancelled politely, for that takes another connection to the same silent server.

Nothing is kept in a session (no prepared statement, no setting, no lock), so that a pooler may
hand the server's connections around between transactions: LISTEN alone then goes unheard.
Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import asyncpg

from gateway.store.postgres_errors import LinkError, of_system
from gateway.store.postgres_url import Host
from gateway.store.steps import Query, Row, Steps
from gateway.store.texts import text_of

STATEMENT_S = 10.0
"""How long a statement may take; the server is told the same, for when nobody is left to hear of it."""

T = TypeVar("T")
R = TypeVar("R")


class Link:
    """A connection whose calls raise asyncpg's errors, or LinkError.

    Attributes:
        statement_s: how long a call may take that says nothing else.
        expired: it was cut because an answer did not come in time.
        host: the server that answered; None: where libpq looks.
        idle_since: when it was last used, on the monotonic clock.
    """

    def __init__(self, connection: Any, host: Host | None) -> None:
        self._connection = connection
        self.statement_s = STATEMENT_S
        self.expired = False
        self.host = host
        self.idle_since = time.monotonic()

    @property
    def closed(self) -> bool:
        """Tell whether it has ended."""
        return bool(self._connection.is_closed())

    def terminate(self) -> None:
        """Cut it, without a word; safe to call twice."""
        self._connection.terminate()

    async def rows(self, text: str, args: Sequence[Any] = (), *, within_s: float | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        return [tuple(row) for row in await self._timed(self._connection.fetch(text, *args), within_s)]

    async def many(self, text: str, args: Iterable[Sequence[Any]], *, within_s: float | None = None) -> None:
        """Run one statement once for each of ``args``."""
        await self._timed(self._connection.executemany(text, args), within_s)

    async def script(self, text: str, *, within_s: float | None = None) -> str:
        """Run statements without parameters in one round trip; return what the last one did."""
        return str(await self._timed(self._connection.execute(text), within_s))

    async def cursor(self, text: str, args: Sequence[Any], *, within_s: float | None = None) -> Any:
        """Open a cursor over a statement's rows, to be read by ``fetch``; a transaction must be open."""
        return await self._timed(self._connection.cursor(text, *args), within_s)

    async def fetch(self, cursor: Any, count: int, *, within_s: float | None = None) -> list[Row]:
        """Return the next ``count`` rows of a cursor, as asyncpg's records."""
        found: list[Row] = await self._timed(cursor.fetch(count), within_s)
        return found

    async def listen(self, channel: str, heard: Callable[[], None], *, within_s: float | None = None) -> None:
        """Have ``heard`` called at each notification, and once more at the connection's end."""
        await self._timed(self._connection.add_listener(channel, lambda *_: heard()), within_s)
        self._connection.add_termination_listener(lambda _: heard())

    async def rollback(self) -> None:
        """Undo what is open; a connection that cannot is cut."""
        try:
            await self.script("ROLLBACK")
        except (LinkError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.terminate()

    async def _timed(self, work: Awaitable[T], within_s: float | None) -> T:
        within_s = self.statement_s if within_s is None else within_s
        watch = asyncio.get_running_loop().call_later(within_s, self._expire)
        try:
            return await work
        except asyncio.CancelledError:
            # What the server makes of it is not known.
            self.terminate()
            raise
        except asyncpg.InternalClientError:
            # A server that ends takes leave unasked; asyncpg then waits for the end, and takes no question.
            self.terminate()
            raise LinkError("the connection was lost") from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, AttributeError) as error:
            if self.expired:
                raise LinkError(f"it did not answer within {within_s:g} s") from None
            if isinstance(error, OSError):
                raise LinkError(of_system(error)) from None
            if isinstance(error, AttributeError) and self.closed:
                # asyncpg asks in several steps, and finds nothing where one ended meanwhile.
                raise LinkError("the connection was lost") from None
            raise
        finally:
            watch.cancel()

    def _expire(self) -> None:
        self.expired = True
        self.terminate()


async def drive(link: Link, steps: Steps[R], *, within_s: float | None = None) -> tuple[R, bool]:
    """Run an operation to its end in the transaction that is open.

    Returns its result, and whether it took numbers of the change log.
    """
    rows: list[Row] | None = None
    changed = False
    while True:
        try:
            query = next(steps) if rows is None else steps.send(rows)
        except StopIteration as end:
            return end.value, changed
        changed = changed or query.name == "take_change_numbers"
        rows = await _execute(link, query, within_s)


async def _execute(link: Link, query: Query, within_s: float | None) -> list[Row]:
    text = text_of(query, "postgres")
    if not text:
        return []
    if query.many:
        await link.many(text, query.args, within_s=within_s)
        return []
    return await link.rows(text, query.args, within_s=within_s)
