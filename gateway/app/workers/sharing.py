"""Which worker accepts from which listening sockets: never nobody, and nobody who has no keys yet.

Pure: what is known of the workers is an argument.

Each address has a socket for each worker (then the system deals connections out), or one for all. A
socket is its worker's own while that one serves; else all who serve accept from it too, so that no
caller waits for a worker that is gone, is stuck, or still loads a million keys.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence


class Standing(enum.Enum):
    """What a worker may be given."""

    SERVES = enum.auto()  # it has keys that are fresh enough, and answers
    WAITS = enum.auto()  # it answers, but would refuse whom it does not know
    OUT = enum.auto()  # it is not there, does not answer, or is leaving


def owned_by(shares: Sequence[Sequence[int]], worker: int) -> frozenset[int]:
    """Return the sockets that are ``worker``'s own; ``shares`` are each address's sockets."""
    return frozenset(sockets[worker if len(sockets) > 1 else 0] for sockets in shares)


def shared_out(
    shares: Sequence[Sequence[int]], standings: Sequence[Standing], *, patient: bool
) -> list[frozenset[int]]:
    """Return the sockets that each worker is to accept from.

    Where nobody serves, callers wait in the queue as long as ``patient``; then they are accepted all
    the same, and told why they are refused.
    """
    best = Standing.SERVES if Standing.SERVES in standings else Standing.WAITS
    if best is Standing.WAITS and patient:
        return [frozenset()] * len(standings)
    everything = frozenset().union(*shares)
    taken = [owned_by(shares, w) for w, standing in enumerate(standings) if standing is best]
    orphans = everything.difference(*taken)
    return [
        owned_by(shares, w) | orphans if standing is best else frozenset()
        for w, standing in enumerate(standings)
    ]
