"""One connection to PostgreSQL, each of whose calls ends in time, and how it is made.

A server that does not answer, because it is frozen or a packet filter swallows all, is never waited
for: when the time is up the connection is cut, and whoever waits on it is told. Nothing is
ever cancelled politely, for that takes another connection to the same silent server.

Nothing is kept in a session (no prepared statement, no setting, no lock), so that a pooler may
hand the server's connections around between transactions: LISTEN alone then goes unheard.
Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from gateway.store.base import StoreError
from gateway.store.postgres_errors import LinkError, of_system, sentence, told_as_store_error
from gateway.store.postgres_url import Host, PostgresUrl
from gateway.store.steps import Query, Row, Steps
from gateway.store.texts import queries, text_of

CONNECT_S = 5.0
"""How long making a connection may take, all hosts together."""
STATEMENT_S = 10.0
"""How long a statement may take; the server is told the same, for when nobody is left to hear of it."""

T = TypeVar("T")
R = TypeVar("R")


class Link:
    """A connection whose calls raise asyncpg's errors, or LinkError.

    Attributes:
        expired: it was cut because an answer did not come in time.
        host: the server that answered; None: where libpq looks.
        idle_since: when it was last used, on the monotonic clock.
    """

    def __init__(self, connection: Any, host: Host | None) -> None:
        self._connection = connection
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
        within_s = STATEMENT_S if within_s is None else within_s
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
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if self.expired:
                raise LinkError(f"it did not answer within {within_s:g} s") from None
            if isinstance(error, OSError):
                raise LinkError(of_system(error)) from None
            raise
        finally:
            watch.cancel()

    def _expire(self) -> None:
        self.expired = True
        self.terminate()


async def connect(url: PostgresUrl, *, within_s: float = CONNECT_S, first: Host | None = None) -> Link:
    """Return a connection to the first host of ``url`` that takes writes, beginning with ``first``.

    Of several hosts each gets its part of the time, so that one which swallows all keeps nobody from
    the next. Raises StoreError for the last one's fault.
    """
    hosts: list[Host | None] = [*url.hosts] or [None]
    if first in hosts:
        hosts.remove(first)
        hosts.insert(0, first)
    deadline = time.monotonic() + within_s
    fault: StoreError | None = None
    for place, host in enumerate(hosts):
        share = max(0.0, deadline - time.monotonic()) / (len(hosts) - place)
        try:
            with told_as_store_error(url.location):
                async with asyncio.timeout(share):
                    return await _connected(url, host)
        except StoreError as error:
            fault = error
        except OSError as error:
            fault = StoreError(f"the store {url.location} {sentence(error)}")
    assert fault is not None
    raise fault


async def _connected(url: PostgresUrl, host: Host | None) -> Link:
    if url.passfile is not None:
        _check_passfile(Path(url.passfile), url.location)
    connection = await asyncpg.connect(
        url.tls_dsn,
        host=host.name if host else None,
        port=host.port if host else None,
        user=url.user,
        password=url.password,
        database=url.database,
        passfile=url.passfile,
        server_settings={"application_name": url.application_name},
        target_session_attrs="any",  # asked below, in a transaction, as a pooler needs it
        statement_cache_size=0,
        timeout=None,
    )
    link = Link(connection, host)
    try:
        await _check_server(link, url.location)
    except BaseException:
        link.terminate()
        raise
    return link


def _check_passfile(path: Path, location: str) -> None:
    """Raise StoreError where libpq would go on without the password, and leave people to wonder."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise StoreError(
            f"the password file {path} of the store {location} cannot be read: {of_system(error)}"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(
            f"the password file {path} of the store {location} may be read by others: chmod 600 it"
        )


async def _check_server(link: Link, location: str) -> None:
    texts = queries("postgres")
    await link.script(texts["begin_look"])
    ((standby, read_only, encoding),) = await link.rows(texts["server_state"])
    await link.script("COMMIT")
    if standby or read_only:
        raise StoreError(f"the store {location} takes no writes: it is a standby, or has been made read-only")
    if encoding != "UTF8":
        raise StoreError(f"the store {location} has the encoding {encoding}: a database in UTF8 is needed")


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
