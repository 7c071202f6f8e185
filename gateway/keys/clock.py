"""The clock that ages are measured on: one that no one sets, and that counts a suspended machine's sleep."""

from __future__ import annotations

import time

COUNTS_SUSPENSION = hasattr(time, "CLOCK_BOOTTIME")
"""False where the platform offers only a monotonic clock, which may stand still in suspension."""


def boot_clock() -> float:
    """Return seconds since boot: CLOCK_BOOTTIME where there is one, else the monotonic clock."""
    if COUNTS_SUSPENSION:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
