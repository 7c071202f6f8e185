"""The grammar of HTTP/1.1 heads (RFC 9112), read strictly: anything ambiguous is refused.

A head comes as the bytes before its blank line. Refusals are values (`Reason`), and the same for
any split of the bytes into reads: faults of the request line come first, then those of field
lines in order, then limits, then what only the whole head shows. Field lines that travel on keep
their very bytes. Pure; imports ``core`` only.
"""

from __future__ import annotations

import re

import msgspec

from gateway.core.fields import TOKEN, Kind, classify_request_field
from gateway.core.grammar import LINE_BYTES, is_authority
from gateway.core.limits import Limits
from gateway.core.refusals import Reason
from gateway.core.section import FieldSection, read_fields
from gateway.core.target import SUSPICIOUS, TARGET_BYTES, PathView, split_target, view_path

# What llhttp knows, less CONNECT, TRACE (405) and the verbs of RTSP and HTTP/2.
METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH QUERY COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK"
    b" BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE"
    b" PURGE MKCALENDAR LINK UNLINK SOURCE".split()
)
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_METHOD_MAX = 64


class RequestHead(msgspec.Struct, gc=False):
    """A request head that is well-formed; ``target`` is in origin form, or the asterisk of OPTIONS."""

    method: bytes
    target: bytes
    view: PathView
    fields: FieldSection

    @property
    def is_asterisk(self) -> bool:
        """Tell whether this is ``OPTIONS *``, which asks the server itself (RFC 9110 §9.3.7)."""
        return self.target == b"*"


def parse_request_head(data: bytes, limits: Limits, last: FieldSection | None = None) -> RequestHead | Reason:
    """Read a whole head, given without the blank line that ends it.

    ``last`` is the field section of the request before on the same connection: a caller that
    repeats its lines to the byte, as clients do, need not have them read again.

    Returns the head, or why the message itself is refused; then the connection must be closed.
    """
    line, _, section = data.partition(b"\r\n")
    parts = line.split(b" ")
    fault = _request_line_fault(line, parts, limits)
    if fault is not None:
        return fault
    method, target, version = parts
    minor = 1 if version == b"HTTP/1.1" else 0
    if last is not None and last.raw == section and last.minor == minor:
        fields = last
    else:
        read = read_fields(section, minor, limits.header_lines)
        if read is None:
            return head_fault(data + b"\r\n", limits) or Reason.HEAD_TOO_LARGE
        fields = read
        if fields.fault is not None:
            return fields.fault
    if not fields.host and minor == 1:
        return Reason.BAD_REQUEST
    if target[:1] != b"/" and target != b"*":
        absolute = _from_absolute_form(target, fields)
        if absolute is None:
            return Reason.BAD_REQUEST
        target, fields = absolute
    path = target if b"?" not in target else split_target(target)[0]
    if SUSPICIOUS.search(path) is None:
        return RequestHead(method, target, PathView((path,)), fields)
    return Reason.BAD_REQUEST if b"\\" in path else RequestHead(method, target, view_path(path), fields)


def _from_absolute_form(target: bytes, fields: FieldSection) -> tuple[bytes, FieldSection] | None:
    """Turn ``http://host/path`` into origin form; None unless it agrees with Host (RFC 9112 §3.2.2)."""
    authority, slash, rest = target[len(b"http://") :].partition(b"/")
    bare, mark, query = authority.partition(b"?")
    if mark:
        authority, rest = bare, mark + query + slash + rest
    if not is_authority(authority):
        return None
    if fields.host and _without_default_port(fields.host) != _without_default_port(authority):
        return None
    lines = [line for line in fields.lines if line[:5].lower() != b"host:"]
    lines.insert(0, b"Host: " + authority)
    return b"/" + rest, msgspec.structs.replace(fields, raw=None, lines=lines, host=authority)


def _without_default_port(authority: bytes) -> bytes:
    return authority.lower().removesuffix(b":80").removesuffix(b":")


