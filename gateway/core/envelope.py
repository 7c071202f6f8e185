"""What a signed token says before anything of it is believed, and whom we believe.

A JWS in compact form (RFC 7515 §7.1) that carries a JWT (RFC 7519), read more strictly than the
libraries do: three parts of base64url without padding and in the one way to write them, JSON
objects without duplicate members, numbers that are finite. Whether its signature holds is told by
``core.jws``. Pure; imports ``core`` only.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeGuard

import msgspec

TOKEN_MAX = 8192
"""Bytes of a token, as long as any credential that is read."""
LOGIN_AUDIENCE = "gateway:login"
KEY_AUDIENCE = "gateway:key"
ASSERTION_AUDIENCE = "gateway:assertion"
OWN_AUDIENCES = frozenset((LOGIN_AUDIENCE, KEY_AUDIENCE, ASSERTION_AUDIENCE))
OWN_ALGORITHM = "RS256"

_SHAPE = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+").fullmatch
# RFC 7515 §4.1: ways for a token to bring its own key. None is obeyed: a token with one is refused.
_SELF_TRUST = frozenset(("jku", "jwk", "x5u", "x5c"))
# RFC 7519 §5.1, RFC 9068 §2.1.
_TYPES = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))


class TrustedIssuer(msgspec.Struct, frozen=True):
    """Whose signatures count, over what, and what its claims mean here.

    Attributes:
        issuer: ``iss``, to the letter.
        audience: what ``aud`` must be, or for an external issuer hold among others.
        algorithms: the ``alg`` values that it may use; never ``none``, never HMAC.
        keys: ``kid`` → public key (of the ``cryptography`` package) that suits one of them.
        ends: ``kid`` → epoch milliseconds from which its signatures count no more; missing: never.
        is_own: these are our own login tokens: their claims are fixed, their subjects users of the store.
        tenant_claim: the claim that names the tenant of an external issuer's token.
        role_claim: the claim that holds a role's name, or an array of names.
        roles: what such a name means here: the name of a role of the configuration. Of several
            that a token holds the first in this order counts.
    """

    issuer: str
    audience: str
    algorithms: frozenset[str]
    keys: Mapping[str, Any]
    ends: Mapping[str, int] = {}
    is_own: bool = False
    tenant_claim: str = ""
    role_claim: str = ""
    roles: Mapping[str, str] = {}


class Envelope(msgspec.Struct, frozen=True):
    """A token whose form is right; nothing that it says is proven. Its ``repr`` keeps the token."""

    algorithm: str
    kid: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str | None:
        """Return ``iss`` if it is text."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else None

    @property
    def audiences(self) -> tuple[str, ...]:
        """Return ``aud``, one or several (RFC 7519 §4.1.3); nothing where it is neither."""
        audience = self.claims.get("aud")
        if isinstance(audience, str):
            return (audience,)
        if isinstance(audience, list) and all(isinstance(item, str) for item in audience):
            return tuple(audience)
        return ()

    def __repr__(self) -> str:
        return f"Envelope(algorithm={self.algorithm!r}, kid={self.kid!r})"


def has_token_shape(token: bytes) -> bool:
    """Tell whether ``token`` looks like a JWS, three parts of base64url, and not like an opaque key."""
    return token.count(b".") == 2 and _SHAPE(token) is not None


def read_unverified(token: bytes) -> Envelope | None:
    """Return what a token says, or None where its form is not the strict one. Nothing of it is proven."""
    if len(token) > TOKEN_MAX or not has_token_shape(token):
        return None
    parts = token.split(b".")
    try:
        header, claims, signature = _object(parts[0]), _object(parts[1]), _decoded(parts[2])
    except (ValueError, RecursionError):
        return None
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not is_name(algorithm) or not is_name(kid):
        return None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    # RFC 7515 §4.1.11: whoever does not understand what is critical must refuse; we understand none.
    if "crit" in header or not _SELF_TRUST.isdisjoint(header):
        return None
    return Envelope(algorithm, kid, claims, token[: -len(parts[2]) - 1], signature)


def is_name(value: object) -> TypeGuard[str]:
    """Tell whether a value is text that may name something: not empty, not long, all of it printable."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


def _object(part: bytes) -> dict[str, Any]:
    value = json.loads(
        _decoded(part).decode("utf-8"),
        object_pairs_hook=_without_duplicates,
        parse_float=_finite,
        parse_constant=_refused,
    )
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _decoded(part: bytes) -> bytes:
    """Return what base64url says; raises ValueError unless it is written in the one canonical way."""
    try:
        content = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part:
        raise ValueError("bits are left over")
    return content


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("duplicate members")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _refused(text: str) -> NoReturn:
    raise ValueError(text)
