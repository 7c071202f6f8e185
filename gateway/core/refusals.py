"""Why a request was refused, and what the caller is told: the one table.

Responses, the labels of ``gateway_rejections_total`` and the words of ``gateway explain`` all
come from here. Imports nothing.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Reason(enum.StrEnum):
    """A stable word for each refusal: the ``code`` of its problem+json, and its metric label."""

    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_MALFORMED = "credential_malformed"
    KEY_UNKNOWN = "key_unknown"
    KEY_EXPIRED = "key_expired"
    KEY_REVOKED = "key_revoked"
    TOKEN_INVALID = "token_invalid"  # noqa: S105
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    CONFLICTING_CREDENTIALS = "conflicting_credentials"
    PERMISSION_DENIED = "permission_denied"
    ROUTE_DENIED = "route_denied"
    HOLDER_DISABLED = "holder_disabled"
    NO_ROUTE = "no_route"
    RATE_LIMITED = "rate_limited"
    KEY_TABLE_STALE = "key_table_stale"
    NOT_READY = "not_ready"
    OVERLOADED = "overloaded"
    NO_HEALTHY_TARGET = "no_healthy_target"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_PROTOCOL_ERROR = "upstream_protocol_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    BAD_REQUEST = "bad_request"
    TARGET_TOO_LONG = "target_too_long"
    HEAD_TOO_LARGE = "head_too_large"
    BODY_TOO_LARGE = "body_too_large"
    REQUEST_TIMEOUT = "request_timeout"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_IMPLEMENTED = "not_implemented"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    EXPECTATION_FAILED = "expectation_failed"
    LOOP_DETECTED = "loop_detected"


class Refusal(NamedTuple):
    """How one reason is told.

    ``challenge`` is the value of WWW-Authenticate (RFC 6750 §3), ``retry_after_s`` of Retry-After;
    ``closes`` when the connection cannot be trusted to be in step afterwards.
    """

    status: int
    title: str
    detail: str
    challenge: str = ""
    retry_after_s: int = 0
    closes: bool = False


_REALM = 'Bearer realm="gateway"'
_INVALID = _REALM + ', error="invalid_token"'
_SCOPE = _REALM + ', error="insufficient_scope"'


def _invalid(description: str) -> str:
    return f'{_INVALID}, error_description="{description}"'


REFUSALS: dict[Reason, Refusal] = {
    Reason.CREDENTIAL_MISSING: Refusal(
        401, "No credential", "Send an API key in X-API-KEY or in Authorization: BEARER.", _REALM
    ),
    Reason.CREDENTIAL_MALFORMED: Refusal(
        401,
        "Malformed credential",
        "The credential does not have the form of a key: check that it was copied whole.",
        _invalid("the credential is malformed"),
    ),
    Reason.KEY_UNKNOWN: Refusal(
        401, "Unknown key", "No such key is known here.", _invalid("the key is unknown")
    ),
    Reason.KEY_EXPIRED: Refusal(
        401, "Expired key", "The key has expired: make a new one.", _invalid("the key has expired")
    ),
    Reason.KEY_REVOKED: Refusal(
        401, "Revoked key", "The key was revoked: make a new one.", _invalid("the key was revoked")
    ),
    Reason.TOKEN_INVALID: Refusal(
        401, "Invalid token", "The token is not one that is accepted here.", _invalid("the token is invalid")
    ),
    Reason.TOKEN_EXPIRED: Refusal(
        401, "Expired token", "The token has expired: log in again.", _invalid("the token has expired")
    ),
    Reason.CONFLICTING_CREDENTIALS: Refusal(
        400, "Conflicting credentials", "Send one credential, once: these contradict one another."
    ),
    Reason.PERMISSION_DENIED: Refusal(
        403,
        "Permission denied",
        "The credential is read-only: a viewer may use GET, HEAD and OPTIONS; this needs an editor.",
        _SCOPE,
    ),
    Reason.ROUTE_DENIED: Refusal(
        403, "Route denied", "The credential's role, tenant or environment is not let in here.", _SCOPE
    ),
    Reason.HOLDER_DISABLED: Refusal(
        403, "Holder disabled", "The credential's holder is switched off here at present.", _SCOPE
    ),
    Reason.NO_ROUTE: Refusal(404, "No route", "Nothing is served at this host and path."),
    Reason.RATE_LIMITED: Refusal(
        429, "Too many requests", "The rate limit is used up: wait and try again.", retry_after_s=1
    ),
    Reason.KEY_TABLE_STALE: Refusal(
        503,
        "Keys cannot be confirmed",
        "The key table could not be confirmed lately: try again soon.",
        retry_after_s=5,
    ),
    Reason.NOT_READY: Refusal(
        503, "Not ready", "The key table has not been loaded yet: try again soon.", retry_after_s=2
    ),
    Reason.OVERLOADED: Refusal(
        503,
        "Overloaded",
        "More is asked at present than can be served: try again soon.",
        retry_after_s=1,
        closes=True,
    ),
    Reason.NO_HEALTHY_TARGET: Refusal(
        503, "No healthy target", "No backend is healthy at present: try again soon.", retry_after_s=5
    ),
    Reason.UPSTREAM_UNREACHABLE: Refusal(502, "Backend unreachable", "The backend refused the connection."),
    Reason.UPSTREAM_PROTOCOL_ERROR: Refusal(
        502, "Backend broke off", "The backend did not send a whole and valid response."
    ),
    Reason.UPSTREAM_TIMEOUT: Refusal(504, "Backend timed out", "The backend did not answer in time."),
    Reason.BAD_REQUEST: Refusal(
        400,
        "Bad request",
        "The request is not valid HTTP/1.1 or is ambiguous: check its framing, its path and its Host.",
        closes=True,
    ),
    Reason.TARGET_TOO_LONG: Refusal(
        414, "Target too long", "The request target is longer than this server reads.", closes=True
    ),
    Reason.HEAD_TOO_LARGE: Refusal(
        431, "Head too large", "The request head is larger than this server reads.", closes=True
    ),
    Reason.BODY_TOO_LARGE: Refusal(
        413, "Body too large", "The body is larger than this server passes on.", closes=True
    ),
    Reason.REQUEST_TIMEOUT: Refusal(
        408, "Request timeout", "The request did not arrive in time.", closes=True
    ),
    Reason.METHOD_NOT_ALLOWED: Refusal(
        405, "Method not allowed", "CONNECT and TRACE are not served.", closes=True
    ),
    Reason.NOT_IMPLEMENTED: Refusal(
        501, "Not implemented", "The method or the transfer coding is not one this server knows.", closes=True
    ),
    Reason.VERSION_NOT_SUPPORTED: Refusal(
        505, "Version not supported", "Only HTTP/1.1 and HTTP/1.0 are spoken here.", closes=True
    ),
    Reason.EXPECTATION_FAILED: Refusal(
        417, "Expectation failed", "Only Expect: 100-continue can be met.", closes=True
    ),
    Reason.LOOP_DETECTED: Refusal(
        508, "Loop detected", "The request has already passed this server: check the upstreams.", closes=True
    ),
}
