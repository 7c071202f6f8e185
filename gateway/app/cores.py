"""How many workers there are to be: as many as was said, or as there are cores for them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from gateway.config.settings import MOST_WORKERS

# Where a container's share of the machine's time is told (cgroups(7), version 2 and 1).
_CGROUP = Path("/sys/fs/cgroup")


def worker_count(workers: int | str) -> int:
    """Return the number that the setting ``workers`` means on this machine."""
    return workers if isinstance(workers, int) else min(cores(), MOST_WORKERS)


def cores(cgroup: Path = _CGROUP) -> int:
    """Return how many cores this process may use: those it may run on, within its container's share."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(there, _quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """Return the container's share in cores; infinite without one."""
    second = _words(cgroup / "cpu.max")
    first = _words(cgroup / "cpu/cpu.cfs_quota_us") + _words(cgroup / "cpu/cpu.cfs_period_us")
    for words in (second, first):
        # "max" and -1 stand for no limit; zero is no share that a process could run on.
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
            return int(words[0]) / int(words[1])
    return math.inf


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
