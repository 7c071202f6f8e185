"""UUID version 7 (RFC 9562 §5.7): ids that sort by the time they were made. Pure: both are arguments."""

from __future__ import annotations

import uuid


def uuid7(milliseconds: int, entropy: bytes) -> str:
    """Return the UUID of an instant (epoch milliseconds) and ten random bytes."""
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(entropy[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))
