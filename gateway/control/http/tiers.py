"""How often one caller may ask: the tiers of ``003``, counted across dialects.

Imports ``core`` and its own plane; the state is one number a caller and tier, bounded in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from cachetools import LRUCache

from gateway.control.http.endpoints import Tier
from gateway.control.http.faults import Fault, FaultError
from gateway.core.rate import Rate, judge

RATES: Mapping[Tier, Rate] = {"read": Rate(1000, 60.0), "write": Rate(100, 60.0)}
"""``003``: Tier 1, 1000 requests a minute; Tier 2, 100 requests a minute."""
MOST_CALLERS = 50_000


class Tiers:
    """Counts what each caller asks."""

    def __init__(self, clock: Callable[[], float], rates: Mapping[Tier, Rate] = RATES) -> None:
        """Take a monotonic clock, in seconds."""
        self._clock = clock
        self._rates = rates
        self._arrivals: LRUCache[tuple[str, Tier], float] = LRUCache(MOST_CALLERS)

    def count(self, caller: str, tier: Tier) -> tuple[tuple[str, str], ...]:
        """Count one request; return the field lines that tell what is left. Raises FaultError (429)."""
        rate = self._rates[tier]
        verdict = judge(rate, self._arrivals.get((caller, tier), 0.0), self._clock())
        # draft-ietf-httpapi-ratelimit-headers
        told = (
            ("RateLimit-Policy", f'"{tier}";q={rate.quota};w={rate.window_s:.0f}'),
            ("RateLimit", f'"{tier}";r={verdict.remaining};t={math.ceil(verdict.reset_s)}'),
        )
        if not verdict.admitted:
            detail = f"More than {rate.quota} requests in {rate.window_s:.0f} seconds: wait and try again."
            headers = (("Retry-After", str(verdict.retry_s)), *told)
            raise FaultError(Fault(429, "rate_limited", "Too many requests", detail, headers=headers))
        self._arrivals[caller, tier] = verdict.arrival
        return told
