"""The values that heads of requests and responses share the grammar of (RFC 9110 §5.5, §7.2, §7.6.1, §8.6).

Pure; imports nothing of the project.
"""

from __future__ import annotations

import re
from functools import lru_cache

# RFC 9110 §5.5: visible characters, SP, HTAB and obs-text.
LINE_BYTES = bytes(b for b in range(256) if b == 9 or 0x20 <= b != 0x7F)

NO_LENGTH = -1
# A Content-Length of more digits than any body has: over every limit (RFC 9112 §6.3 on overflow).
ENDLESS = 10**19

# A registered name, an IPv4 address or a bracketed IPv6 address, and a port (RFC 3986 §3.2.2, less
# sub-delims and escapes, which no host in use has and which other parsers read differently).
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")


def is_authority(value: bytes) -> bool:
    """Tell whether ``value`` is one host and, at most, a port up to 65535."""
    match = _HOST.fullmatch(value)
    return match is not None and (not match[1] or int(match[1]) <= 65535)


def parse_content_length(value: bytes) -> int | None:
    """Return the length in bytes; None unless ASCII digits without a needless zero (RFC 9110 §8.6)."""
    if not value.isdigit() or (value[:1] == b"0" and len(value) > 1):
        return None
    return int(value) if len(value) <= 19 else ENDLESS


def connection_options(value: bytes) -> tuple[bytes, ...]:
    """Return the options of a Connection value, lower-case, without empty ones (RFC 9110 §7.6.1)."""
    # A longer value is read each time: what strangers send must not fill the memory.
    return _options(value) if len(value) <= _REMEMBERED_VALUE_MAX else _options.__wrapped__(value)


_REMEMBERED_VALUE_MAX = 128


@lru_cache(maxsize=256)
def _options(value: bytes) -> tuple[bytes, ...]:
    return tuple(option for part in value.lower().split(b",") if (option := part.strip(b" \t")))
