"""Connections to one backend: lent to one exchange at a time, kept while they are warm.

Imports ``core`` only. A connection reads responses as strictly as requests are read, and goes back
to its pool only when both messages ended where their framing said, with nothing after.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Protocol, cast

from gateway.core.chunked import ChunkedReader
from gateway.core.refusals import Reason
from gateway.core.response import (
    RESPONSE_HEAD_MAX,
    Framing,
    ResponseHead,
    parse_response_head,
    response_framing,
)

INTERIM_MAX = 10
_WRITE_HIGH_WATER = 131072


class Borrower(Protocol):
    """What a connection tells the exchange that holds it, in this order."""

    method: bytes
    request_complete: bool

    def on_connected(self, connection: UpstreamConnection) -> None:
        """A new connection is there; the borrower attaches itself or gives it back."""

    def on_connect_failed(self, reason: Reason) -> None:
        """No connection could be had."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response came."""

    def on_response(self, head: ResponseHead, framing: Framing, content: bytes, *, last: bool) -> None:
        """The final head came, with the content that came along; ``last`` if that is all."""

    def on_content(self, content: bytes, *, last: bool) -> None:
        """More content came."""

    def on_response_end(self, now: float) -> None:
        """The response is whole and the connection has been given back or closed."""

    def on_upstream_lost(self, *, answered: bool, reused: bool) -> None:
        """The connection broke or spoke nonsense before the response was whole.

        ``answered`` if any byte of it had come, ``reused`` if the connection had served before.
        """

    def hold_reading(self) -> None:
        """The backend does not keep up: send no more."""

    def release_reading(self) -> None:
        """The backend keeps up again."""


class _Phase(enum.Enum):
    IDLE = enum.auto()
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()
    CLOSED = enum.auto()


# An enum's member costs a look-up of its own; these are read several times a response.
_IDLE = _Phase.IDLE
_HEAD = _Phase.HEAD
_LENGTH = _Phase.LENGTH
_CHUNKED = _Phase.CHUNKED
_NO_CONTENT = Framing.NONE
_OF_LENGTH = Framing.LENGTH


