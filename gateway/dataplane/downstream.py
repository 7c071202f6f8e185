"""A caller's connection: requests are taken from it one at a time, and answered in order.

Imports ``core`` and its neighbours. A protocol callback feeds, advances and acts; deadlines are
one number that the server sweeps.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.core.decision import Forward
from gateway.core.http1 import RequestHead, head_fault, parse_request_head
from gateway.core.refusals import REFUSALS, Reason
from gateway.core.section import FieldSection
from gateway.dataplane.answers import connection_option
from gateway.dataplane.caller import Phase
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.judging import JudgedCaller

if TYPE_CHECKING:
    from gateway.dataplane.server import Server

# Pipelined bytes that are held while an answer is under way; then the caller is read no further.
PIPELINE_MAX = 65536
# RFC 9112 §2.2 asks for tolerance of at least one empty line before a request.
BLANK_LINES_MAX = 2
# A field section that is longer is read each time rather than kept with its connection.
_REPEATED_MAX = 4096
# Requests answered in one go before other connections have their turn.
_TURNS = range(32)

# An enum's member costs a look-up of its own; these are read several times a request.
_IDLE = Phase.IDLE
_HEAD = Phase.HEAD
_PROVING = Phase.PROVING
_BUSY = Phase.BUSY


class Downstream(JudgedCaller):
    """One connection of a caller, as a sequence of requests.

    Attributes:
        exchange: the request that is under way, if any.
    """

    __slots__ = ("_at", "_blank_lines", "_buffer", "_fields", "_half_closed", "exchange")

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._buffer = b""
        self._at = 0
        self.exchange: Exchange | None = None
        self._fields: FieldSection | None = None
        self._blank_lines = 0
        self._half_closed = False

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing of a request is here."""
        return self.phase is _IDLE and not self._buffer

    @property
    def is_new(self) -> bool:
        """Tell whether no request has come yet that is worth remembering."""
        return self._fields is None

    # -- The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or turn it away where there are too many."""
        super().connection_made(transport)
        now = self.server.clock()
        self.deadline = now + self.server.timeouts.keep_alive
        if not self.server.admit(self):
            self.turn_away(now)

    def data_received(self, data: bytes) -> None:
        """Take bytes: of the content under way, or of the next head."""
        phase = self.phase
        if phase is _BUSY:
            assert self.exchange is not None
            rest = self.exchange.on_request_data(data)
            if rest:
                self._append(rest)
        elif phase is _IDLE or phase is _HEAD:
            if self._buffer:
                self._append(data)
            else:
                self._buffer = data
            self.advance()
        elif phase is _PROVING:
            self._append(data)

    def _append(self, data: bytes) -> None:
        """Hold bytes whose turn has not come; a caller that sends many ahead is read no further."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        if self._is_full():
            self.hold_pipeline()

    def _is_full(self) -> bool:
        """Tell whether more is held than any head needs."""
        return len(self._buffer) - self._at > PIPELINE_MAX + self.server.limits.head_bytes

    def eof_received(self) -> bool:
        """Take a half-close: a request that is whole is still answered (RFC 9112 §9.6)."""
        if self.exchange is not None:
            self._half_closed = self.exchange.request_complete
        elif self.phase is _PROVING:
            self._half_closed = self.held_is_whole()
        elif self.phase <= _HEAD and self._buffer:
            self._half_closed = True
            self.advance()
        if self._half_closed and self.phase <= _BUSY:
            return True
        self.flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; an exchange that is under way has nobody to answer."""
        self.phase = Phase.CLOSED
        self.server.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.on_caller_gone()
        else:
            self.on_held_caller_gone()

    def pause_writing(self) -> None:
        """Stop the backend: the caller does not keep up."""
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.on_writing_paused()
        elif self.phase <= _HEAD:
            self.deadline = self.server.clock() + self.server.timeouts.body_stall

    def resume_writing(self) -> None:
        """Let the backend go on."""
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.on_writing_resumed()
        elif self.phase <= _HEAD:
            self.renew_deadline()
            self.advance()
        else:
            self.go_on_held()

    def on_deadline(self, now: float) -> None:
        """Act on what did not happen in time."""
        if self.exchange is not None:
            self.exchange.on_deadline(now)
        elif self.phase is _HEAD and not self.write_paused:
            self._refuse_message(Reason.REQUEST_TIMEOUT, now)
        elif self.phase is _PROVING:
            self.on_held_too_long(now)
        elif self.phase is not Phase.CLOSED and self.peer_takes():
            self.deadline = now + self.server.timeouts.body_stall
        elif self.phase is not Phase.CLOSED:
            # Idle for too long, or not reading its last answer.
            self.transport.abort()

    # -- Requests.

    def advance(self) -> None:
        """Take requests from the buffer, in order, until one is under way or none is whole."""
        for _ in _TURNS:
            if not self._buffer or self.write_paused or not self._take_request(self._buffer):
                break
        else:
            asyncio.get_running_loop().call_soon(self.advance)
        if not self._is_full():
            self.release_pipeline()
        if self._half_closed and not self._buffer and self.phase <= _HEAD:
            self.close_gently(self.server.clock())

    def _take_request(self, data: bytes) -> bool:
        """Take one request from the buffer; False where none is whole, or none may follow."""
        if self.phase > _HEAD:
            return False
        if self.skip:
            return self._skip_content(data)
        at = self._at
        if data[at] == 13:
            return self._take_blank_line(data, at)
        end = data.find(b"\r\n\r\n", at)
        server = self.server
        if end < 0 or end + 4 - at > server.limits.head_bytes:
            self._wait_for_head(data[at:])
            return False
        now = server.clock()
        head = parse_request_head(data[at:end], server.limits, self._fields)
        if not isinstance(head, RequestHead):
            self._refuse_message(head, now)
            return False
        self._fields = head.fields if end - at <= _REPEATED_MAX else None
        self._blank_lines = 0
        self._step_over(data, end + 4)
        return self.answer(head, now)

    def _step_over(self, data: bytes, end: int) -> None:
        """Note that the buffer has been read up to ``end``."""
        if end == len(data):
            self._buffer = b""
            self._at = 0
        else:
            self._at = end

    def _skip_content(self, data: bytes) -> bool:
        """Step over content of a request that was refused."""
        skipped = min(self.skip, len(data) - self._at)
        self.skip -= skipped
        self._step_over(data, self._at + skipped)
        return True

    def _take_blank_line(self, data: bytes, at: int) -> bool:
        """Step over an empty line before a request (RFC 9112 §2.2), but not over many."""
        if at + 1 == len(data):
            self._wait_for_head(b"")
            return False
        if data[at + 1] != 10 or self._blank_lines == BLANK_LINES_MAX:
            self._refuse_message(Reason.BAD_REQUEST, self.server.clock())
            return False
        self._blank_lines += 1
        self._step_over(data, at + 2)
        self.begin_head()
        return True

    def _wait_for_head(self, data: bytes) -> None:
        """Judge what is there of a head that is not whole, and wait for the rest."""
        self.begin_head()
        limits = self.server.limits
        fault = None
        # Once a line, not once a read: a head that comes byte by byte would cost as much as thousands.
        line_end = data.rfind(b"\n", 0, limits.head_bytes)
        if line_end < 0 or line_end != self.judged:
            fault = head_fault(data[: limits.head_bytes], limits, self.judged)
            self.judged = line_end
        if fault is None and len(data) >= limits.head_bytes:
            fault = Reason.HEAD_TOO_LARGE
        if fault is not None:
            self._refuse_message(fault, self.server.clock())
        elif self._half_closed:
            self.close_gently(self.server.clock())

    def begin(
        self, head: RequestHead, forward: Forward, request_id: bytes, started_at: float, now: float
    ) -> None:
        """Set a request going that was let in, with what is there of its content."""
        self.phase = _BUSY
        self.exchange = exchange = Exchange(self, head, forward, request_id, started_at, now)
        if not head.fields.has_body:
            exchange.start(b"", now)
        else:
            there, self._buffer = self._buffer[self._at :], b""
            self._at = 0
            self._buffer = exchange.start(there, now)
            if self._half_closed and not exchange.request_complete:
                # The rest will not come; what is written before it still leaves.
                self.flush()
                self.transport.close()

    def on_exchange_done(self, *, keep: bool, now: float) -> None:
        """Go on after a response that is whole."""
        self.exchange = None
        if self.reading_held:
            self.release_reading()
        if not keep:
            self.close_gently(now)
            return
        self.phase = _IDLE
        self.deadline = now + self.server.timeouts.keep_alive
        if self._buffer or self._half_closed:
            self.advance()

    def on_exchange_cut_off(self, *, reset: bool) -> None:
        """End after a response that broke off."""
        self.exchange = None
        self.cut_off(reset=reset)

    # -- Refusals.

    def _refuse_message(self, reason: Reason, now: float) -> None:
        self.refuse_message(reason, now, with_body=not self._buffer.startswith(b"HEAD ", self._at))

    def refuse_exchange(self, reason: Reason, exchange: Exchange, now: float) -> None:
        """Tell a refusal that ends an exchange before its response began."""
        head = exchange.head
        keep = (
            head.fields.keep_alive
            and exchange.request_complete
            and not self.server.draining
            and not REFUSALS[reason].closes
        )
        self.tell(reason, exchange.request_id, connection_option(head, keep=keep), head.method != b"HEAD")
        self.on_exchange_done(keep=keep, now=now)
