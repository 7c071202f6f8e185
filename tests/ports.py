"""Ports of loopback for what tests start."""

from __future__ import annotations

import itertools
import os
import socket

# Below those that the system gives to whoever connects somewhere: none is taken between choice and use.
_FIRST, _LAST = 12_000, 32_000
# Of processes that share a run's tests each has a part of its own; runs at once begin in different places.
_sharers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_part = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_run = os.getpid() if _sharers == 1 else os.getppid()
_candidates = itertools.cycle(range(_FIRST + _part, _LAST, _sharers))
for _ in range(_run * 61 % (_LAST - _FIRST)):
    next(_candidates)


def free_port() -> int:
    """Return a port that nobody listens at, another one each time."""
    for port in itertools.islice(_candidates, _LAST - _FIRST):
        with socket.socket() as sock:
            # As a server does: connections that have ended do not count.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no port is free")
