"""The grammar of HTTP/1.1 heads (RFC 9112), read strictly: anything ambiguous is refused.

A head comes as the bytes before its blank line. Refusals are values (`Reason`), and the same for
any split of the bytes into reads: faults of the request line come first, then those of field
lines in order, then limits, then what only the whole head shows. Field lines that travel on keep
their very bytes. Pure; imports ``core`` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from gateway.core.fields import (
    REQUEST_KINDS,
    TOKEN,
    Kind,
    classify_request_field,
)
from gateway.core.limits import Limits
from gateway.core.refusals import Reason
from gateway.core.target import SUSPICIOUS, TARGET_BYTES, PathView, split_target, view_path

# RFC 9110 §5.5: visible characters, SP, HTAB and obs-text.
LINE_BYTES = bytes(b for b in range(256) if b == 9 or 0x20 <= b != 0x7F)

# What llhttp knows, less CONNECT, TRACE (405) and the verbs of RTSP and HTTP/2.
METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH QUERY COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK"
    b" BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE"
    b" PURGE MKCALENDAR LINK UNLINK SOURCE".split()
)
_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_METHOD_MAX = 64

# A registered name, an IPv4 address or a bracketed IPv6 address, and a port (RFC 3986 §3.2.2, less
# sub-delims and escapes, which no host in use has and which other parsers read differently).
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

NO_LENGTH = -1
# A Content-Length of more digits than any body has: over every limit (RFC 9112 §6.3 on overflow).
ENDLESS = 10**19


class FieldSection(msgspec.Struct, gc=False):
    """The field lines of a request, read. Not changed once read, so one value may serve many requests.

    ``lines`` are those that travel on, in order, as they came; the lines of credentials and method
    overrides stand among them and are named apart, so that a route can decide. ``content_length``
    is -1 without one; ``via`` joins the Via values. ``raw`` and ``minor`` are what it was read from;
    ``raw`` is None where more than that went into it (absolute form).
    """

    raw: bytes | None
    minor: int
    lines: list[bytes]
    host: bytes = b""
    content_length: int = NO_LENGTH
    chunked: bool = False
    keep_alive: bool = True
    has_body: bool = False
    api_keys: tuple[tuple[bytes, bytes], ...] = ()
    authorizations: tuple[tuple[bytes, bytes], ...] = ()
    overrides: tuple[bytes, ...] = ()
    expectation: bytes = b""
    request_id: bytes = b""
    via: bytes = b""
    upgrade: bytes = b""
    connection: tuple[bytes, ...] = ()
    fault: Reason | None = None


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
        read = _read_fields(section, minor, limits)
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


def _read_fields(section: bytes, minor: int, limits: Limits) -> FieldSection | None:
    """Read a field section; None if a line is malformed or there are too many."""
    lines = section.split(b"\r\n") if section else []
    count = len(lines)
    # With every legal byte taken out, what is left must be the line breaks, each a pair.
    if count > limits.header_lines or section.translate(None, LINE_BYTES) != b"\r\n" * (count - 1):
        return None
    fields = FieldSection(section, minor, [])
    kept = fields.lines
    for line in lines:
        name, colon, value = line.partition(b":")
        kind = REQUEST_KINDS.get(name)
        if kind is None:
            kind = classify_request_field(name)
        if not colon:
            return None
        if kind is _PLAIN:
            kept.append(line)
        elif kind is not _DROPPED:
            if kind is _INVALID:
                return None
            _HANDLERS[kind](fields, line, value.strip(b" \t"))
    _settle(fields)
    return fields


# Enum members cost a look-up each; a loop over field lines wants them at hand.
_PLAIN = Kind.PLAIN
_DROPPED = Kind.DROPPED
_INVALID = Kind.INVALID


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


def head_fault(data: bytes, limits: Limits) -> Reason | None:
    """Judge a head that is not whole yet, or not well-formed, line by line in order.

    ``data`` begins with the request line. Returns None while what is there could still become a
    good head within the limits.
    """
    lines = data.split(b"\n")
    started = lines.pop()
    for number, line in enumerate(lines):
        if number > limits.header_lines:
            return Reason.HEAD_TOO_LARGE
        fault = _line_fault(line, number, limits)
        if fault is not None:
            return fault
    if not lines:
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


# -- One field each. Faults found here are told only when every line has been read.


def _refuse(fields: FieldSection, reason: Reason = Reason.BAD_REQUEST) -> None:
    if fields.fault is None:
        fields.fault = reason


def _on_host(fields: FieldSection, line: bytes, value: bytes) -> None:
    if fields.host or not is_authority(value):
        _refuse(fields)
    fields.host = value or b" "
    fields.lines.append(line)


def is_authority(value: bytes) -> bool:
    """Tell whether ``value`` is one host and, at most, a port up to 65535."""
    match = _HOST.fullmatch(value)
    return match is not None and (not match[1] or int(match[1]) <= 65535)


def _on_content_length(fields: FieldSection, line: bytes, value: bytes) -> None:
    length = parse_content_length(value)
    if length is None or fields.content_length != NO_LENGTH:
        _refuse(fields)
    else:
        fields.content_length = length
    fields.lines.append(line)


def parse_content_length(value: bytes) -> int | None:
    """Return the length in bytes; None unless ASCII digits without a needless zero (RFC 9110 §8.6)."""
    if not value.isdigit() or (value[:1] == b"0" and len(value) > 1):
        return None
    return int(value) if len(value) <= 19 else ENDLESS


def _on_transfer_encoding(fields: FieldSection, line: bytes, value: bytes) -> None:
    # RFC 9112 §6.1: one final chunked, and nothing that another parser might read otherwise.
    if fields.chunked or fields.minor == 0:
        _refuse(fields)
    elif value.lower() == b"chunked":
        fields.chunked = True
    else:
        _refuse(fields, Reason.NOT_IMPLEMENTED if _is_other_coding(value) else Reason.BAD_REQUEST)


def _is_other_coding(value: bytes) -> bool:
    return bool(TOKEN.fullmatch(value)) and b"chunked" not in value.lower()


def _on_connection(fields: FieldSection, line: bytes, value: bytes) -> None:
    fields.connection += connection_options(value)


def connection_options(value: bytes) -> tuple[bytes, ...]:
    """Return the options of a Connection value, lower-case, without empty ones (RFC 9110 §7.6.1)."""
    # A longer value is read each time: what strangers send must not fill the memory.
    return _options(value) if len(value) <= _REMEMBERED_VALUE_MAX else _options.__wrapped__(value)


_REMEMBERED_VALUE_MAX = 128


@lru_cache(maxsize=256)
def _options(value: bytes) -> tuple[bytes, ...]:
    return tuple(option for part in value.lower().split(b",") if (option := part.strip(b" \t")))


def _on_api_key(fields: FieldSection, line: bytes, value: bytes) -> None:
    fields.api_keys += ((line, value),)
    fields.lines.append(line)


def _on_authorization(fields: FieldSection, line: bytes, value: bytes) -> None:
    fields.authorizations += ((line, value),)
    fields.lines.append(line)


def _on_expect(fields: FieldSection, line: bytes, value: bytes) -> None:
    # RFC 9110 §10.1.1: a server ignores the expectation of an HTTP/1.0 caller.
    if fields.minor == 0:
        return
    fields.expectation = b"%b, %b" % (fields.expectation, value) if fields.expectation else value or b" "
    fields.lines.append(line)


def _on_upgrade(fields: FieldSection, line: bytes, value: bytes) -> None:
    fields.upgrade += value.lower() + b","


def _on_request_id(fields: FieldSection, line: bytes, value: bytes) -> None:
    if _REQUEST_ID.fullmatch(value) and not fields.request_id:
        fields.request_id = value


def _on_via(fields: FieldSection, line: bytes, value: bytes) -> None:
    fields.via += b"," + value
    fields.lines.append(line)


def _on_override(fields: FieldSection, line: bytes, value: bytes) -> None:
    fields.overrides += (line,)
    fields.lines.append(line)


_HANDLERS: dict[Kind, Callable[[FieldSection, bytes, bytes], None]] = {
    Kind.HOST: _on_host,
    Kind.CONTENT_LENGTH: _on_content_length,
    Kind.TRANSFER_ENCODING: _on_transfer_encoding,
    Kind.CONNECTION: _on_connection,
    Kind.API_KEY: _on_api_key,
    Kind.AUTHORIZATION: _on_authorization,
    Kind.EXPECT: _on_expect,
    Kind.UPGRADE: _on_upgrade,
    Kind.REQUEST_ID: _on_request_id,
    Kind.VIA: _on_via,
    Kind.METHOD_OVERRIDE: _on_override,
}


# -- What only the whole section shows.


def _settle(fields: FieldSection) -> None:
    length = fields.content_length
    fields.has_body = fields.chunked or length > 0
    # RFC 9112 §6.3: both framings present; refuse, don't choose.
    if fields.chunked and length != NO_LENGTH:
        _refuse(fields)
    if fields.upgrade and fields.has_body and b"websocket" in fields.upgrade:
        _refuse(fields)
    if fields.connection:
        _apply_connection(fields)
    elif fields.minor == 0:
        fields.keep_alive = False


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


# Fields that Connection cannot name away: framing, routing, credentials (Go CVE-2021-33197, Akamai
# CVE-2026-26365). Our own names are removed from every request anyhow.
_UNNAMEABLE = frozenset(
    (Kind.HOST, Kind.CONTENT_LENGTH, Kind.API_KEY, Kind.AUTHORIZATION, Kind.EXPECT, Kind.METHOD_OVERRIDE)
)


def _apply_connection(fields: FieldSection) -> None:
    options = fields.connection
    close = b"close" in options
    fields.keep_alive = not close and (fields.minor == 1 or b"keep-alive" in options)
    named = frozenset(options) - {b"close", b"keep-alive"}
    if named:
        fields.lines[:] = [line for line in fields.lines if not _is_named(line, named)]


def _is_named(line: bytes, named: frozenset[bytes]) -> bool:
    name = line.partition(b":")[0]
    return name.lower() in named and classify_request_field(name) not in _UNNAMEABLE
