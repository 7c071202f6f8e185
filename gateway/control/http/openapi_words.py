"""What the API's description says beside what its endpoints say of themselves. Imports its own plane."""

from __future__ import annotations

from gateway.control.http.authentication import CSRF_HEADER
from gateway.control.http.reading import LARGEST_BODY_BYTES
from gateway.control.http.schemas import Schema

ABOUT = f"""\
Keys are made, shown, changed and ended here; the proxy that they open is another listener.

Every request but those to log in carries an API key (`X-API-KEY`, or `Authorization: Bearer`) or the \
token of a login. A secret is shown once, in the answer that makes it. Bodies are JSON in UTF-8, at most \
{LARGEST_BODY_BYTES // 1024} KiB; members and parameters that are not described here are refused by name."""
TAGS = {
    "keys": "Make, list, rotate and revoke the keys of an organisation.",
    "user keys": "Make, list, change and end keys that act as their users, and the settings of all keys.",
    "login": "Log in and out; the keys that verify the tokens.",
    "subjects": "The users of a tenant and the identities of its keys, with their roles.",
    "tenants": "Organisations and the settings of their keys.",
    "users": "People, and what they are in a tenant.",
    "environments": "The environments of a tenant.",
    "audit": "Who did what, when and from where.",
}
PATH_WORDS = {
    "id": "The key's id.",
    "keyId": "The key's number in its organisation.",
    "tenantId": "The tenant's id: the caller's own.",
    "tenant": "The tenant's id: the caller's own.",
    "subject": "The subject's id.",
    "user": "The user's id.",
}
FAULT_WORDS = {
    400: "Something is wrong with the request; the member or parameter to blame is named.",
    401: "No credential, or none that is valid now.",
    403: "The caller may not do this.",
    404: "There is no such thing, or it is another tenant's.",
    408: "The content did not arrive in time.",
    409: "Something stands in the way at present.",
    413: f"The content is larger than {LARGEST_BODY_BYTES} bytes.",
    415: "The content is not JSON in UTF-8.",
    429: "Too many requests: wait and try again.",
    431: "The target or a header line is too long.",
    500: "A fault of this server.",
    503: "The store or the server is overloaded or out: try again soon.",
}
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-Id": ("The id of this request, as the audit keeps it.", {"type": "string"}),
    "WWW-Authenticate": ("How to authenticate (RFC 9110 §11.6.1).", {"type": "string"}),
    "Retry-After": ("After how many seconds to try again.", {"type": "integer", "minimum": 0}),
    "RateLimit": ("What is left of the caller's rate, and until when.", {"type": "string"}),
    "RateLimit-Policy": ("The rate that counts.", {"type": "string"}),
}


def security_schemes(cookie: str) -> Schema:
    """Return how callers say who they are; ``cookie`` is the name of the one that carries a login."""
    return {
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-KEY",
            "description": "An API key, or the token of a login.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "The token of a login, or an API key.",
        },
        "cookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "The token of a login, for the pages of this server.",
        },
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": CSRF_HEADER,
            "description": "What a page shows beside the cookie to change something: `csrfToken`.",
        },
        "password": {
            "type": "http",
            "scheme": "basic",
            "description": "A user's address and password, to log in.",
        },
    }
