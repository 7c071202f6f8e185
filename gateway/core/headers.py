"""The heads that leave: the request as the backend gets it, the response as the caller gets it.

What arrived is kept byte for byte, less what `core.fields` takes out; what the gateway says of
its own is added after, so that no Connection option can name it away (Traefik CVE-2021-32813).
Pure; imports ``core`` only.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.credentials import credential_lines
from gateway.core.decision import Forward
from gateway.core.envelope import OWN_AUDIENCES, read_unverified
from gateway.core.http1 import RequestHead
from gateway.core.model import Permission
from gateway.core.refusals import REFUSALS, Reason
from gateway.core.response import ResponseHead
from gateway.core.section import FieldSection
from gateway.core.tokens import BODY_DIGITS, DEFAULT_PREFIX, is_opaque

_PERMISSION_LINES = {
    permission: b"X-Gateway-Permission: %b\r\n" % permission.word.encode() for permission in Permission
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def upstream_head(
    head: RequestHead, forward: Forward, *, request_id: bytes, via: bytes, forwarded: bytes, authority: bytes
) -> bytes:
    """Return the request head for the backend, blank line included.

    Args:
        head: the request as it came.
        forward: the decision, which says who the caller is and what is asked.
        request_id: the request's id.
        via: this gateway's pseudonym.
        forwarded: the lines ``X-Forwarded-For`` and ``X-Forwarded-Proto`` of the connection.
        authority: the backend's own host, for a caller that named none (HTTP/1.0).
    """
    route, key, fields = forward.route, forward.key, head.fields
    parts = [b"%b %b HTTP/1.1" % (head.method, forward.target), *fields.lines]
    for line in _lines_taken_out(fields, forward):
        parts.remove(line)
    if fields.max_forwards is not None and head.method == b"OPTIONS":
        parts = [part for part in parts if not part.lower().startswith(b"max-forwards:")]
        parts.append(b"Max-Forwards: %d" % (fields.max_forwards - 1))
    if fields.host:
        parts.append(b"X-Forwarded-Host: " + fields.host)
    else:
        parts.append(b"Host: " + authority)
    if fields.chunked:
        parts.append(b"Transfer-Encoding: chunked")
    if route.via:
        parts.append(b"Via: 1.%d %b" % (fields.minor, via))
    parts.append(b"X-Request-Id: " + request_id)
    parts.append(forwarded)
    if key is None or forward.permission is None:
        parts.append(b"\r\n")
    else:
        parts.append(b"%b%b%b\r\n" % (key.who, key.scope, _PERMISSION_LINES[forward.permission]))
    return b"\r\n".join(parts)


def _lines_taken_out(fields: FieldSection, forward: Forward) -> Iterable[bytes]:
    """Return the lines that stop here: the credential that was used, and a viewer's method overrides."""
    if forward.route.anonymous:
        taken = _own_credential_lines(fields)
    elif forward.route.forward_credential:
        taken = []
    elif len(fields.api_keys) == 1 and not fields.authorizations and "x-api-key" in forward.route.credentials:
        taken = [fields.api_keys[0][0]]
    else:
        taken = credential_lines(fields, forward.route.credentials)
    if fields.overrides and (forward.permission is None or forward.permission < Permission.EDITOR):
        taken += fields.overrides
    return taken


def _own_credential_lines(fields: FieldSection) -> list[bytes]:
    """Return what an anonymous route takes out: every X-API-KEY, and bearer tokens that look like ours."""
    lines = [line for line, _ in fields.api_keys]
    if fields.authorizations:
        borne = credential_lines(fields, ("authorization",))
        lines += [line for line in borne if _DEFAULT_PREFIX in line or _is_ours(line)]
    return lines


_DEFAULT_PREFIX = DEFAULT_PREFIX.encode("ascii")


def _is_ours(line: bytes) -> bool:
    """Tell whether the token that ends a line has our form, whatever prefix its environment gave it.

    A signed token is ours when it says so: a login token, or a JWT key.
    """
    token = line.rstrip(b" \t").rpartition(b" ")[2]
    if is_opaque(token, token[:-BODY_DIGITS]):
        return True
    envelope = read_unverified(token)
    return envelope is not None and not OWN_AUDIENCES.isdisjoint(envelope.audiences)


