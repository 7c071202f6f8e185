"""A caller's connection whose requests are judged: let in, refused, or held until a credential is proven.

While a request is held its caller is read no further, and what follows waits its turn. The answer
to the check says nothing but that it is worth deciding again, with what is known by then. Imports
``core``, ``observe`` and its neighbours.

Promise: a check that fails, is late or never ends lets nobody in.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.core.decision import Forward, Proof, decide
from gateway.core.grammar import ENDLESS
from gateway.core.http1 import RequestHead
from gateway.core.model import Reject, Verify
from gateway.core.refusals import Reason
from gateway.dataplane.answers import AnsweredCaller
from gateway.dataplane.caller import Phase

if TYPE_CHECKING:
    from gateway.dataplane.server import Server

VerifyFunction = Callable[[Verify, Callable[[Reason | None], None], str], bool]
"""Has a credential proven that comes from an address: False when too many wait; else tells later, with a
reason where it cannot."""

# A check takes milliseconds once its turn comes; who waits longer is told so, in seconds.
PROVING_S = 5.0
# Keys that change at every check would have a request wait for ever.
_ASKED_MAX = 3
CLIENT_CLOSED = 499

_IDLE = Phase.IDLE
_PROVING = Phase.PROVING


class Held:
    """A request that waits until its caller's token has been proven, or not."""

    __slots__ = ("asked", "head", "reason", "request_id", "told")

    def __init__(self, head: RequestHead, request_id: bytes, asked: int) -> None:
        self.head = head
        self.request_id = request_id
        self.asked = asked
        self.told = False
        self.reason: Reason | None = None


class JudgedCaller(AnsweredCaller):
    """A caller's connection that lets a request go on only when `decide` forwards it.

    Attributes:
        proof: what the credential lines of its last request were found to prove.
    """

    __slots__ = ("_held_request", "proof")

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.proof = Proof()
        self._held_request: Held | None = None

    @abc.abstractmethod
    def begin(
        self, head: RequestHead, forward: Forward, request_id: bytes, started_at: float, now: float
    ) -> None:
        """Set a request going that was let in."""

    @abc.abstractmethod
    def advance(self) -> None:
        """Take what waits behind a request that has been held."""

    def answer(self, head: RequestHead, now: float) -> bool:
        """Refuse a request, set it going or hold it; True when the next may be taken at once."""
        server, fields = self.server, head.fields
        request_id = fields.request_id or server.next_request_id()
        if fields.via and server.pseudonym in fields.via:
            return self.refuse(Reason.LOOP_DETECTED, head, request_id, now)
        if head.target == b"*":
            return self.answer_asterisk(head, request_id, now)
        return self._judge(head, request_id, now)

    def _judge(self, head: RequestHead, request_id: bytes, now: float, asked: int = 0) -> bool:
        server, fields = self.server, head.fields
        decision = decide(head, server.snapshot, now, self.proof)
        if not isinstance(decision, Forward):
            if isinstance(decision, Reject):
                return self.refuse(decision.reason, head, request_id, now, decision.key)
            return self._hold(Held(head, request_id, asked + 1), decision, now)
        if fields.expectation and fields.expectation.lower() != b"100-continue":
            return self.refuse(Reason.EXPECTATION_FAILED, head, request_id, now, decision.key)
        length, limit = fields.content_length, server.limits.body_bytes
        if length > 0 and (length >= ENDLESS or (limit is not None and length > limit)):
            return self.refuse(Reason.BODY_TOO_LARGE, head, request_id, now, decision.key)
        if decision.key is not None:
            server.used.add(decision.key.who)
        if fields.max_forwards == 0 and head.method == b"OPTIONS":
            # RFC 9110 §7.6.2: it was to come this far and no further.
            return self.answer_asterisk(head, request_id, now)
        self.begin(head, decision, request_id, now if self.phase is _IDLE else self.head_since, now)
        return False

    # -- Requests that wait for a proof.

    def _hold(self, held: Held, wanted: Verify, now: float) -> bool:
        """Have the token checked and wait, unless too many do already."""
        if self.phase is not _PROVING:
            if self.phase is _IDLE:
                self.head_since = now
            self.phase = _PROVING
            self.deadline = now + PROVING_S
        told = functools.partial(self._on_verified, held)
        if held.asked > _ASKED_MAX or not self.server.verify(wanted, told, self.peer):
            return self.refuse(Reason.OVERLOADED, held.head, held.request_id, now)
        self._held_request = held
        self.hold_reading()
        return False

    def _on_verified(self, held: Held, reason: Reason | None) -> None:
        """Note that the check is over; ``reason`` says why it found nothing."""
        if held is not self._held_request:
            return  # too late: answered since, or nobody is there
        held.told, held.reason = True, reason
        self.go_on_held()

    def go_on_held(self) -> None:
        """Judge the held request again, once its token is checked and the caller takes answers."""
        held = self._held_request
        if held is None or not held.told or self.write_paused:
            return
        self._held_request = None
        self.release_reading()
        now = self.server.clock()
        if held.reason is not None:
            self.refuse(held.reason, held.head, held.request_id, now)
        else:
            self._judge(held.head, held.request_id, now, held.asked)
        self.advance()

    def on_held_too_long(self, now: float) -> None:
        """Tell a caller whose token was not checked in time so; or end with one who does not read."""
        held = self._held_request
        if held is None or self.write_paused:
            if self.peer_takes():
                self.deadline = now + self.server.timeouts.body_stall
            else:
                self.transport.abort()
            return
        self._held_request = None
        self.refuse(Reason.OVERLOADED, held.head, held.request_id, now)
        self.advance()

    def on_held_caller_gone(self) -> None:
        """Forget the held request: nobody waits for its answer."""
        held, self._held_request = self._held_request, None
        if held is not None:
            self.record(held.head, held.request_id, CLIENT_CLOSED, "client_closed", self.server.clock())

    def held_is_whole(self) -> bool:
        """Tell whether the held request ends with its head, so that a half-close leaves it whole."""
        return self._held_request is not None and not self._held_request.head.fields.has_body
