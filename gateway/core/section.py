"""A request's field section, read strictly into what the decision and the backend need (RFC 9112 §5, §6).

Field lines that travel on keep their very bytes. Pure; imports ``core`` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from gateway.core.fields import REQUEST_KINDS, TOKEN, Kind, classify_request_field
from gateway.core.grammar import (
    LINE_BYTES,
    NO_LENGTH,
    connection_options,
    is_authority,
    parse_content_length,
)
from gateway.core.refusals import Reason

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class FieldSection(msgspec.Struct, gc=False):
    """The field lines of a request, read. Not changed once read, so one value may serve many requests.

    ``lines`` are those that travel on, in order, as they came; the lines of credentials and method
    overrides stand among them and are named apart, so that a route can decide. ``content_length``
    is -1 without one; ``via`` joins the Via values; of several Max-Forwards the least counts.
    ``raw`` and ``minor`` are what it was read from; ``raw`` is None where more than that went into it
    (absolute form).
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
    max_forwards: int | None = None
    fault: Reason | None = None


def read_fields(section: bytes, minor: int, lines_max: int) -> FieldSection | None:
    """Read a field section; None if a line is malformed or there are more than ``lines_max``."""
    lines = section.split(b"\r\n") if section else []
    count = len(lines)
    # With every legal byte taken out, what is left must be the line breaks, each a pair.
    if count > lines_max or section.translate(None, LINE_BYTES) != b"\r\n" * (count - 1):
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


# -- One field each. Faults found here are told only when every line has been read.


def _refuse(fields: FieldSection, reason: Reason = Reason.BAD_REQUEST) -> None:
    if fields.fault is None:
        fields.fault = reason


def _on_host(fields: FieldSection, line: bytes, value: bytes) -> None:
    if fields.host or not is_authority(value):
        _refuse(fields)
    fields.host = value or b" "
    fields.lines.append(line)


def _on_content_length(fields: FieldSection, line: bytes, value: bytes) -> None:
    length = parse_content_length(value)
    if length is None or fields.content_length != NO_LENGTH:
        _refuse(fields)
    else:
        fields.content_length = length
    fields.lines.append(line)


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


def _on_max_forwards(fields: FieldSection, line: bytes, value: bytes) -> None:
    # No chain is as long as ten digits say, and what is no number says nothing: both travel on.
    if value.isdigit() and len(value) <= 9:
        left, before = int(value), fields.max_forwards
        fields.max_forwards = left if before is None else min(left, before)
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
    Kind.MAX_FORWARDS: _on_max_forwards,
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
    # What was read may lie with its connection for long, and a stranger can name a thousand options.
    fields.connection = ()


def _is_named(line: bytes, named: frozenset[bytes]) -> bool:
    name = line.partition(b":")[0]
    return name.lower() in named and classify_request_field(name) not in _UNNAMEABLE
