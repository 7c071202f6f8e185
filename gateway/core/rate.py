"""A rate limit as one number a caller: the generic cell rate algorithm. Pure; imports nothing.

The number is the theoretical arrival time of the caller's next request, on whatever clock the
caller of ``admitted`` uses. No bucket is filled by a timer, so nothing has to run.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Rate(NamedTuple):
    """At most ``quota`` requests in ``window_s`` seconds, all of which may come at once."""

    quota: int
    window_s: float


class Verdict(NamedTuple):
    """Whether a request is within the rate, and what is left.

    ``arrival`` is the number to keep; unchanged where the request is refused. ``remaining`` requests
    may follow at once; the whole count is there again in ``reset_s`` seconds. ``retry_s``: whole
    seconds after which a refused request would pass, 0 when it was not refused.
    """

    admitted: bool
    arrival: float
    remaining: int
    reset_s: float
    retry_s: int


def judge(rate: Rate, arrival: float, now: float) -> Verdict:
    """Judge one request at ``now``; ``arrival`` is what the last verdict said, 0 before any."""
    step = rate.window_s / rate.quota
    due = max(arrival, now) + step
    ahead = due - now
    if ahead > rate.window_s + step * 1e-6:
        return Verdict(False, arrival, 0, arrival - now, max(1, math.ceil(ahead - rate.window_s)))
    remaining = int((rate.window_s - ahead) / step + 1e-6)
    return Verdict(True, due, remaining, ahead, 0)
