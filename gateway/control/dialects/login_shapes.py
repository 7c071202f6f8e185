"""What ``/login``, the session and the signing keys are asked with and answer, and the login's cookie."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.control.http.members import Instant

LONGEST_NEXT = 2048

Next = Annotated[
    str, Meta(extra_json_schema={"maxLength": LONGEST_NEXT, "pattern": r"^/(?!/)[^\\\u0000-\u001f\u007f]*$"})
]


class LoginQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """``002``: for which organisation; and where a browser goes from here, a path of this server."""

    org_id: str | None = None
    next: Next | None = None


class Membership(msgspec.Struct, frozen=True, rename="camel"):
    """What the caller is in one organisation."""

    tenant_id: str
    role: str


class SessionShown(msgspec.Struct, frozen=True, rename="camel"):
    """Who the caller is, as things stand now.

    ``csrf_token`` goes beside the cookie in ``X-CSRF-Token``; null for who did not show one.
    """

    user: str
    email: str | None
    tenant_id: str
    permission: str
    role: str
    expires_at: Instant
    csrf_token: str | None
    tenants: list[Membership]


class Jwk(msgspec.Struct, frozen=True):
    """A public key (RFC 7517 §4, RFC 7518 §6.3.1)."""

    kty: str
    use: str
    alg: str
    kid: str
    n: str
    e: str


class JwkSet(msgspec.Struct, frozen=True):
    """The public keys whose signatures count now (RFC 7517 §5)."""

    keys: list[Jwk]


class CookieForm(msgspec.Struct, frozen=True):
    """How the cookie of a login is written (RFC 6265 §4.1); without a ``domain`` it is this host's alone."""

    name: str
    max_age_s: int
    domain: str | None = None

    def holding(self, token: str) -> str:
        """Return the value of Set-Cookie that has a browser keep a token."""
        return self._written(token, self.max_age_s)

    def cleared(self) -> str:
        """Return the value of Set-Cookie that has a browser forget it."""
        return self._written("", 0)

    def _written(self, value: str, max_age_s: int) -> str:
        domain = f"; Domain={self.domain}" if self.domain else ""
        return f"{self.name}={value}; Path=/{domain}; Max-Age={max_age_s}; HttpOnly; Secure; SameSite=Lax"
