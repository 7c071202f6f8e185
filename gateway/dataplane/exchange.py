"""One request and its response: bytes go both ways, and neither side is read faster than the other takes.

Imports ``core``, ``observe`` and the rooms on both sides. The two messages end independently;
what happens to each connection afterwards is derived from both.
"""

from __future__ import annotations

from gateway.core.chunked import LAST_CHUNK, encode_chunk
from gateway.core.headers import CONTINUE, downstream_head, interim_head
from gateway.core.refusals import REFUSALS, Reason
from gateway.core.response import Framing, ResponseHead
from gateway.dataplane.judging import CLIENT_CLOSED
from gateway.dataplane.request_relay import JOIN_MAX, RequestRelay
from gateway.observe import Outcome

_CHUNKED = Framing.CHUNKED
_CLOSE = Framing.CLOSE
# RFC 9110 §9.2.2, and only without content: what may be sent twice.
_IDEMPOTENT = frozenset(b"GET HEAD OPTIONS PUT DELETE PROPFIND REPORT SEARCH QUERY".split())


class Exchange(RequestRelay):
    """One request that was let in, until its response has been handed to the caller."""

    __slots__ = ()

    # -- What the backend's connection says (see `Borrower`).

    def on_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on to a caller that can read it; 100 at most once (RFC 9110 §15.2)."""
        if self._fields.minor == 0 or (head.status == 100 and self._continued):
            return
        if head.status == 100:
            self._continued = True
            self._down.deadline = self._server.clock() + self._request_patience()
        self._down.write(interim_head(head))

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
        if len(out) <= JOIN_MAX:
            down.write_soon(out)
        else:
            down.write(out)
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
                down.write(content)
        else:
            framed = (b"%x\r\n" % len(content), content, b"\r\n") if content else ()
            down.write(*framed, LAST_CHUNK) if last else down.write(*framed)
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
        patience = self._server.timeouts.response_stall if self._answered else self._request_patience()
        self._down.deadline = self._server.clock() + patience

    def on_caller_gone(self) -> None:
        """Break off: nobody waits for the answer, and the backend must not go on for the next one."""
        if self._done:
            return
        self._drop_connection()
        self._finish(self._status or CLIENT_CLOSED, "client_closed", self._server.clock())

    def on_deadline(self, now: float) -> None:
        """Say what did not come in time."""
        timeouts = self._server.timeouts
        if self._answered and self._down.write_paused and self._down.peer_takes():
            self._down.deadline = now + timeouts.body_stall
        elif self._answered:
            stalled = "client_stalled" if self._down.write_paused else Reason.UPSTREAM_TIMEOUT.value
            self._cut_off(stalled, now)
        elif self._connection is None and self.request_complete:
            # Connecting has a deadline of its own, and tells.
            self._down.deadline = now + timeouts.connect
        elif self._down.reading_held and self._connection is not None and self._connection.peer_takes():
            self._down.deadline = now + timeouts.response_head
        elif self.request_complete or self._down.reading_held:
            self._fail(Reason.UPSTREAM_TIMEOUT)
        elif self._fields.expectation and not self._continued and not self.bytes_in:
            self._continued = True
            self._down.write(CONTINUE)
            self._down.deadline = now + timeouts.body_stall
        else:
            self._fail(Reason.REQUEST_TIMEOUT)

    # -- Endings.

    def on_no_longer_let_in(self, reason: Reason) -> None:
        """End: what let the request in would not do so now (see `Review`).

        Who has heard nothing yet is told why; a response that has begun is cut off.
        """
        self._server.observer.exchange_ended(reason)
        self._fail(reason)

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
        self._down.on_exchange_cut_off(reset=self._framing >= Framing.CHUNKED and not self._chunked_out)

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
