"""The grammar of response heads, held to the same strictness as requests (RFC 9112 §4, §6.3).

Pure; imports ``core`` only.
"""

from __future__ import annotations

import enum
import re

import msgspec

from gateway.core.fields import RESPONSE_KINDS, Kind, classify_response_field
from gateway.core.http1 import HEAD_BYTES, NO_LENGTH, connection_options, parse_content_length

RESPONSE_HEAD_MAX = 65536
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([^\r\n]*))?")
_TIMEOUT = re.compile(rb"(?:^|[,\s])timeout=\"?([0-9]{1,9})")


class Framing(enum.IntEnum):
    """Where a response's content ends (RFC 9112 §6.3)."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


class ResponseHead(msgspec.Struct, gc=False):
    """A response head that is well-formed; ``lines`` travel on as they came.

    ``idle_s`` is the backend's own ``Keep-Alive: timeout``, in seconds, or None.
    """

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
    breaks = len(lines) - 1
    if data.translate(None, HEAD_BYTES) or data.count(b"\n") != breaks or data.count(b"\r") != breaks:
        return None
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        return None
    minor, status, reason = match.groups(b"")
    head = ResponseHead(int(minor), int(status), b"%b %b" % (status, reason), [])
    kept = head.lines
    del lines[0]
    for line in lines:
        name, colon, value = line.partition(b":")
        kind = RESPONSE_KINDS.get(name)
        if kind is None:
            kind = classify_response_field(name)
        if not colon:
            return None
        if not kind:
            kept.append(line)
        elif kind != Kind.DROPPED and not _take(head, kind, line, value.strip(b" \t")):
            return None
    return _settled(head)


def _take(head: ResponseHead, kind: Kind, line: bytes, value: bytes) -> bool:
    """Take a line that means something to us; False if it is not valid here."""
    if kind == Kind.DATE:
        if not head.has_date:
            head.has_date = True
            head.lines.append(line)
    elif kind == Kind.CONTENT_LENGTH:
        length = parse_content_length(value)
        if length is None or head.content_length != NO_LENGTH:
            return False
        head.content_length = length
    elif kind == Kind.TRANSFER_ENCODING:
        if head.chunked or head.minor == 0 or value.lower() != b"chunked":
            return False
        head.chunked = True
    elif kind == Kind.CONNECTION:
        head.connection += connection_options(value)
    elif kind == Kind.KEEP_ALIVE:
        timeout = _TIMEOUT.search(value.lower())
        head.idle_s = int(timeout[1]) if timeout else head.idle_s
    else:
        return False
    return True


def _settled(head: ResponseHead) -> ResponseHead | None:
    if head.chunked and head.content_length != NO_LENGTH:
        return None
    options = head.connection
    if options:
        head.keep_alive = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
        named = frozenset(options) - {b"close", b"keep-alive", b"date"}
        if named:
            head.lines[:] = [line for line in head.lines if line.partition(b":")[0].lower() not in named]
    elif head.minor == 0:
        head.keep_alive = False
    return head


def response_framing(head: ResponseHead, method: bytes) -> Framing:
    """Tell how the content that follows this head is framed, given the request's method.

    205 has no content either (RFC 9110 §15.3.6), whatever its fields say.
    """
    status = head.status
    if method == b"HEAD" or status == 204 or status == 304 or status == 205 or status < 200:
        return Framing.NONE
    if head.chunked:
        return Framing.CHUNKED
    if head.content_length >= 0:
        return Framing.LENGTH if head.content_length else Framing.NONE
    return Framing.CLOSE
