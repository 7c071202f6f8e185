"""One request and its response: bytes go both ways, and neither side is read faster than the other takes.

Imports ``core``, ``observe`` and the rooms on both sides. The two messages end independently;
what happens to each connection afterwards is derived from both.

Promise: nothing is sent upstream but for a `Forward`, which `decide` alone makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.chunked import LAST_CHUNK, ChunkedReader, encode_chunk
from gateway.core.decision import Forward, decide
from gateway.core.headers import CONTINUE, downstream_head, interim_head, upstream_head
from gateway.core.http1 import RequestHead
from gateway.core.model import Reject
from gateway.core.refusals import REFUSALS, Reason
from gateway.core.response import Framing, ResponseHead
from gateway.dataplane.upstream import UpstreamConnection
from gateway.observe import Outcome

if TYPE_CHECKING:
    from gateway.dataplane.downstream import Downstream

# How much of a body is held while a connection to the backend is made.
PENDING_MAX = 65536
# A decision older than this is made again before the first byte goes upstream, in seconds.
DECISION_MAX_S = 1.0
# How long the backend may leave a caller that waits for 100 Continue without an answer, in seconds.
CONTINUE_AFTER_S = 1.0
_JOIN_MAX = 16384
_CHUNKED = Framing.CHUNKED
_CLOSE = Framing.CLOSE
CLIENT_CLOSED = 499

# RFC 9110 §9.2.2, and only without content: what may be sent twice.
_IDEMPOTENT = frozenset(
    (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY")
)


class Exchange:
    """One request that was let in, until its response has been handed to the caller."""

    __slots__ = (
        "_answered",
        "_chunked_out",
        "_chunks",
        "_connection",
        "_continued",
        "_decided_at",
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
        self._decided_at = now
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
            connection.transport.write(head)
            return
        if self._pending_bytes <= _JOIN_MAX:
            connection.transport.write(b"".join((head, *pending)))
        else:
            connection.transport.writelines((head, *pending))
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
            connection.transport.write(wire)
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
        if now - self._decided_at <= DECISION_MAX_S and self._decided_on == snapshot.keys.version:
            return True
        decision = decide(self.head, snapshot, now)
        if isinstance(decision, Reject):
            self._fail(decision.reason)
            return False
        self._forward = decision
        return True

    def on_connect_failed(self, reason: Reason) -> None:
        """Tell the caller that the backend cannot be had."""
        if not self._done:
            self._fail(reason)

    def on_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on to a caller that can read it; 100 at most once (RFC 9110 §15.2)."""
        if self._fields.minor == 0 or (head.status == 100 and self._continued):
            return
        if head.status == 100:
            self._continued = True
            self._down.deadline = self._server.clock() + self._request_patience()
        self._down.transport.write(interim_head(head))

    def on_response(self, head: ResponseHead, framing: Framing, content: bytes, *, last: bool) -> None:
        """Pass the response's head on, and what came with it, in one write."""
        server, down, request = self._server, self._down, self._fields
        self._answered = True
        self._status = head.status
        self._framing = framing
        unframed = framing is _CHUNKED or framing is _CLOSE
        self._chunked_out = chunked = unframed and request.minor == 1
        # An early answer leaves content unread, which must not be taken for the next request.
        self._keep = keep = (
            request.keep_alive and self.request_complete and not server.draining and (chunked or not unframed)
        )
        out = downstream_head(
            head,
            request_id=self.request_id,
            via=server.pseudonym if self._forward.route.via else None,
            date=server.date,
            chunked=chunked,
            connection=b"close" if not keep else b"keep-alive" if request.minor == 0 else b"",
        )
        self.bytes_out = len(content)
        if chunked:
            content = encode_chunk(content) if content else b""
            if last:
                content += LAST_CHUNK
        if content:
            out += content
        down.transport.write(out)
        if not last:
            down.deadline = server.clock() + self._response_patience()

    def _response_patience(self) -> float:
        timeouts = self._server.timeouts
        return timeouts.body_stall if self._down.write_paused else timeouts.response_stall

    def on_content(self, content: bytes, *, last: bool) -> None:
        """Pass more content on."""
        down = self._down
        self.bytes_out += len(content)
        if not self._chunked_out:
            if content:
                down.transport.write(content)
        else:
            framed = (b"%x\r\n" % len(content), content, b"\r\n") if content else ()
            down.transport.writelines((*framed, LAST_CHUNK) if last else framed)
        if not last and not down.write_paused:
            down.deadline = self._server.clock() + self._server.timeouts.response_stall

    def on_response_end(self, now: float) -> None:
        """Finish: the response is whole."""
        self._connection = None
        self._finish(self._status, None, now)
        self._down.on_exchange_done(keep=self._keep, now=now)

    def on_upstream_lost(self, *, answered: bool, reused: bool) -> None:
        """Try once more where that is safe; else tell the caller, or cut off what was begun."""
        self._connection = None
        if self._done:
            return
        if not answered and reused and not self._retried and self._may_repeat():
            self._retried = True
            self._pool.connect(self)
            return
        self._fail(Reason.UPSTREAM_PROTOCOL_ERROR)

    def _may_repeat(self) -> bool:
        return self.method in _IDEMPOTENT and not self._fields.has_body

    def hold_reading(self) -> None:
        """Stop reading from the caller: the backend does not keep up."""
        self._down.hold_reading()
        if not self._answered:
            self._down.deadline = self._server.clock() + self._server.timeouts.response_head

    def release_reading(self) -> None:
        """Read on from the caller."""
        self._down.release_reading()
        if not self._answered:
            self._down.deadline = self._server.clock() + self._request_patience()

    # -- What the caller's connection says.

    def on_writing_paused(self) -> None:
        """Stop reading from the backend: the caller does not keep up."""
        if self._connection is not None:
            self._connection.transport.pause_reading()
        self._down.deadline = self._server.clock() + self._server.timeouts.body_stall

    def on_writing_resumed(self) -> None:
        """Read on from the backend."""
        if self._connection is not None:
            self._connection.transport.resume_reading()
        self._down.deadline = self._server.clock() + self._server.timeouts.response_stall

    def on_caller_gone(self) -> None:
        """Break off: nobody waits for the answer, and the backend must not go on for the next one."""
        if self._done:
            return
        self._drop_connection()
        self._finish(self._status or CLIENT_CLOSED, "client_closed", self._server.clock())

    def on_deadline(self, now: float) -> None:
        """Say what did not come in time."""
        timeouts = self._server.timeouts
        if self._answered:
            stalled = "client_stalled" if self._down.write_paused else Reason.UPSTREAM_TIMEOUT.value
            self._cut_off(stalled, now)
        elif self._connection is None and self.request_complete:
            # Connecting has a deadline of its own, and tells.
            self._down.deadline = now + timeouts.connect
        elif self.request_complete or self._down.reading_held:
            self._fail(Reason.UPSTREAM_TIMEOUT)
        elif self._fields.expectation and not self._continued and not self.bytes_in:
            self._continued = True
            self._down.transport.write(CONTINUE)
            self._down.deadline = now + timeouts.body_stall
        else:
            self._fail(Reason.REQUEST_TIMEOUT)

    # -- Endings.

    def _fail(self, reason: Reason) -> None:
        """End with a refusal, or cut the caller off where the response has begun."""
        now = self._server.clock()
        if reason.startswith("upstream_"):
            self._server.observer.upstream_error(self._pool.name, reason.removeprefix("upstream_"))
        if self._answered:
            self._cut_off(reason.value, now)
            return
        self._drop_connection()
        self._finish(REFUSALS[reason].status, reason.value, now)
        self._down.refuse_exchange(reason, self, now)

    def _cut_off(self, reason: str, now: float) -> None:
        """End in mid-response: no last chunk, no padding, so that the caller can tell."""
        self._drop_connection()
        self._finish(self._status, reason, now)
        self._down.cut_off(reset=self._framing >= Framing.CHUNKED and not self._chunked_out)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _finish(self, status: int, reason: str | None, now: float) -> None:
        self._done = True
        sent_at = self._sent_at
        server, head, forward = self._server, self.head, self._forward
        server.observer.record(
            Outcome(
                server.epoch_offset_s + self.started_at,
                self.request_id,
                forward.route.name,
                head.method,
                head.target,
                status,
                reason,
                now - self.started_at,
                self._pool.name,
                None if sent_at is None else now - sent_at,
                self.bytes_in,
                self.bytes_out,
                forward.key,
                self._down.peer,
            )
        )
