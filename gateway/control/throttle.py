"""How often a password may be guessed: per name and address, and per address; never per name alone.

Failures are counted in the store, for all replicas. Attempts under way are counted too, and wait for
one another where they could exceed what is left: many right ones at once all pass, of many wrong
ones no more are looked at than would be one after another. Imports ``core``, ``store`` and its own
plane.

Promise: nobody can lock a user out from where she is not; a name that is nobody's is counted as any.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import math
import os
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Callable

from cachetools import LRUCache

from gateway.control.errors import Busy, Refused
from gateway.core.tokens import Digester
from gateway.core.uuid7 import uuid7
from gateway.store.base import AuditRow, Store
from gateway.store.login_attempts import (
    Admission,
    Admitted,
    Attempt,
    AttemptLimits,
    Bucket,
    Exhausted,
    FailureAudit,
    admit_attempt,
    fail_attempt,
    pass_attempt,
    withdraw_attempt,
)

LIMITS = AttemptLimits(
    # A person who has not found her password after ten tries looks it up. From one place that is
    # under a thousand guesses a day.
    per_pair=10,
    # An office or a carrier's translator has many people behind one address; a guesser goes through
    # as many names.
    per_address=100,
    window_ms=15 * 60_000,
    # Longer than any attempt waits for its hash; a process that died holds up nobody for longer.
    lease_ms=60_000,
    # Some ten thousand rows a day, were somebody to guess from everywhere without pause.
    audited=100,
)
MOST_AT_ONCE = 1024
"""Attempts in one process, the waiting ones included; the control listener has fewer connections."""
LONGEST_WAIT_S = 30.0
"""How long an attempt waits for those before it, before it is told to come back."""
ASK_AGAIN_S = 0.5
"""How soon the store is asked again whether an attempt on another replica has ended."""
REMEMBERED = 8192
"""Exhausted pairs and addresses that are refused without asking the store."""
_LABEL = b"gateway login attempts"
_LONGEST_NAME = 1024
_IPV6_SITE = 64  # RFC 6177: what one subscriber has at the least, to choose addresses from at will


class Throttled(Refused):
    """There were too many failures: a further attempt may be made after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many attempts to log in have failed: wait before the next one")
        self.retry_after_s = retry_after_s


class Throttle:
    """Admits attempts to log in, and is told how each ended."""

    def __init__(
        self,
        store: Store,
        digester: Digester,
        clock: Callable[[], float] = time.time,
        limits: AttemptLimits = LIMITS,
    ) -> None:
        """Take a migrated store and the digester of its pepper; ``clock`` tells epoch seconds."""
        self._store = store
        self._key = digester.derived_key(_LABEL)
        self._clock = clock
        self._limits = limits
        self._inside = 0
        self._under_way: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._exhausted: LRUCache[str, int] = LRUCache(REMEMBERED)

    async def admit(self, name: str, address: str) -> Attempt:
        """Return an attempt that may be made now; one of the other methods must be told of its end.

        ``name`` is what was typed, ``address`` the peer's. Waits while attempts under way may use up
        what is left. Raises Throttled, Busy (too many wait, or it waited too long), StoreError.
        """
        attempt = self._attempt(name, address)
        if self._inside >= MOST_AT_ONCE:
            raise Busy("too many people are logging in at once: try again soon")
        self._inside += 1
        admitted = False
        try:
            deadline = time.monotonic() + LONGEST_WAIT_S
            while (bucket := await self._try(attempt)) is not None:
                if time.monotonic() >= deadline:
                    raise Busy("other attempts to log in have not ended yet: try again soon")
                await self._wait_for(_key(attempt, bucket))
            admitted = True
        finally:
            self._inside -= not admitted
        return attempt

    async def failed(self, attempt: Attempt, email: str, audit_of: FailureAudit) -> None:
        """Count an attempt as a failure."""
        try:
            failed = fail_attempt(attempt, self._limits, self._now(), email, audit_of)
            await self._store.write(failed, alone=False)
        finally:
            self._ended(attempt)

    async def passed(self, attempt: Attempt, audit: AuditRow) -> None:
        """Forget an attempt that succeeded, and the failures of its name and address."""
        try:
            await self._store.write(pass_attempt(attempt, audit), alone=False)
        finally:
            self._ended(attempt)

    async def withdraw(self, attempt: Attempt) -> None:
        """Forget an attempt whose password was not looked at."""
        try:
            await self._store.write(withdraw_attempt(attempt), alone=False)
        finally:
            self._ended(attempt)

    async def _try(self, attempt: Attempt) -> Bucket | None:
        """Ask for admission; return what is crowded, or None once admitted. Raises Throttled."""
        self._check_remembered(attempt)
        # Those of this process are known without asking the store.
        if self._under_way[attempt.pair] >= self._limits.per_pair:
            return "pair"
        if self._under_way[attempt.address] >= self._limits.per_address:
            return "address"
        self._under_way.update((attempt.pair, attempt.address))
        outcome: Admission | None = None
        try:
            admission = admit_attempt(attempt, self._limits, self._now())
            outcome = await self._store.write(admission, alone=False)
        finally:
            if not isinstance(outcome, Admitted):
                self._leave(attempt)
        if isinstance(outcome, Admitted):
            return None
        if isinstance(outcome, Exhausted):
            key = _key(attempt, outcome.bucket)
            self._exhausted[key] = outcome.until
            while key in self._waiting:
                self._wake(key)
            self._check_remembered(attempt)
        return outcome.bucket

    async def _wait_for(self, key: str) -> None:
        """Wait until an attempt of this process may have made room; or a while, for those elsewhere."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(key, deque())
        queue.append(turn)
        try:
            await asyncio.wait([turn], timeout=ASK_AGAIN_S)
        finally:
            if not turn.done():
                queue.remove(turn)
                if not queue:
                    del self._waiting[key]

    def _ended(self, attempt: Attempt) -> None:
        self._inside -= 1
        self._leave(attempt)
        for key in (attempt.pair, attempt.address):
            self._wake(key)

    def _leave(self, attempt: Attempt) -> None:
        self._under_way.subtract((attempt.pair, attempt.address))
        for key in (attempt.pair, attempt.address):
            if not self._under_way[key]:
                del self._under_way[key]

    def _wake(self, key: str) -> None:
        """Let the first who waits try again."""
        if queue := self._waiting.get(key):
            queue.popleft().set_result(None)
            if not queue:
                del self._waiting[key]

    def _check_remembered(self, attempt: Attempt) -> None:
        """Raise Throttled if the store has said that there were too many failures."""
        until = max(self._exhausted.get(attempt.pair, 0), self._exhausted.get(attempt.address, 0))
        if (left := until - self._now()) > 0:
            raise Throttled(math.ceil(left / 1000))

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _attempt(self, name: str, address: str) -> Attempt:
        site = site_of(address)
        typed = unicodedata.normalize("NFC", name[:_LONGEST_NAME]).lower()
        pair = hmac.digest(self._key, f"{site}\0{typed}".encode(errors="replace"), hashlib.sha256)
        return Attempt(id=uuid7(self._now(), os.urandom(10)), pair=pair.hex(), address=site)


def site_of(address: str) -> str:
    """Return what one subscriber has: an IPv4 address, or an IPv6 network of 64 bits.

    What is no address (a Unix socket has none) stands for itself.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, _IPV6_SITE), strict=False))


def _key(attempt: Attempt, bucket: Bucket) -> str:
    return attempt.pair if bucket == "pair" else attempt.address
