"""The request's way: from a caller's connection to the backend's, no faster than the backend reads.

Imports ``core`` and its neighbours.

Promise: nothing is sent upstream but for a `Forward`, which `decide` alone makes.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from gateway.core.chunked import LAST_CHUNK, ChunkedReader, encode_chunk
from gateway.core.decision import Forward, decide
from gateway.core.headers import upstream_head
from gateway.core.http1 import RequestHead
from gateway.core.model import LiveKey, Reject
from gateway.core.refusals import Reason
from gateway.core.response import Framing
from gateway.dataplane.borrower import Borrower
from gateway.dataplane.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.dataplane.downstream import Downstream

# How much of a body is held while a connection to the backend is made.
PENDING_MAX = 65536
# A decision older than this is made again before the first byte goes upstream, in seconds.
DECISION_MAX_S = 1.0
# How long the backend may leave a caller that waits for 100 Continue without an answer, in seconds.
CONTINUE_AFTER_S = 1.0
# A message up to this size is joined with its content into one write.
JOIN_MAX = 16384


class RequestRelay(Borrower):
    """One request that was let in, on its way to the backend; ``decided_at`` is when, on the boot clock."""

    __slots__ = (
        "_answered",
        "_chunked_out",
        "_chunks",
        "_connection",
        "_continued",
        "_decided_on",
        "_done",
        "_down",
        "_fields",
        "_forward",
        "_framing",
        "_keep",
        "_pending",
        "_pending_bytes",
        "_pool",
        "_remaining",
        "_retried",
        "_sent_at",
        "_server",
        "_status",
        "bytes_in",
        "bytes_out",
        "decided_at",
        "head",
        "method",
        "request_complete",
        "request_id",
        "started_at",
    )

    def __init__(
        self,
        down: Downstream,
        head: RequestHead,
        forward: Forward,
        request_id: bytes,
        started_at: float,
        now: float,
    ) -> None:
        """Take a request whose first byte came at ``started_at`` and that was let in at ``now``."""
        server = down.server
        fields = head.fields
        self._down = down
        self._server = server
        self.head = head
        self._fields = fields
        self.method = head.method
        self.request_id = request_id
        self.started_at = started_at
        self.bytes_in = 0
        self.bytes_out = 0
        self._forward = forward
        self.decided_at = now
        self._decided_on = server.snapshot.keys.version
        self._pool = server.pools[forward.route.upstream]
        self._connection: UpstreamConnection | None = None
        self._sent_at: float | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self.request_complete = not fields.has_body
        self._chunks = ChunkedReader() if fields.chunked else None
        self._remaining = fields.content_length
        self._status = 0
        self._answered = False
        self._framing = Framing.NONE
        self._chunked_out = False
        self._keep = False
        self._continued = False
        self._retried = False
        self._done = False

    @property
    def key(self) -> LiveKey | None:
        """Return who was let in; None on an anonymous route."""
        return self._forward.key

    # -- The request, from the caller to the backend.

    def start(self, data: bytes, now: float) -> bytes:
        """Send the request on with what is there of its content; returns what follows it."""
        rest = self.on_request_data(data) if data else data
        if self._done:
            return rest
        self._down.deadline = now + self._request_patience()
        connection = self._pool.lend(now)
        if connection is None:
            self._pool.connect(self)
        else:
            if self._pending_bytes:
                # Before the write, which may ask for the opposite.
                self._down.release_reading()
            self._send_head(connection, now)
        return rest

    def _request_patience(self) -> float:
        """Return how long to wait for what comes next before the response begins, in seconds."""
        timeouts = self._server.timeouts
        if self.request_complete:
            return timeouts.response_head
        if self._fields.expectation and not self._continued and not self.bytes_in:
            return CONTINUE_AFTER_S
        return timeouts.body_stall

    def _send_head(self, connection: UpstreamConnection, now: float) -> None:
        self._connection = connection
        connection.attach(self)
        self._sent_at = now
        head = upstream_head(
            self.head,
            self._forward,
            request_id=self.request_id,
            via=self._server.pseudonym,
            forwarded=self._down.forwarded,
            authority=self._pool.authority,
        )
        pending = self._pending
        if not pending:
            connection.write_soon(head)
            return
        if self._pending_bytes <= JOIN_MAX:
            connection.write(b"".join((head, *pending)))
        else:
            connection.write(head, *pending)
        self._pending = []
        self._pending_bytes = 0

    def on_request_data(self, data: bytes) -> bytes:
        """Take bytes from the caller; returns those that are beyond this request."""
        if self.request_complete:
            return data
        if self._chunks is not None:
            return self._on_chunked_request(data, self._chunks)
        piece = data if len(data) <= self._remaining else data[: self._remaining]
        self._remaining -= len(piece)
        self.bytes_in += len(piece)
        self.request_complete = not self._remaining
        self._pass_on(piece)
        return data[len(piece) :]

    def _on_chunked_request(self, data: bytes, chunks: ChunkedReader) -> bytes:
        content = chunks.feed(data)
        self.bytes_in += len(content)
        limit = self._server.limits.body_bytes
        if limit is not None and self.bytes_in > limit:
            self._fail(Reason.BODY_TOO_LARGE)
            return b""
        if chunks.broken:
            self._fail(Reason.BAD_REQUEST)
            return b""
        wire = encode_chunk(content) if content else b""
        if chunks.done:
            self.request_complete = True
            wire += LAST_CHUNK
        self._pass_on(wire)
        return chunks.rest

    def _pass_on(self, wire: bytes) -> None:
        """Send content upstream, or hold it while there is no connection yet."""
        if not self._answered:
            self._down.deadline = self._server.clock() + self._request_patience()
        connection = self._connection
        if connection is not None:
            connection.write(wire)
        elif wire:
            self._pending.append(wire)
            self._pending_bytes += len(wire)
            if self._pending_bytes > PENDING_MAX:
                self._down.hold_reading()

    # -- What the backend's connection says (see `Borrower`).

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Send the request on a new connection, unless it may no longer pass."""
        now = self._server.clock()
        if self._done:
            self._pool.give_back(connection, now, self._pool.idle_s)
            return
        if not self._is_still_let_in(now):
            self._pool.give_back(connection, now, self._pool.idle_s)
            return
        # Before the write, which may ask for the opposite.
        self._down.release_reading()
        self._send_head(connection, now)
        self._down.deadline = now + self._request_patience()

    def _is_still_let_in(self, now: float) -> bool:
        """Decide again where time has passed or keys have changed since (design §5)."""
        snapshot = self._server.snapshot
        if now - self.decided_at <= DECISION_MAX_S and self._decided_on == snapshot.keys.version:
            return True
        decision = decide(self.head, snapshot, now)
        if not isinstance(decision, Forward):
            # A token that was proven a moment ago and is not now was pushed out by thousands of others.
            self._fail(decision.reason if isinstance(decision, Reject) else Reason.OVERLOADED)
            return False
        self._forward = decision
        return True

    def on_connect_failed(self, reason: Reason) -> None:
        """Tell the caller that the backend cannot be had."""
        if not self._done:
            self._fail(reason)

    @abc.abstractmethod
    def _fail(self, reason: Reason) -> None:
        """End the exchange with a refusal."""
