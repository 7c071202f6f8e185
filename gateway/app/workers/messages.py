"""What the supervisor and a worker say to each other."""

from __future__ import annotations

import msgspec

from gateway.config.settings import Settings
from gateway.observe import Family


class Brief(msgspec.Struct, frozen=True):
    """What a worker is told first; pickled, since settings are no plain values.

    Attributes:
        settings: those of the gateway, with this worker's share of the connections.
        sockets: the descriptors of every listening socket.
        log_lock: the descriptor of the file whose lock is held by whoever writes to the access log.
        pseudonym: the name of all workers in ``Via``.
        migrated: the store was there and has been brought up to date.
        keeps: this worker writes the kept table, from which all can start.
    """

    settings: Settings
    sockets: tuple[int, ...]
    log_lock: int
    pseudonym: bytes
    migrated: bool
    keeps: bool = False


class Accept(msgspec.Struct, frozen=True, tag=True):
    """Accept from these listening sockets (their places in `Brief.sockets`) and from no others."""

    sockets: tuple[int, ...]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Report; ``whole``: with the numbers, whatever they cost."""

    number: int
    whole: bool


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Tell callers to go elsewhere, but serve them still."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Accept no more, finish what runs, and end; the other workers have the listening sockets."""


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Take in what has queued, accept no more, finish what runs, and end: so do the other workers."""


class End(msgspec.Struct, frozen=True, tag=True):
    """End at once."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The worker cannot start: one sentence for the operator."""

    why: str


class Leaving(msgspec.Struct, frozen=True, tag=True):
    """Somebody has asked this worker alone to end."""


class Report(msgspec.Struct, frozen=True, tag=True):
    """How a worker stands; the first tells that it is there, though it has no keys yet.

    Attributes:
        number: of the last `Ask` that was heard.
        ready: requests should be sent there.
        sentence: why, or why not.
        synced: the keys were loaded once.
        accepting: the listening sockets that it accepts from.
        numbers: its metrics; None where they are left for a later report.
    """

    number: int
    ready: bool
    sentence: str
    synced: bool
    accepting: tuple[int, ...]
    numbers: list[Family] | None = None


ToWorker = Accept | Ask | Drain | Leave | Finish | End
FromWorker = Refused | Leaving | Report
