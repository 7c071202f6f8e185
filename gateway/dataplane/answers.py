"""The answers that the gateway gives itself: refusals, and what ``OPTIONS *`` asks.

Imports ``core``, ``observe`` and its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.headers import asterisk_response, refusal_response
from gateway.core.http1 import RequestHead
from gateway.core.model import LiveKey
from gateway.core.refusals import REFUSALS, Reason
from gateway.dataplane.caller import Caller, Phase
from gateway.observe import Outcome

if TYPE_CHECKING:
    from gateway.dataplane.server import Server

# Content of a refused request that is read and dropped rather than paid for with the connection, in bytes.
SKIP_MAX = 65536
_IDLE = Phase.IDLE
_HEAD = Phase.HEAD


class AnsweredCaller(Caller):
    """A caller's connection that can be answered without a backend.

    Attributes:
        skip: bytes of a refused request's content that are still to come, and to be dropped.
        head_since: when the head that has begun did, or of the request that is held, on the boot clock
            in seconds.
        judged: where the last line of it ends that was judged; -1 before any.
    """

    __slots__ = ("head_since", "judged", "skip")

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.skip = 0
        self.head_since = 0.0
        self.judged = -1

    def begin_head(self) -> None:
        """Start the head's deadline, which is total (no byte renews it)."""
        if self.phase is _IDLE:
            self.phase = _HEAD
            self.judged = -1
            self.head_since = self.server.clock()
            self.deadline = self.head_since + self.server.timeouts.head

    def renew_deadline(self) -> None:
        """Wait for the next request as long as for any; but a head that has begun gets no more time."""
        timeouts = self.server.timeouts
        if self.phase is _HEAD:
            self.deadline = self.head_since + timeouts.head
        else:
            self.deadline = self.server.clock() + timeouts.keep_alive

    def tell(self, reason: Reason, request_id: bytes, connection: bytes, with_body: bool) -> None:
        """Send a refusal; ``connection`` is the Connection value to send, or nothing."""
        self.write_soon(
            refusal_response(
                reason,
                request_id=request_id,
                date=self.server.date,
                connection=connection,
                with_body=with_body,
            )
        )

    def record(
        self,
        head: RequestHead | None,
        request_id: bytes,
        status: int,
        reason: str | None,
        now: float,
        key: LiveKey | None = None,
    ) -> None:
        """Hand what became of a request that went nowhere to the observer."""
        method, target = (head.method, head.target) if head is not None else (b"", b"")
        server = self.server
        started_at = now if self.phase is _IDLE else self.head_since
        server.observer.record(
            Outcome(
                server.epoch_offset_s + started_at,
                request_id,
                "",
                method,
                target,
                status,
                reason,
                now - started_at,
                "",
                None,
                0,
                0,
                key,
                self.peer,
            )
        )

    def turn_away(self, now: float) -> None:
        """Tell one caller too many so, and end."""
        self.refuse_message(Reason.OVERLOADED, now, with_body=True)

    def answer_asterisk(self, head: RequestHead, request_id: bytes, now: float) -> bool:
        """Answer an OPTIONS that asks the gateway itself; True when the next request may be taken."""
        keep = self._may_keep(head)
        connection = connection_option(head, keep=keep)
        self.write_soon(
            asterisk_response(request_id=request_id, date=self.server.date, connection=connection)
        )
        self.record(head, request_id, 204, None, now)
        return self._after_answer(head, now, keep=keep)

    def refuse(
        self, reason: Reason, head: RequestHead, request_id: bytes, now: float, key: LiveKey | None = None
    ) -> bool:
        """Tell a refusal that comes before anything went upstream; True when the next may be taken."""
        refusal = REFUSALS[reason]
        keep = self._may_keep(head) and not refusal.closes
        self.tell(reason, request_id, connection_option(head, keep=keep), head.method != b"HEAD")
        self.record(head, request_id, refusal.status, reason, now, key)
        return self._after_answer(head, now, keep=keep)

    def _may_keep(self, head: RequestHead) -> bool:
        """Tell whether the connection stays in step: no content is left unread, or little enough to skip."""
        fields = head.fields
        if not fields.keep_alive or self.server.draining:
            return False
        if not fields.has_body:
            return True
        # A caller that waits for 100 may send its content or not, once refused (RFC 9110 §10.1.1).
        return not fields.chunked and not fields.expectation and fields.content_length <= SKIP_MAX

    def _after_answer(self, head: RequestHead, now: float, *, keep: bool) -> bool:
        if not keep:
            self.close_gently(now)
            return False
        timeouts = self.server.timeouts
        self.phase = _IDLE
        self.deadline = now + timeouts.keep_alive
        if head.fields.has_body:
            self.skip = head.fields.content_length
            self.deadline = now + timeouts.body_stall
        return True

    def refuse_message(self, reason: Reason, now: float, *, with_body: bool) -> None:
        """Tell a refusal of what could not be read as a request, and end."""
        request_id = self.server.next_request_id()
        self.tell(reason, request_id, b"close", with_body)
        self.record(None, request_id, REFUSALS[reason].status, reason, now)
        self.close_gently(now)


def connection_option(head: RequestHead, *, keep: bool) -> bytes:
    """Return the Connection value that tells this caller whether the connection goes on."""
    if not keep:
        return b"close"
    return b"keep-alive" if head.fields.minor == 0 else b""
