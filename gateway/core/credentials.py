"""What credential a request carries, if any: an API key in ``X-API-KEY`` or behind a scheme.

Clients of the documents send ``Authorization: BEARER <token>``, ``Authorization: X-API-KEY
<token>`` or ``X-API-KEY: <token>``. Another scheme is the backend's business. Pure; imports
``core`` only.
"""

from __future__ import annotations

from gateway.core.refusals import Reason
from gateway.core.section import FieldSection

TOKEN_MAX = 8192
# Visible ASCII without the comma, which a recipient may take for a list.
_TOKEN_BYTES = bytes(b for b in range(0x21, 0x7F) if b != ord(","))
_SCHEMES = frozenset((b"bearer", b"x-api-key"))


def read_credential(fields: FieldSection, sources: tuple[str, ...]) -> bytes | Reason:
    """Return the token that the fields in ``sources`` carry, or why there is none to judge."""
    keys = fields.api_keys if "x-api-key" in sources else ()
    authorizations = fields.authorizations if "authorization" in sources else ()
    token = None
    if keys:
        if len(keys) > 1:
            return Reason.CONFLICTING_CREDENTIALS
        token = keys[0][1]
    if authorizations:
        borne = [bearer for _, value in authorizations if (bearer := bearer_token(value)) is not None]
        if borne and len(authorizations) > 1:
            return Reason.CONFLICTING_CREDENTIALS
        if borne:
            if token is not None and token != borne[0]:
                return Reason.CONFLICTING_CREDENTIALS
            token = borne[0]
    if token is None:
        return Reason.CREDENTIAL_MISSING
    if not token or len(token) > TOKEN_MAX or token.translate(None, _TOKEN_BYTES):
        return Reason.CREDENTIAL_MALFORMED
    return token


def bearer_token(value: bytes) -> bytes | None:
    """Return the token of an Authorization value, empty after a bare scheme; None for another scheme."""
    scheme, _, token = value.partition(b" ")
    if scheme.lower() in _SCHEMES:
        return token.strip(b" ")
    # RFC 9110 §11.4: spaces part the two. A backend may take a tab too, so what follows one is no other
    # scheme that may travel on, but a token that is malformed.
    name, tab, _ = scheme.partition(b"\t")
    return value if tab and name.lower() in _SCHEMES else None


def credential_lines(fields: FieldSection, sources: tuple[str, ...]) -> list[bytes]:
    """Return the field lines that `read_credential` would read; another scheme's is not among them."""
    lines = [line for line, _ in fields.api_keys] if "x-api-key" in sources else []
    if fields.authorizations and "authorization" in sources:
        lines += [line for line, value in fields.authorizations if bearer_token(value) is not None]
    return lines