def _request_line_fault(line: bytes, parts: list[bytes], limits: Limits) -> Reason | None:
    """Judge a complete request line whose bytes are legal in a head (RFC 9112 §3)."""
    if len(parts) == 3:
        method, target, version = parts
        if (
            method in METHODS
            and (version == b"HTTP/1.1" or version == b"HTTP/1.0")
            and len(target) <= limits.target_bytes
            and target[:1] == b"/"
            and not target.translate(None, TARGET_BYTES)
        ):
            return None
    return _odd_request_line_fault(line, limits)


def _odd_request_line_fault(line: bytes, limits: Limits) -> Reason | None:
    """Judge a request line that is not the common case, in the order that `head_fault` promises."""
    fault = _started_line_fault(line, limits)
    if fault is not None:
        return fault
    parts = line.split(b" ")
    if len(parts) != 3 or not TOKEN.fullmatch(parts[0]) or not _VERSION.fullmatch(parts[2]) or not parts[1]:
        return Reason.BAD_REQUEST
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return Reason.VERSION_NOT_SUPPORTED
    if method in _REFUSED_METHODS:
        return Reason.METHOD_NOT_ALLOWED
    if method not in METHODS:
        return Reason.NOT_IMPLEMENTED
    if target == b"*":
        return None if method == b"OPTIONS" else Reason.BAD_REQUEST
    if target.translate(None, TARGET_BYTES):
        return Reason.BAD_REQUEST
    if target[:1] != b"/" and target[:7].lower() != b"http://":
        return Reason.BAD_REQUEST
    return None


def _started_line_fault(line: bytes, limits: Limits) -> Reason | None:
    """Judge as much of a request line as is there: illegal bytes, then the target's length."""
    space = line.find(b" ", 0, _METHOD_MAX + 1)
    readable = line[: space + 1 + limits.target_bytes] if space >= 0 else line[: _METHOD_MAX + 1]
    if readable.translate(None, LINE_BYTES):
        return Reason.BAD_REQUEST
    if space < 0:
        return Reason.BAD_REQUEST if len(line) > _METHOD_MAX else None
    end = line.find(b" ", space + 1)
    target_bytes = (end if end >= 0 else len(line)) - space - 1
    return Reason.TARGET_TOO_LONG if target_bytes > limits.target_bytes else None


def head_fault(data: bytes, limits: Limits, judged: int = -1) -> Reason | None:
    """Judge a head that is not whole yet, or not well-formed, line by line in order.

    ``data`` begins with the request line; the lines up to the LF at ``judged`` have been found good
    before. Returns None while what is there could still become a good head within the limits.
    """
    first = data.count(b"\n", 0, judged + 1)
    lines = data[judged + 1 :].split(b"\n")
    started = lines.pop()
    for number, line in enumerate(lines, first):
        if number > limits.header_lines:
            return Reason.HEAD_TOO_LARGE
        fault = _line_fault(line, number, limits)
        if fault is not None:
            return fault
    if not lines and not first:
        # A CR may be the first half of the line's end.
        return _started_line_fault(started.removesuffix(b"\r"), limits)
    return None


def _line_fault(line: bytes, number: int, limits: Limits) -> Reason | None:
    """Judge one complete line, given with the CR before its LF (RFC 9112 §2.2: bare LF is refused)."""
    if line[-1:] != b"\r":
        fault = _started_line_fault(line, limits) if number == 0 else None
        return fault or Reason.BAD_REQUEST
    line = line[:-1]
    if number == 0:
        if line.translate(None, LINE_BYTES):
            return _started_line_fault(line, limits) or Reason.BAD_REQUEST
        return _request_line_fault(line, line.split(b" "), limits)
    name, colon, _ = line.partition(b":")
    if not line:
        return None
    if not colon or line.translate(None, LINE_BYTES) or classify_request_field(name) == Kind.INVALID:
        return Reason.BAD_REQUEST
    return None
