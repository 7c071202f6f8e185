"""The grammar of response heads, held to the same strictness as requests (RFC 9112 §4, §6.3).

Pure; imports ``core`` only.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache

import msgspec

from gateway.core.fields import RESPONSE_KINDS, Kind, classify_response_field
from gateway.core.grammar import ENDLESS, LINE_BYTES, NO_LENGTH, connection_options, parse_content_length

RESPONSE_HEAD_MAX = 65536
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")
_TIMEOUT = re.compile(rb"(?:^|[,\s])timeout=\"?([0-9]{1,9})")


class Framing(enum.IntEnum):
    """Where a response's content ends (RFC 9112 §6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


class ResponseHead(msgspec.Struct, gc=False):
    """A response head that is well-formed. Not changed once read, so one value may serve again.

    ``lines`` travel on as they came; ``raw`` is what it was read from. ``idle_s`` is the backend's
    own ``Keep-Alive: timeout``, in seconds, or None.
    """

    raw: bytes
    minor: int
    status: int
    status_text: bytes
    lines: list[bytes]
    content_length: int = NO_LENGTH
    chunked: bool = False
    keep_alive: bool = True
    has_date: bool = False
    idle_s: int | None = None
    connection: tuple[bytes, ...] = ()


def parse_response_head(data: bytes) -> ResponseHead | None:
    """Read a whole response head, given without its blank line; None if it is not valid HTTP/1.x."""
    lines = data.split(b"\r\n")
    status_line = read_status_line(lines[0])
    # With every legal byte taken out, what is left must be the line breaks, each a pair.
    if status_line is None or data.translate(None, LINE_BYTES) != b"\r\n" * (len(lines) - 1):
        return None
    minor, status, text = status_line
    kept: list[bytes] = []
    head = ResponseHead(data, minor, status, text, kept)
    del lines[0]
    for line in lines:
        name, colon, value = line.partition(b":")
        kind = RESPONSE_KINDS.get(name)
        if kind is None:
            kind = classify_response_field(name)
        if not colon:
            return None
        if kind is _PLAIN:
            kept.append(line)
        elif kind is _DATE and not head.has_date:
            head.has_date = True
            kept.append(line)
        elif kind is not _DROPPED and not _take(head, kind, value.strip(b" \t")):
            return None
    return _settled(head)


# Enum members cost a look-up each; a loop over field lines wants them at hand.
_PLAIN = Kind.PLAIN
_DROPPED = Kind.DROPPED
_DATE = Kind.DATE
_CONTENT_LENGTH = Kind.CONTENT_LENGTH
_CONNECTION = Kind.CONNECTION


def read_status_line(line: bytes) -> tuple[int, int, bytes] | None:
    """Return the minor version, the status and the text after the version; None if not valid."""
    # A longer line is read each time: what backends send must not fill the memory.
    return _status_line(line) if len(line) <= _REMEMBERED_LINE_MAX else _status_line.__wrapped__(line)


_REMEMBERED_LINE_MAX = 128


@lru_cache(maxsize=256)
def _status_line(line: bytes) -> tuple[int, int, bytes] | None:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return None
    minor, status, reason = match.groups(b"")
    return int(minor), int(status), b"%b %b" % (status, reason)


def _take(head: ResponseHead, kind: Kind, value: bytes) -> bool:
    """Take a line that means something to us; False if it is not valid here."""
    if kind is _CONTENT_LENGTH:
        length = parse_content_length(value)
        if length is None or length >= ENDLESS or head.content_length != NO_LENGTH:
            return False
        head.content_length = length
    elif kind is _CONNECTION:
        head.connection += connection_options(value)
    elif kind == Kind.TRANSFER_ENCODING:
        if head.chunked or head.minor == 0 or value.lower() != b"chunked":
            return False
        head.chunked = True
    elif kind == Kind.KEEP_ALIVE:
        timeout = _TIMEOUT.search(value.lower())
        head.idle_s = int(timeout[1]) if timeout else head.idle_s
    else:
        # A second Date is dropped: one is sent (RFC 9110 §6.6.1). What is no token is not valid.
        return kind is _DATE
    return True


def _settled(head: ResponseHead) -> ResponseHead | None:
    if head.chunked and head.content_length != NO_LENGTH:
        return None
    options = head.connection
    if options:
        head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
        if len(options) > 1 or options[0] not in _PERSISTENCE:
            named = frozenset(options) - _PERSISTENCE - {b"date"}
            head.lines[:] = [line for line in head.lines if line.partition(b":")[0].lower() not in named]
    elif head.minor == 0:
        head.keep_alive = False
    return head


_PERSISTENCE = frozenset((b"close", b"keep-alive"))
# No content follows these, whatever their fields say: RFC 9112 §6.3, and 205 by RFC 9110 §15.3.6.
_EMPTY = frozenset((204, 205, 304))


def response_framing(head: ResponseHead, method: bytes) -> Framing:
    """Tell how the content that follows this head is framed, given the request's method."""
    if head.content_length > 0 and method != b"HEAD" and head.status >= 200 and head.status not in _EMPTY:
        return _LENGTH
    if method == b"HEAD" or head.status < 200 or head.status in _EMPTY or head.content_length == 0:
        return _NONE
    return Framing.CHUNKED if head.chunked else Framing.CLOSE


_NONE = Framing.NONE
_LENGTH = Framing.LENGTH