# RFC 9110 §8.6: none on 204; a 205 is told to be empty.
_LENGTHLESS = frozenset((204, 205))


def downstream_head(
    response: ResponseHead,
    *,
    request_id: bytes,
    via: bytes | None,
    date: bytes,
    chunked: bool,
    connection: bytes,
) -> bytes:
    """Return the response head for the caller, blank line included.

    Args:
        response: the backend's head.
        request_id: the request's id.
        via: this gateway's pseudonym, or None where the route wants none.
        date: the time now as IMF-fixdate, for a backend without a clock (RFC 9110 §6.6.1).
        chunked: whether the content leaves in chunks.
        connection: the Connection value to send, or nothing.
    """
    parts = [b"HTTP/1.1 " + response.status_text]
    parts += response.lines
    if not response.has_date:
        parts.append(b"Date: " + date)
    if via is not None:
        parts.append(b"Via: 1.%d %b" % (response.minor, via))
    parts.append(b"X-Request-Id: " + request_id)
    if chunked:
        parts.append(b"Transfer-Encoding: chunked")
    elif response.content_length >= 0 and response.status not in _LENGTHLESS:
        parts.append(b"Content-Length: %d" % response.content_length)
    elif response.status == 205:
        parts.append(b"Content-Length: 0")
    if connection:
        parts.append(b"Connection: " + connection)
    parts.append(b"\r\n")
    return b"\r\n".join(parts)


def interim_head(response: ResponseHead) -> bytes:
    """Return a 1xx head for the caller (RFC 9110 §15.2), without framing fields."""
    return b"\r\n".join([b"HTTP/1.1 " + response.status_text, *response.lines, b"\r\n"])


_REASON_PHRASES = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
    508: b"Loop Detected",
}
ALLOW = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class _Template:
    """One refusal, encoded but for what differs each time."""

    __slots__ = ("body", "closes", "head", "tail")

    def __init__(self, reason: Reason) -> None:
        refusal = REFUSALS[reason]
        lines = [b"HTTP/1.1 %d %b" % (refusal.status, _REASON_PHRASES[refusal.status])]
        lines.append(b"Content-Type: application/problem+json")
        lines.append(b"Cache-Control: no-store")
        if refusal.challenge:
            lines.append(b"WWW-Authenticate: " + refusal.challenge.encode())
        if refusal.retry_after_s:
            lines.append(b"Retry-After: %d" % refusal.retry_after_s)
        if refusal.status == 405:
            lines.append(b"Allow: " + ALLOW)
        self.head = b"\r\n".join(lines)
        self.body = (
            f'{{"type":"urn:gateway:refusal:{reason.value}","title":"{refusal.title}",'
            f'"status":{refusal.status},"detail":"{refusal.detail}","code":"{reason.value}","request_id":"'
        ).encode()
        self.tail = b'"}\n'
        self.closes = refusal.closes


_TEMPLATES = {reason: _Template(reason) for reason in Reason}


def refusal_response(
    reason: Reason, *, request_id: bytes, date: bytes, connection: bytes, with_body: bool
) -> bytes:
    """Return the whole response that tells a refusal, as problem+json (RFC 9457).

    ``connection`` is the Connection value to send, or nothing; ``with_body`` False for HEAD.
    """
    template = _TEMPLATES[reason]
    length = len(template.body) + len(request_id) + len(template.tail)
    return b"%b\r\nServer: gateway\r\nDate: %b\r\nX-Request-Id: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        template.head,
        date,
        request_id,
        length,
        b"Connection: %b\r\n" % connection if connection else b"",
        b"%b%b%b" % (template.body, request_id, template.tail) if with_body else b"",
    )


def asterisk_response(*, request_id: bytes, date: bytes, connection: bytes) -> bytes:
    """Return the answer to ``OPTIONS *`` (RFC 9110 §9.3.7), which the gateway gives itself."""
    return (
        b"HTTP/1.1 204 No Content\r\nAllow: %b\r\nServer: gateway\r\nDate: %b\r\nX-Request-Id: %b\r\n%b\r\n"
        % (
            ALLOW,
            date,
            request_id,
            b"Connection: %b\r\n" % connection if connection else b"",
        )
    )
