"""Tell whom a login token proves: ours, or one of an issuer that the configuration trusts.

Used wherever a token is judged: by the proxy's verifier, by the control API, by ``gateway
explain``. Everything that costs little comes first (`examine`: form, issuer, algorithm, key id,
audience, times), so that garbage never costs a signature check (`signature_holds`). An algorithm
is held to its issuer and to its key's type: no HMAC, no ``none``, no key that the token brings.

Who knows an issuer says so with a `TrustedIssuer`: `own_issuer` makes ours of the signing keys;
the proxy is told of external ones by ``Verifier.trust``. Pure; imports ``core``, PyJWT and
cryptography's key types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import get_default_algorithms

from gateway.core.envelope import (
    ASSERTION_AUDIENCE,
    KEY_AUDIENCE,
    LOGIN_AUDIENCE,
    OWN_ALGORITHM,
    Envelope,
    TrustedIssuer,
    is_name,
    read_unverified,
)
from gateway.core.model import MILLISECONDS
from gateway.core.refusals import Reason

__all__ = [
    "ALGORITHMS",
    "ASSERTION_AUDIENCE",
    "KEY_AUDIENCE",
    "LEEWAY_S",
    "LOGIN_AUDIENCE",
    "OWN_ALGORITHM",
    "Claims",
    "Envelope",
    "TrustedIssuer",
    "examine",
    "own_issuer",
    "read_unverified",
    "signature_holds",
    "suits",
    "verify",
]

ALGORITHMS = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
"""What an issuer may sign with (RFC 7518 §3.1, RFC 8037); those that share a secret are not among them."""
LEEWAY_S = 30.0
"""How far ``iat`` and ``nbf`` may lie ahead of our clock. ``exp`` is meant as it stands."""

_CHECKS = {name: check for name, check in get_default_algorithms().items() if name in ALGORITHMS}
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
# RFC 7518 §3.3 asks for 2048 bits; beyond the other end a check takes longer than a request may.
_RSA_BITS = range(2048, 8193)
_LATEST_S = 253402300799  # the last second of the year 9999


class Claims(msgspec.Struct, frozen=True):
    """What a token says of its bearer; instants are epoch milliseconds.

    Attributes:
        subject: the user's id; ``<iss>|<sub>`` for an external issuer, so that it is never a user's.
        user_id: the user of the store; None for an external issuer's.
        tenant_id: the tenant that the token is for; "" where an external token names none.
        role: what she was at login, or what ``TrustedIssuer.roles`` makes of an external token ("": nothing).
        token_id: ``jti``; "" where an external token has none.
        expires_at: when the token ends, or its signing key's honour if that is sooner.
        email: her address, for people; None where the token has none.
    """

    issuer: str
    kid: str
    subject: str
    user_id: str | None
    tenant_id: str
    role: str
    token_id: str
    issued_at: int
    expires_at: int
    email: str | None = None


def own_issuer(name: str, keys: Iterable[tuple[str, str, int | None]], token_ttl_ms: int) -> TrustedIssuer:
    """Return our own issuer of login tokens.

    Args:
        name: ``iss``: the control plane's public URL, or ``gateway``.
        keys: the signing keys as (kid, public PEM, retired at or None).
        token_ttl_ms: how long tokens live, and so how long a retired key's signatures count.
    """
    found, ends = {}, {}
    for kid, pem, retired_at in keys:
        found[kid] = load_pem_public_key(pem.encode("ascii"))
        if retired_at is not None:
            ends[kid] = retired_at + token_ttl_ms
    return TrustedIssuer(name, LOGIN_AUDIENCE, frozenset((OWN_ALGORITHM,)), found, ends, is_own=True)


def verify(token: bytes, issuers: Mapping[str, TrustedIssuer], now_s: float) -> Claims | Reason:
    """Judge a token whole.

    Args:
        token: as it was presented.
        issuers: those we trust, by ``iss``.
        now_s: epoch seconds.

    Returns the claims, or TOKEN_INVALID or TOKEN_EXPIRED. Costs a signature check (about 50 µs)
    only where everything else is right. Whether the user, the tenant and the token itself
    (logged out) still live is not told here.
    """
    envelope = read_unverified(token)
    if envelope is None:
        return Reason.TOKEN_INVALID
    claims = examine(envelope, issuers, now_s)
    if isinstance(claims, Reason) or signature_holds(envelope, issuers[claims.issuer]):
        return claims
    return Reason.TOKEN_INVALID


def examine(envelope: Envelope, issuers: Mapping[str, TrustedIssuer], now_s: float) -> Claims | Reason:
    """Judge everything of a token but its signature, as `verify` does."""
    issuer = issuers.get(envelope.issuer or "")
    if issuer is None or envelope.algorithm not in issuer.algorithms or envelope.kid not in issuer.keys:
        return Reason.TOKEN_INVALID
    audiences = envelope.audiences
    # Ours names one audience: a token for several is none that we made.
    if issuer.audience not in audiences or (issuer.is_own and len(audiences) != 1):
        return Reason.TOKEN_INVALID
    claims = _own_claims(envelope, issuer) if issuer.is_own else _external_claims(envelope, issuer)
    if claims is None:
        return Reason.TOKEN_INVALID
    ahead = int((now_s + LEEWAY_S) * MILLISECONDS)
    begins_at = _instant(envelope.claims, "nbf") if "nbf" in envelope.claims else 0
    if begins_at is None or begins_at > ahead or claims.issued_at > ahead:
        return Reason.TOKEN_INVALID
    return Reason.TOKEN_EXPIRED if now_s * MILLISECONDS >= claims.expires_at else claims


def signature_holds(envelope: Envelope, issuer: TrustedIssuer) -> bool:
    """Tell whether the issuer's key of that id made the signature, with an algorithm that suits it."""
    key = issuer.keys.get(envelope.kid)
    if envelope.algorithm not in issuer.algorithms or not suits(envelope.algorithm, key):
        return False
    try:
        return bool(_CHECKS[envelope.algorithm].verify(envelope.signed, key, envelope.signature))
    except (InvalidSignature, ValueError):
        return False


