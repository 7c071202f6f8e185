"""A caller's connection: requests are taken from it one at a time, and answered in order.

Imports ``core``, ``observe`` and its neighbours. A protocol callback feeds, advances and acts; deadlines are
one number that the server sweeps.
"""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

from gateway.core.decision import decide
from gateway.core.headers import asterisk_response, refusal_response
from gateway.core.http1 import ENDLESS, FieldSection, RequestHead, head_fault, parse_request_head
from gateway.core.model import LiveKey, Reject
from gateway.core.refusals import REFUSALS, Reason
from gateway.dataplane.exchange import Exchange
from gateway.observe import Outcome

if TYPE_CHECKING:
    from gateway.dataplane.server import Server

# Pipelined bytes that are held while an answer is under way; then the caller is read no further.
PIPELINE_MAX = 65536
# Requests answered in one go before other connections have their turn.
TURNS_MAX = 32
# RFC 9112 §2.2 asks for tolerance of at least one empty line before a request.
BLANK_LINES_MAX = 2
# How long a connection that we end is still read, so that no reset overtakes the answer, in seconds.
LINGER_S = 2.0
_WRITE_HIGH_WATER = 131072
_RESET = struct.pack("ii", 1, 0)


# Content of a refused request that is read and dropped rather than paid for with the connection, in bytes.
SKIP_MAX = 65536
# A field section that is longer is read each time rather than kept with its connection.
_REPEATED_MAX = 4096
_TURNS = range(TURNS_MAX)


class Phase(enum.IntEnum):
    """Where a connection stands."""

    IDLE = 0  # between requests
    HEAD = 1  # a head has begun
    BUSY = 2  # an exchange is under way
    LINGER = 3  # the last answer was written; what comes is ignored
    CLOSED = 4


# An enum's member costs a look-up of its own; these are read several times a request.
_IDLE = Phase.IDLE
_HEAD = Phase.HEAD
_BUSY = Phase.BUSY


