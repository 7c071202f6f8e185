"""Prove cold keys by argon2id: seldom, off the event loop, and at nobody else's expense.

A cold key's locator is no secret, so whoever knows one can ask for proofs of tokens that he makes
up; ``suspects`` says whose turn it is, and bounds what that may cost. Runs on the event loop alone;
imports ``core`` and its own plane.

Promise: argon2id runs for the locators of cold keys alone, for no token twice while its failure is
remembered, and for one key at most twenty times at once and four times a second in vain.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
from collections.abc import Callable
from typing import Literal

from cachetools import LRUCache

from gateway.core.cold import ColdProofs, VerifyKey
from gateway.core.model import ColdKey
from gateway.core.refusals import Reason
from gateway.keys.argon2id import Argon2Threads
from gateway.keys.suspects import Done, Suspects, Try

PROVEN_MAX = 50_000
"""Proven tokens that are held until their digest comes back by the store, some 200 bytes each."""
REFUSED_MAX = 1_000
"""Wrong tokens that are remembered, apart so that junk pushes out nothing good."""

Result = Literal["ok", "failed", "refused"]
_log = logging.getLogger("gateway.keys")


class ColdProver:
    """Has argon2id prove cold keys for the decisions of one key table.

    Attributes:
        proofs: what decisions read; belongs into the snapshot.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        proven: Callable[[ColdKey, bytes], None] = lambda _cold, _token: None,
        counted: Callable[[Result], None] = lambda _: None,
        threads: Argon2Threads | None = None,
    ) -> None:
        """Take a clock that counts seconds, and who is told what.

        ``proven`` is told a key and its token once argon2id has proven it; ``counted`` what came of
        each try: it was the key's token, it was not, or nobody found out for lack of room or time.
        """
        self.proofs = ColdProofs(LRUCache(PROVEN_MAX), LRUCache(REFUSED_MAX))
        self._clock = clock
        self._proven = proven
        self._counted = counted
        self._threads = threads or Argon2Threads()
        self._suspects = Suspects()
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def verify(self, wanted: VerifyKey, done: Done, source: str) -> bool:
        """Have a token proven that comes from an address; False when there is no room for it.

        ``done`` is called on the running loop, never from here: with None when it is worth deciding
        again, or why not.
        """
        given_up: list[Try] = []
        found = None
        if not self._closed:
            found = self._suspects.admit(wanted, _network(source), self._clock(), given_up)
        self._give_up(given_up)
        if found is None:
            self._counted("refused")
            return False
        found.dones.append(done)
        self._go_on()
        return True

    def close(self) -> None:
        """Let the threads go; who still waits is not told. Safe to call twice."""
        self._closed = True
        self._suspects.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._threads.close()

    def _go_on(self) -> None:
        """Begin as many proofs as there are threads for and budgets allow."""
        if self._closed:
            return
        now = self._clock()
        given_up: list[Try] = []
        while self._running < self._threads.threads:
            chosen = self._suspects.begin(now, given_up)
            if chosen is None:
                self._go_on_later(now)
                break
            self._running += 1
            proof = self._threads.verify(chosen.wanted.cold.verifier, chosen.wanted.token)
            proof.add_done_callback(functools.partial(self._on_result, chosen))
        self._give_up(given_up)

    def _go_on_later(self, now: float) -> None:
        due_s = self._suspects.due_s(now)
        if due_s is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(due_s, 0.001), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._go_on()

    def _on_result(self, tried: Try, proof: asyncio.Future[bool]) -> None:
        self._running -= 1
        reason = self._learn(tried, proof)
        self._tell(tried, reason)
        self._go_on()

    def _learn(self, tried: Try, proof: asyncio.Future[bool]) -> Reason | None:
        """Note what was found; None when the decision should be made again."""
        wanted, now = tried.wanted, self._clock()
        error = None if proof.cancelled() else proof.exception()
        if error is not None:
            _log.error("a key could not be proven: %s", type(error).__name__)
        if proof.cancelled() or error is not None:
            self._suspects.end(tried, now, failed=False)
            return Reason.OVERLOADED
        self._suspects.end(tried, now, failed=not proof.result())
        if proof.result():
            self._counted("ok")
            self.proofs.proven[wanted.digest] = wanted.cold
            self._proven(wanted.cold, wanted.token)
        else:
            self._counted("failed")
            self.proofs.refused[wanted.digest, wanted.cold.locator] = wanted.cold
        return None

    def _give_up(self, tries: list[Try]) -> None:
        for each in tries:
            self._counted("refused")
            self._tell(each, Reason.OVERLOADED)

    def _tell(self, tried: Try, reason: Reason | None) -> None:
        loop = asyncio.get_running_loop()
        for done in tried.dones:
            # Each on its own: a fault of one must not keep the others waiting.
            loop.call_soon(done, reason)


def _network(address: str) -> str:
    """Return what stands for one caller among addresses: of IPv6 the network of 64 bits that a host gets."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a Unix socket's peer
    return address if parsed.version == 4 else str(ipaddress.ip_network(f"{address}/64", strict=False))
