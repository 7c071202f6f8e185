"""A backend's connection: it carries one exchange at a time, and reads what comes back.

Imports ``core`` and its neighbours. A connection reads responses as strictly as requests are read,
and goes back to its pool only when both messages ended where their framing said, with nothing after.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING

from gateway.core.chunked import ChunkedReader
from gateway.core.response import RESPONSE_HEAD_MAX, Framing, ResponseHead, response_framing
from gateway.dataplane.borrower import Borrower
from gateway.dataplane.connection import Connection, Outbox

if TYPE_CHECKING:
    from gateway.dataplane.pool import Pool

INTERIM_MAX = 10


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


class UpstreamConnection(Connection):
    """One connection to a backend.

    Attributes:
        idle_until: when, on the boot clock in seconds, it is closed unless lent before.
        suspect: its last response had no content by rule but told of some, which backends may yet send.
        rests_until: when, on the boot clock in seconds, a suspect one may be lent again.
    """

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
        "_write_paused",
        "idle_until",
        "rests_until",
        "suspect",
    )

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        super().__init__(outbox)
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
        self._write_paused = False
        self._idle_s = 0.0
        self.idle_until = 0.0
        self.suspect = False
        self.rests_until = 0.0

    # -- The borrower's side.

    def attach(self, borrower: Borrower) -> None:
        """Lend this connection to an exchange, which writes its request to it."""
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
        super().connection_made(transport)
        self._pool.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Read on in the response, wherever it stands."""
        borrower, phase = self._borrower, self._phase
        if borrower is None:
            # Bytes that nobody asked for would be taken for the next answer: response-queue poisoning.
            self.abort()
        elif phase is _HEAD:
            if self._held:
                # The request has not left yet: this cannot be its answer, and may be another's.
                self._break()
                return
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
        else:
            # Now, not when the loop has closed: it would first wait for a backend to take an upload.
            self._break()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; what it owed is broken."""
        self._pool.forget(self)
        self._phase = _Phase.CLOSED
        self._break()

    def pause_writing(self) -> None:
        """Ask the caller to wait: the backend reads slower than it sends."""
        self._write_paused = True
        if self._borrower is not None:
            self._borrower.hold_reading()

    def resume_writing(self) -> None:
        """Let the caller go on."""
        self._write_paused = False
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
        if head.status == 205 and head.content_length != 0:
            # Its content is ours to leave out; where the backend's would end is not for us to guess.
            self._reusable = False
        self.suspect = False
        if framing is _NO_CONTENT:
            self.suspect = head.chunked or head.content_length > 0 or borrower.method == b"HEAD"
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
        if surplus or not self._reusable or not borrower.request_complete or self._write_paused:
            # Where the backend has yet to read the request, the next borrower would never be asked to wait.
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