class Downstream(asyncio.Protocol):
    """One connection of a caller.

    Attributes:
        peer: the caller's address, without the port.
        forwarded: the lines that tell a backend where the caller is.
        deadline: when, on the boot clock in seconds, `on_deadline` is due.
        write_paused: the caller does not read as fast as the backend answers.
        reading_held: the backend does not read as fast as the caller sends.
    """

    __slots__ = (
        "_at",
        "_blank_lines",
        "_buffer",
        "_exchange",
        "_fields",
        "_half_closed",
        "_head_since",
        "_phase",
        "_pipeline_held",
        "_skip",
        "_unsent",
        "deadline",
        "forwarded",
        "peer",
        "reading_held",
        "server",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.peer = ""
        self.forwarded = b""
        self.deadline = 0.0
        self.write_paused = False
        self.reading_held = False
        self._phase = Phase.IDLE
        self._buffer = b""
        self._at = 0
        self._exchange: Exchange | None = None
        self._fields: FieldSection | None = None
        self._head_since = 0.0
        self._blank_lines = 0
        self._skip = 0
        self._half_closed = False
        self._pipeline_held = False
        self._unsent = 0

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing of a request is here."""
        return self._phase is Phase.IDLE and not self._buffer

    # -- The loop's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or turn it away where there are too many."""
        # uvloop's transports have the interface, but not the type.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH_WATER)
        self.peer = _address(transport.get_extra_info("peername"))
        self.forwarded = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http" % self.peer.encode("ascii")
        now = self.server.clock()
        self.deadline = now + self.server.timeouts.keep_alive
        if not self.server.admit(self):
            self._refuse_message(Reason.OVERLOADED, now)
            self._phase = Phase.CLOSED
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes: of the content under way, or of the next head."""
        phase = self._phase
        if phase is _BUSY:
            exchange = self._exchange
            assert exchange is not None
            rest = exchange.on_request_data(data)
            if rest:
                self._append(rest)
        elif phase is _IDLE or phase is _HEAD:
            if self._buffer:
                self._append(data)
            else:
                self._buffer = data
            self._advance()

    def _append(self, data: bytes) -> None:
        """Hold bytes whose turn has not come; a caller that sends many ahead is read no further."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        if self._is_full() and not self._pipeline_held:
            self._pipeline_held = True
            self.transport.pause_reading()

    def _is_full(self) -> bool:
        """Tell whether more is held than any head needs."""
        return len(self._buffer) - self._at > PIPELINE_MAX + self.server.limits.head_bytes

    def eof_received(self) -> bool:
        """Take a half-close: a request that is whole is still answered (RFC 9112 §9.6)."""
        if self._phase is Phase.BUSY:
            exchange = self._exchange
            assert exchange is not None
            self._half_closed = exchange.request_complete
        elif self._phase is Phase.IDLE and self._buffer:
            self._half_closed = True
        return self._half_closed and self._phase <= Phase.BUSY

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; an exchange that is under way has nobody to answer."""
        self._phase = Phase.CLOSED
        self.server.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.on_caller_gone()

    def pause_writing(self) -> None:
        """Stop the backend: the caller does not keep up."""
        self.write_paused = True
        if self._exchange is not None:
            self._exchange.on_writing_paused()
        elif self._phase <= Phase.HEAD:
            self.deadline = self.server.clock() + self.server.timeouts.body_stall

    def resume_writing(self) -> None:
        """Let the backend go on."""
        self.write_paused = False
        if self._exchange is not None:
            self._exchange.on_writing_resumed()
        elif self._phase <= Phase.HEAD:
            self.deadline = self.server.clock() + self.server.timeouts.keep_alive
            self._advance()

    def on_deadline(self, now: float) -> None:
        """Act on what did not happen in time."""
        if self._phase is Phase.BUSY:
            assert self._exchange is not None
            self._exchange.on_deadline(now)
        elif self._phase is Phase.HEAD and not self.write_paused:
            self._refuse_message(Reason.REQUEST_TIMEOUT, now)
            self.close_gently(now)
        elif self._phase is Phase.LINGER and self._is_still_sending():
            self.deadline = now + self.server.timeouts.body_stall
        elif self._phase is not Phase.CLOSED:
            # Idle for too long, or not reading its last answer.
            self.transport.abort()

    def _is_still_sending(self) -> bool:
        """Tell whether the last answer has moved on since the last look."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        return self._unsent > 0 and self._unsent != before

    # -- Requests.

    def _advance(self) -> None:
        """Take requests from the buffer, in order, until one is under way or none is whole."""
        for _ in _TURNS:
            if not self._buffer or self.write_paused or not self._take_request(self._buffer):
                break
        else:
            asyncio.get_running_loop().call_soon(self._advance)
        if self._pipeline_held and not self._is_full():
            self._pipeline_held = False
            if not self.reading_held and not self.transport.is_closing():
                self.transport.resume_reading()
        if self._half_closed and not self._buffer and self._phase <= _HEAD:
            self.close_gently(self.server.clock())

    def _take_request(self, data: bytes) -> bool:
        """Take one request from the buffer; False where none is whole, or none may follow."""
        if self._phase > _HEAD:
            return False
        if self._skip:
            return self._skip_content(data)
        at = self._at
        if data[at] == 13:
            return self._take_blank_line(data[at:])
        end = data.find(b"\r\n\r\n", at)
        server = self.server
        if end < 0 or end + 4 - at > server.limits.head_bytes:
            self._wait_for_head(data[at:])
            return False
        now = server.clock()
        head = parse_request_head(data[at:end], server.limits, self._fields)
        if not isinstance(head, RequestHead):
            self._refuse_message(head, now)
            self.close_gently(now)
            return False
        self._fields = head.fields if end - at <= _REPEATED_MAX else None
        self._blank_lines = 0
        if end + 4 == len(data):
            self._buffer = b""
            self._at = 0
        else:
            self._at = end + 4
        return self._answer(head, now)

    def _skip_content(self, data: bytes) -> bool:
        """Step over content of a request that was refused."""
        skipped = min(self._skip, len(data) - self._at)
        self._skip -= skipped
        self._at += skipped
        if self._at == len(data):
            self._buffer = b""
            self._at = 0
        return True

    def _take_blank_line(self, data: bytes) -> bool:
        """Step over an empty line before a request (RFC 9112 §2.2), but not over many."""
        if data == b"\r":
            self._begin_head()
            return False
        if data[1] != 10 or self._blank_lines == BLANK_LINES_MAX:
            now = self.server.clock()
            self._refuse_message(Reason.BAD_REQUEST, now)
            self.close_gently(now)
            return False
        self._blank_lines += 1
        self._buffer = data[2:]
        self._at = 0
        self._begin_head()
        return True

    def _begin_head(self) -> None:
        """Start the head's deadline, which is total (no byte renews it)."""
        if self._phase is Phase.IDLE:
            self._phase = Phase.HEAD
            self._head_since = self.server.clock()
            self.deadline = self._head_since + self.server.timeouts.head

    def _started_at(self, now: float) -> float:
        """Return when the first byte of the request came that is whole ``now``."""
        return self._head_since if self._phase is Phase.HEAD else now

    def _wait_for_head(self, data: bytes) -> None:
        """Judge what is there of a head that is not whole, and wait for the rest."""
        self._begin_head()
        limits = self.server.limits
        fault = None
        if len(data) >= limits.head_bytes:
            fault = head_fault(data[: limits.head_bytes], limits) or Reason.HEAD_TOO_LARGE
        else:
            fault = head_fault(data, limits)
        if fault is not None:
            now = self.server.clock()
            self._refuse_message(fault, now)
            self.close_gently(now)
        elif self._half_closed:
            self.transport.close()

    def _answer(self, head: RequestHead, now: float) -> bool:
        """Refuse a request, or set it going; True when the next may be taken at once."""
        server, fields = self.server, head.fields
        request_id = fields.request_id or server.next_request_id()
        if fields.via and server.pseudonym in fields.via:
            return self._refuse(Reason.LOOP_DETECTED, head, request_id, now)
        if head.target == b"*":
            return self._answer_asterisk(head, request_id, now)
        decision = decide(head, server.snapshot, now)
        if isinstance(decision, Reject):
            return self._refuse(decision.reason, head, request_id, now, decision.key)
        if fields.expectation and fields.expectation.lower() != b"100-continue":
            return self._refuse(Reason.EXPECTATION_FAILED, head, request_id, now, decision.key)
        length, limit = fields.content_length, server.limits.body_bytes
        if length > 0 and (length >= ENDLESS or (limit is not None and length > limit)):
            return self._refuse(Reason.BODY_TOO_LARGE, head, request_id, now, decision.key)
        started_at = self._started_at(now)
        self._phase = _BUSY
        self._exchange = exchange = Exchange(self, head, decision, request_id, started_at, now)
        if not fields.has_body:
            exchange.start(b"", now)
        else:
            there, self._buffer = self._buffer[self._at :], b""
            self._at = 0
            self._buffer = exchange.start(there, now)
        return False

    def on_exchange_done(self, *, keep: bool, now: float) -> None:
        """Go on after a response that is whole."""
        self._exchange = None
        if self.reading_held:
            self.release_reading()
        if not keep:
            self.close_gently(now)
            return
        self._phase = _IDLE
        self.deadline = now + self.server.timeouts.keep_alive
        if self._buffer or self._half_closed:
            self._advance()

    # -- Answers of our own.

    def _answer_asterisk(self, head: RequestHead, request_id: bytes, now: float) -> bool:
        keep = self._may_keep(head)
        self.transport.write(
            asterisk_response(
                request_id=request_id, date=self.server.date, connection=_connection(head, keep=keep)
            )
        )
        self._record(head, request_id, 204, None, now, None)
        return self._after_answer(head, now, keep=keep)

    def _refuse(
        self, reason: Reason, head: RequestHead, request_id: bytes, now: float, key: LiveKey | None = None
    ) -> bool:
        """Tell a refusal that comes before anything went upstream; True when the next may be taken."""
        refusal = REFUSALS[reason]
        keep = self._may_keep(head) and not refusal.closes
        self.transport.write(
            refusal_response(
                reason,
                request_id=request_id,
                date=self.server.date,
                connection=_connection(head, keep=keep),
                with_body=head.method != b"HEAD",
            )
        )
        self._record(head, request_id, refusal.status, reason.value, now, key)
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
        self._phase = _IDLE
        self.deadline = now + timeouts.keep_alive
        if head.fields.has_body:
            self._skip = head.fields.content_length
            self.deadline = now + timeouts.body_stall
        return True

    def _refuse_message(self, reason: Reason, now: float) -> None:
        """Tell a refusal of what could not be read as a request."""
        request_id = self.server.next_request_id()
        self.transport.write(
            refusal_response(
                reason,
                request_id=request_id,
                date=self.server.date,
                connection=b"close",
                with_body=not self._buffer.startswith(b"HEAD ", self._at),
            )
        )
        self._record(None, request_id, REFUSALS[reason].status, reason.value, now, None)

    def refuse_exchange(self, reason: Reason, exchange: Exchange, now: float) -> None:
        """Tell a refusal that ends an exchange before its response began."""
        head = exchange.head
        self._exchange = None
        keep = (
            head.fields.keep_alive
            and exchange.request_complete
            and not self.server.draining
            and not REFUSALS[reason].closes
        )
        self.transport.write(
            refusal_response(
                reason,
                request_id=exchange.request_id,
                date=self.server.date,
                connection=_connection(head, keep=keep),
                with_body=head.method != b"HEAD",
            )
        )
        self.on_exchange_done(keep=keep, now=now)

    def _record(
        self,
        head: RequestHead | None,
        request_id: bytes,
        status: int,
        reason: str | None,
        now: float,
        key: LiveKey | None,
    ) -> None:
        server = self.server
        started_at = self._started_at(now)
        method, target = (head.method, head.target) if head is not None else (b"", b"")
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

    # -- The connection.

    def hold_reading(self) -> None:
        """Read no further from the caller."""
        if not self.reading_held and not self.transport.is_closing():
            self.reading_held = True
            self.transport.pause_reading()

    def release_reading(self) -> None:
        """Read on from the caller."""
        if self.reading_held:
            self.reading_held = False
            if not self._pipeline_held and not self.transport.is_closing():
                self.transport.resume_reading()

    def close_gently(self, now: float) -> None:
        """Send what is written, then the end of the stream; read and ignore what still comes."""
        if self._phase >= Phase.LINGER:
            return
        self._phase = Phase.LINGER
        self._buffer = b""
        self._at = 0
        self.deadline = now + LINGER_S
        self._unsent = 0
        if self.transport.is_closing():
            return
        if self.reading_held or self._pipeline_held:
            self.reading_held = self._pipeline_held = False
            self.transport.resume_reading()
        self.transport.write_eof()

    def cut_off(self, *, reset: bool) -> None:
        """End in mid-response; by a reset where the end of the stream would look like a good end."""
        self._exchange = None
        self._phase = Phase.LINGER
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        elif self.write_paused:
            self.transport.abort()
        else:
            self.deadline = self.server.clock() + LINGER_S
            self.transport.close()


def _connection(head: RequestHead, *, keep: bool) -> bytes:
    """Return the Connection value that tells this caller whether the connection goes on."""
    if not keep:
        return b"close"
    return b"keep-alive" if head.fields.minor == 0 else b""


def _address(peername: Any) -> str:
    """Return a peer's address as text; ``unknown`` (RFC 7239 §6.2) for a Unix socket's."""
    if not isinstance(peername, tuple):
        return "unknown"
    address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