class UpstreamConnection(asyncio.Protocol):
    """One connection to a backend."""

    __slots__ = (
        "_answered",
        "_borrower",
        "_buffer",
        "_chunks",
        "_idle_s",
        "_interims",
        "_phase",
        "_pool",
        "_remaining",
        "_reusable",
        "_served",
        "idle_until",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._phase = _Phase.IDLE
        self._borrower: Borrower | None = None
        self._buffer = b""
        self._chunks: ChunkedReader | None = None
        self._remaining = 0
        self._interims = 0
        self._answered = False
        self._reusable = True
        self._served = False
        self._idle_s = 0.0
        self.idle_until = 0.0

    # -- The borrower's side.

    def attach(self, borrower: Borrower) -> None:
        """Lend this connection to an exchange, which writes its request to ``transport``."""
        self._borrower = borrower
        self._phase = _HEAD
        self._interims = 0
        self._answered = False
        self._idle_s = self._pool.idle_s

    def abort(self) -> None:
        """End the connection at once; the borrower is told nothing more."""
        self._borrower = None
        if self._phase is not _Phase.CLOSED:
            self._phase = _Phase.CLOSED
            self.transport.abort()

    # -- The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and count the connection."""
        # uvloop's transports have the interface, but not the type.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        self._pool.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Read on in the response, wherever it stands."""
        borrower, phase = self._borrower, self._phase
        if borrower is None:
            # Bytes that nobody asked for would be taken for the next answer: response-queue poisoning.
            self.abort()
        elif phase is _HEAD:
            self._answered = True
            self._on_head_data(self._buffer + data if self._buffer else data, borrower)
        elif phase is _LENGTH:
            if len(data) < self._remaining:
                self._remaining -= len(data)
                borrower.on_content(data, last=False)
            else:
                borrower.on_content(data[: self._remaining], last=True)
                self._end(borrower, surplus=len(data) > self._remaining)
        elif phase is _CHUNKED:
            self._on_chunked_data(data, borrower)
        else:
            borrower.on_content(data, last=False)

    def eof_received(self) -> bool:
        """Take the end of the stream: the end of a response without framing, or a break."""
        borrower = self._borrower
        if borrower is not None and self._phase is _Phase.CLOSE:
            borrower.on_content(b"", last=True)
            self._reusable = False
            self._end(borrower, surplus=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what it owed is broken."""
        self._pool.forget(self)
        self._phase = _Phase.CLOSED
        self._break()

    def pause_writing(self) -> None:
        """Ask the caller to wait: the backend reads slower than it sends."""
        if self._borrower is not None:
            self._borrower.hold_reading()

    def resume_writing(self) -> None:
        """Let the caller go on."""
        if self._borrower is not None:
            self._borrower.release_reading()

    # -- The response.

    def _on_head_data(self, data: bytes, borrower: Borrower) -> None:
        self._buffer = b""
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > RESPONSE_HEAD_MAX:
                if end > 0 or len(data) > RESPONSE_HEAD_MAX or _is_hopeless(data):
                    self._break()
                else:
                    self._buffer = data
                return
            head = self._pool.read_head(data[:end])
            if head is None or head.status == 101:
                # 101 answers an Upgrade, which is never sent upstream.
                self._break()
                return
            data = data[end + 4 :]
            if head.status >= 200:
                self._on_final_head(head, data, borrower)
                return
            self._interims += 1
            if self._interims > INTERIM_MAX:
                self._break()
                return
            borrower.on_interim(head)

    def _on_final_head(self, head: ResponseHead, data: bytes, borrower: Borrower) -> None:
        framing = response_framing(head, borrower.method)
        self._reusable = head.keep_alive and framing is not Framing.CLOSE
        if head.idle_s is not None:
            # A second less than the backend keeps it, so that no request meets its closing.
            self._idle_s = min(self._idle_s, head.idle_s - 1.0)
        if head.status == 205 and (head.chunked or head.content_length > 0):
            self._reusable = False
        if framing is _NO_CONTENT:
            borrower.on_response(head, framing, b"", last=True)
            self._end(borrower, surplus=bool(data))
        elif framing is _OF_LENGTH:
            self._remaining = head.content_length - len(data)
            if self._remaining > 0:
                self._phase = _Phase.LENGTH
                borrower.on_response(head, framing, data, last=False)
            else:
                borrower.on_response(head, framing, data[: head.content_length], last=True)
                self._end(borrower, surplus=self._remaining < 0)
        elif framing is Framing.CHUNKED:
            self._phase = _Phase.CHUNKED
            self._chunks = chunks = ChunkedReader()
            content = chunks.feed(data) if data else b""
            borrower.on_response(head, framing, content, last=chunks.done)
            self._after_chunks(chunks, borrower)
        else:
            self._phase = _Phase.CLOSE
            borrower.on_response(head, framing, data, last=False)

    def _on_chunked_data(self, data: bytes, borrower: Borrower) -> None:
        chunks = self._chunks
        assert chunks is not None
        content = chunks.feed(data)
        if content or chunks.done:
            borrower.on_content(content, last=chunks.done)
        self._after_chunks(chunks, borrower)

    def _after_chunks(self, chunks: ChunkedReader, borrower: Borrower) -> None:
        if chunks.done:
            self._end(borrower, surplus=bool(chunks.rest))
        elif chunks.broken:
            self._break()

    def _end(self, borrower: Borrower, *, surplus: bool) -> None:
        """Part from the borrower; reuse follows from both messages, never from a wish."""
        now = self._pool.clock()
        self._borrower = None
        self._chunks = None
        if surplus or not self._reusable or not borrower.request_complete:
            self.abort()
        else:
            self._phase = _IDLE
            self._served = True
            self._pool.give_back(self, now, self._idle_s)
        borrower.on_response_end(now)

    def _break(self) -> None:
        borrower = self._borrower
        self.abort()
        if borrower is not None:
            borrower.on_upstream_lost(answered=self._answered, reused=self._served)


def _is_hopeless(data: bytes) -> bool:
    """Tell whether a head that is not whole can no longer become a good one."""
    start = b"HTTP/1."
    line_end = data.find(b"\n")
    return not data.startswith(start[: len(data)]) or (
        line_end >= 0 and data[line_end - 1 : line_end] != b"\r"
    )


class Pool:
    """The connections to one target; idle ones are a stack, the warmest first.

    Attributes:
        name: the upstream's name.
        authority: the target's host and port, for a request that named no host.
        idle_s: how long an idle connection is kept, in seconds.
        open: every connection that is open, lent or idle.
    """

    __slots__ = (
        "_connect_s",
        "_idle",
        "_last_head",
        "_tasks",
        "authority",
        "clock",
        "host",
        "idle_s",
        "name",
        "open",
        "port",
    )

    def __init__(
        self, name: str, host: str, port: int, *, idle_s: float, connect_s: float, clock: Callable[[], float]
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
        self.idle_s = idle_s
        self.clock = clock
        self.open: set[UpstreamConnection] = set()
        self._connect_s = connect_s
        self._idle: list[UpstreamConnection] = []
        self._last_head: ResponseHead | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle_count(self) -> int:
        """Return how many connections wait for work."""
        return len(self._idle)

    def read_head(self, data: bytes) -> ResponseHead | None:
        """Read a response head; one that repeats the last to the byte, as backends do, is read once."""
        last = self._last_head
        if last is not None and last.raw == data:
            return last
        self._last_head = head = parse_response_head(data)
        return head

    def lend(self, now: float) -> UpstreamConnection | None:
        """Return the warmest idle connection, or None where a new one must be made."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.idle_until > now and not connection.transport.is_closing():
                return connection
            connection.abort()
        return None

    def connect(self, borrower: Borrower) -> None:
        """Make a new connection for a borrower, who is told how it went."""
        task = asyncio.get_running_loop().create_task(self._connect(borrower))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, borrower: Borrower) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), self.host, self.port
                )
        except TimeoutError:
            borrower.on_connect_failed(Reason.UPSTREAM_TIMEOUT)
        except OSError:
            borrower.on_connect_failed(Reason.UPSTREAM_UNREACHABLE)
        else:
            borrower.on_connected(connection)

    def give_back(self, connection: UpstreamConnection, now: float, idle_s: float) -> None:
        """Keep a connection for the next borrower for ``idle_s`` seconds, if that is any time at all."""
        if idle_s <= 0 or connection.transport.is_closing():
            connection.abort()
            return
        connection.transport.resume_reading()
        connection.idle_until = now + idle_s
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Take a closed connection out of the books."""
        self.open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Close the connections that have been idle too long."""
        expired = [connection for connection in self._idle if connection.idle_until <= now]
        for connection in expired:
            self._idle.remove(connection)
            connection.abort()

    def close(self) -> None:
        """Close every connection and stop making new ones."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self.open):
            connection.abort()
