"""Judge again what is under way: a key that dies takes its downloads, streams and uploads along (design §6).

Once a second every exchange is put to the very `decide` that let it in, with what its connection
has proven, so whatever ends a key's rights ends them here too: revocation and expiry, the state of
tenant, user and role, a table too old to be believed. The work of one tick is bounded, however many
streams are open and however often keys change. Imports ``core`` and its neighbours.

Promise: nothing is ended that would be let in now, and nothing that asked for no key.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.core.decision import Forward, decide
from gateway.core.model import Reject, Verify
from gateway.core.refusals import Reason
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.judging import PROVING_S
from gateway.dataplane.request_relay import DECISION_MAX_S

if TYPE_CHECKING:
    from gateway.dataplane.downstream import Downstream
    from gateway.dataplane.server import Server

# From the beginning of one look at all connections to that of the next, in seconds.
PASS_S = 1.0
# Exchanges judged at one tick: two or three milliseconds where each has to look for its key again.
SLICE = 500


class Review:
    """The look at all exchanges, as far as it has come."""

    __slots__ = ("_began_at", "_rest", "_server", "_unproven", "_unproven_before")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._began_at = -math.inf
        self._rest: Iterator[Downstream] | None = None
        # Since when the tokens of some exchanges have waited for their check, in seconds.
        self._unproven: dict[Exchange, float] = {}
        self._unproven_before: dict[Exchange, float] = {}

    def go_on(self, now: float) -> None:
        """Judge the next slice; begin a new pass where the last is over and a second has passed."""
        if self._rest is None:
            if now - self._began_at < PASS_S:
                return
            self._began_at = now
            self._rest = iter(list(self._server.connections))
            self._unproven_before, self._unproven = self._unproven, {}
        left = SLICE
        for connection in self._rest:
            exchange = connection.exchange
            # A decision holds for a second (design §5), so a short request ends as it began.
            if (
                exchange is not None
                and now - exchange.decided_at > DECISION_MAX_S
                and exchange.key is not None
            ):
                self._judge(connection, exchange, now)
                left -= 1
                if not left:
                    return
        self._rest = None

    def _judge(self, connection: Downstream, exchange: Exchange, now: float) -> None:
        """End an exchange that would no longer be let in; note the use of its key otherwise."""
        decision = decide(exchange.head, self._server.snapshot, now, connection.proof)
        if isinstance(decision, Forward):
            if decision.key is not None:
                self._server.used.add(decision.key.who)
        elif isinstance(decision, Reject):
            exchange.on_no_longer_let_in(decision.reason)
        else:
            self._have_checked(exchange, decision, connection.peer, now)

    def _have_checked(self, exchange: Exchange, wanted: Verify, peer: str, now: float) -> None:
        """Have a token checked that was proven, and pushed out since by thousands of others.

        The next pass sees what came of it; one that is not proven for too long is not believed.
        """
        since = self._unproven_before.get(exchange, now)
        if now - since >= PROVING_S:
            exchange.on_no_longer_let_in(Reason.OVERLOADED)
            return
        self._unproven[exchange] = since
        self._server.verify(wanted, _nothing_to_do, peer)


def _nothing_to_do(_: Reason | None) -> None:
    """Leave what came of a check to the next pass."""
