"""The clock that ages are measured on: one that no one sets, and that counts a suspended machine's sleep."""

from __future__ import annotations

import time
from pathlib import Path

COUNTS_SUSPENSION = hasattr(time, "CLOCK_BOOTTIME")
"""False where the platform offers only a monotonic clock, which may stand still in suspension."""


def boot_clock() -> float:
    """Return seconds since boot: CLOCK_BOOTTIME where there is one, else the monotonic clock."""
    if COUNTS_SUSPENSION:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def boot_id() -> str | None:
    """Return what names this run of the boot clock; None where the platform does not tell.

    It is Linux's random id of the boot, and how far the process's time namespace (time_namespaces(7)) has
    set that clock off. The namespace's own number would not do: the next one may be given the same.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    try:
        return " ".join([boot, *Path("/proc/self/timens_offsets").read_text().split()])
    except OSError:  # Linux before 5.6 has none
        return boot