def suits(algorithm: str, key: Any) -> bool:
    """Tell whether a public key is of the kind and size that an algorithm works with."""
    if algorithm not in ALGORITHMS:
        return False
    if algorithm in _CURVES:
        return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == _CURVES[algorithm]
    if algorithm == "EdDSA":
        return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    return isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS


def _own_claims(envelope: Envelope, issuer: TrustedIssuer) -> Claims | None:
    claims = envelope.claims
    names = [claims.get(name) for name in ("sub", "tenant", "role", "jti")]
    times = _times(envelope, issuer)
    if times is None or not all(is_name(name) for name in names):
        return None
    subject, tenant_id, role, token_id = (str(name) for name in names)
    email = claims.get("email")
    return Claims(
        issuer=issuer.issuer,
        kid=envelope.kid,
        subject=subject,
        user_id=subject,
        tenant_id=tenant_id,
        role=role,
        token_id=token_id,
        issued_at=times[0],
        expires_at=times[1],
        email=email if is_name(email) else None,
    )


def _external_claims(envelope: Envelope, issuer: TrustedIssuer) -> Claims | None:
    claims = envelope.claims
    times = _times(envelope, issuer)
    subject, tenant_id = claims.get("sub"), claims.get(issuer.tenant_claim, "")
    token_id, email = claims.get("jti", ""), claims.get("email")
    if times is None or not is_name(subject):
        return None
    if not all(name == "" or is_name(name) for name in (tenant_id, token_id)):
        return None
    return Claims(
        issuer=issuer.issuer,
        kid=envelope.kid,
        subject=f"{issuer.issuer}|{subject}",
        user_id=None,
        tenant_id=tenant_id,
        role=_role(claims.get(issuer.role_claim), issuer.roles),
        token_id=token_id,
        issued_at=times[0],
        expires_at=times[1],
        email=email if is_name(email) else None,
    )


def _role(claimed: object, roles: Mapping[str, str]) -> str:
    names = claimed if isinstance(claimed, list) else [claimed]
    return next((role for name, role in roles.items() if name in names), "")


def _times(envelope: Envelope, issuer: TrustedIssuer) -> tuple[int, int] | None:
    """Return when the token was made and when it ends; None where it does not say so as it should."""
    issued_at, expires_at = _instant(envelope.claims, "iat"), _instant(envelope.claims, "exp")
    if issued_at is None or expires_at is None:
        return None
    return issued_at, min(expires_at, issuer.ends.get(envelope.kid, expires_at))


def _instant(claims: Mapping[str, Any], name: str) -> int | None:
    """Return a NumericDate (RFC 7519 §2) as epoch milliseconds; ``true`` is none, nor is a string."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST_S:
        return None
    return int(value * MILLISECONDS)
