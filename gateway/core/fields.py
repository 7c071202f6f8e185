"""What each field name means to a gateway that stands between a caller and a backend.

A name is classified once by its exact spelling; the common spellings lie ready in a table, the
others are folded first. Folding maps every character that a backend may turn into an underscore
(CGI, WSGI, PHP) to a hyphen, so that ``X_Gateway_Subject`` cannot pass where
``X-Gateway-Subject`` may not (oauth2-proxy CVE-2025-64484). Pure.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache


class Kind(enum.IntEnum):
    """What is done with a field line; 0 is the common case: it travels on as it is."""

    PLAIN = 0
    DROPPED = 1  # hop-by-hop, or ours to set anew
    INVALID = 2  # not a token (RFC 9110 §5.6.2), or a framing field in a confusable spelling
    HOST = 3
    CONTENT_LENGTH = 4
    TRANSFER_ENCODING = 5
    CONNECTION = 6
    API_KEY = 7
    AUTHORIZATION = 8
    EXPECT = 9
    UPGRADE = 10
    REQUEST_ID = 11
    VIA = 12
    METHOD_OVERRIDE = 13
    KEEP_ALIVE = 14
    DATE = 15
    MAX_FORWARDS = 16


TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# RFC 9110 §7.6.1: a recipient removes these even where Connection does not name them.
_HOP_BY_HOP = (
    "keep-alive proxy-connection te trailer proxy-authorization proxy-authenticate"
    " proxy-authentication-info http2-settings"
).split()

# Set anew for every request: a caller's own would be believed by the backend.
# Proxy becomes HTTP_PROXY in a CGI program, which believes it (httpoxy, CVE-2016-5385).
# X-Original-URL and X-Rewrite-URL make some frameworks serve another path than the one decided on.
_SPOOFABLE = frozenset("forwarded x-real-ip x-original-url x-rewrite-url proxy".split())
_SPOOFABLE_PREFIXES = ("x-gateway-", "x-forwarded-")

_REQUEST = {
    "host": Kind.HOST,
    "content-length": Kind.CONTENT_LENGTH,
    "transfer-encoding": Kind.TRANSFER_ENCODING,
    "connection": Kind.CONNECTION,
    "x-api-key": Kind.API_KEY,
    "authorization": Kind.AUTHORIZATION,
    "expect": Kind.EXPECT,
    "upgrade": Kind.UPGRADE,
    "x-request-id": Kind.REQUEST_ID,
    "via": Kind.VIA,
    "max-forwards": Kind.MAX_FORWARDS,
    "x-http-method-override": Kind.METHOD_OVERRIDE,
    "x-http-method": Kind.METHOD_OVERRIDE,
    "x-method-override": Kind.METHOD_OVERRIDE,
    **dict.fromkeys(_HOP_BY_HOP, Kind.DROPPED),
}

_RESPONSE = {
    "content-length": Kind.CONTENT_LENGTH,
    "transfer-encoding": Kind.TRANSFER_ENCODING,
    "connection": Kind.CONNECTION,
    "date": Kind.DATE,
    "x-request-id": Kind.DROPPED,
    "upgrade": Kind.DROPPED,
    **dict.fromkeys(_HOP_BY_HOP, Kind.DROPPED),
    "keep-alive": Kind.KEEP_ALIVE,
}

_CONFUSABLE = re.compile(r"[^a-z0-9-]")


# A longer name is judged each time: what strangers send must not fill the memory.
_REMEMBERED_NAME_MAX = 64


def classify_request_field(name: bytes) -> Kind:
    """Tell what a request's field line of this name (as spelled) is."""
    return _request_kind(name) if len(name) <= _REMEMBERED_NAME_MAX else _request_kind.__wrapped__(name)


@lru_cache(maxsize=4096)
def _request_kind(name: bytes) -> Kind:
    if not TOKEN.fullmatch(name):
        return Kind.INVALID
    exact = name.decode("ascii").lower()
    kind = _REQUEST.get(exact)
    if kind is not None:
        return kind
    folded = _CONFUSABLE.sub("-", exact)
    if folded in _SPOOFABLE or folded.startswith(_SPOOFABLE_PREFIXES):
        return Kind.DROPPED
    return _confusable_kind(_REQUEST.get(folded, Kind.PLAIN))


def _confusable_kind(kind: Kind) -> Kind:
    """Tell what to do with a spelling that only folds to a field we know."""
    if kind in (Kind.TRANSFER_ENCODING, Kind.CONTENT_LENGTH):
        return Kind.INVALID
    if kind in (Kind.METHOD_OVERRIDE, Kind.REQUEST_ID, Kind.API_KEY):
        # X_API_KEY is no credential here, but a backend might read it as one of ours.
        return Kind.METHOD_OVERRIDE if kind is Kind.METHOD_OVERRIDE else Kind.DROPPED
    return Kind.PLAIN


def classify_response_field(name: bytes) -> Kind:
    """Tell what a response's field line of this name (as spelled) is."""
    return _response_kind(name) if len(name) <= _REMEMBERED_NAME_MAX else _response_kind.__wrapped__(name)


@lru_cache(maxsize=4096)
def _response_kind(name: bytes) -> Kind:
    if not TOKEN.fullmatch(name):
        return Kind.INVALID
    return _RESPONSE.get(name.decode("ascii").lower(), Kind.PLAIN)


def _ready(names: str, classify: object) -> dict[bytes, Kind]:
    table: dict[bytes, Kind] = {}
    for name in names.split():
        for spelling in (name.encode(), name.lower().encode(), name.upper().encode()):
            table[spelling] = classify(spelling)  # type: ignore[operator]
    return table


# The spellings that clients and servers do send: one dictionary look-up each.
REQUEST_KINDS: dict[bytes, Kind] = _ready(
    "Host User-Agent Accept Accept-Encoding Accept-Language Authorization X-API-Key X-Api-Key Connection"
    " Content-Type Content-Length Transfer-Encoding Cookie Origin Referer Cache-Control If-None-Match"
    " If-Modified-Since Range Expect X-Request-Id X-Request-ID traceparent Pragma",
    classify_request_field,
)
RESPONSE_KINDS: dict[bytes, Kind] = _ready(
    "Date Server Content-Type Content-Length Transfer-Encoding Connection Keep-Alive ETag Last-Modified"
    " Cache-Control Vary Accept-Ranges Set-Cookie Location Content-Encoding Expires X-Request-Id",
    classify_response_field,
)
