"""How much and how long: the limits and deadlines that a connection is held to. Imports nothing."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes in bytes or counts; ``head_bytes`` counts from the request line to the blank line."""

    head_bytes: int = 32768
    header_lines: int = 128
    target_bytes: int = 8192
    body_bytes: int | None = None
    connections: int = 10000


class Timeouts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deadlines in seconds (design §9 and §10 say what each binds)."""

    head: float = 10.0
    keep_alive: float = 75.0
    body_stall: float = 30.0
    response_head: float = 60.0
    response_stall: float = 3600.0
    connect: float = 2.0
    upstream_idle: float = 4.0
    drain_delay: float = 5.0
    drain: float = 20.0
