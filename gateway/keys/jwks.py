"""Read a JWK Set (RFC 7517): the public keys with which an external issuer's tokens are checked.

What others publish is not ours to complain of: entries that are no use here (encryption, symmetric,
other algorithms) are passed over and named. What would be unsafe to guess is refused whole. Pure;
imports ``core``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from gateway.core.envelope import is_name
from gateway.core.jws import suits

_CURVES: Mapping[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_EDWARDS: Mapping[str, Callable[[bytes], Any]] = {
    "Ed25519": ed25519.Ed25519PublicKey.from_public_bytes,
    "Ed448": ed448.Ed448PublicKey.from_public_bytes,
}
# RFC 7518 §6.3.2, §6.2.2 and RFC 8037 §2: `d` is the private half, whatever the type.
_PRIVATE = "d"
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_NAMED = 40
MAXIMUM_KEYS = 100
"""More than any issuer has at once, and few enough to be read while callers wait."""


class JwksError(Exception):
    """The text is no JWK Set; one sentence, without a subject."""


class Jwks(msgspec.Struct, frozen=True):
    """The usable keys by ``kid``, and for each other entry one phrase that says why it is not used."""

    keys: Mapping[str, Any]
    passed_over: tuple[str, ...] = ()


class _UnusableError(Exception):
    """An entry is no use here; why."""


def read_jwks(content: bytes, algorithms: Iterable[str]) -> Jwks:
    """Return the keys that check signatures of one of ``algorithms``. Raises JwksError.

    An entry must name itself (``kid``), since tokens do. Where two usable ones have one name,
    neither is used: which was meant cannot be told.
    """
    allowed = tuple(algorithms)
    keys: dict[str, Any] = {}
    passed_over: list[str] = []
    twice: set[str] = set()
    for i, entry in enumerate(_entries(content)):
        try:
            kid, key = _key(entry, allowed)
        except _UnusableError as why:
            passed_over.append(f"{_label(entry, i)} {why}")
            continue
        if kid in keys:
            twice.add(kid)
        keys[kid] = key
    for kid in sorted(twice):
        del keys[kid]
        passed_over.append(f"`{kid[:_NAMED]}` stands for several keys")
    return Jwks(keys, tuple(passed_over))


def _entries(content: bytes) -> list[Any]:
    try:
        document = json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        raise JwksError("is not JSON that can be read in one way") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise JwksError("is no JWK Set: it has no list `keys`")
    if len(entries) > MAXIMUM_KEYS:
        raise JwksError(f"has more than {MAXIMUM_KEYS} keys")
    return entries


def _without_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("duplicate members")
    return found


def _label(entry: Any, place: int) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return f"`{kid[:_NAMED]}`" if is_name(kid) else f"number {place + 1}"


def _key(entry: Any, allowed: tuple[str, ...]) -> tuple[str, Any]:
    """Return name and key of an entry; raises _UnusableError."""
    if not isinstance(entry, dict):
        raise _UnusableError("is no object")
    kid, kind = entry.get("kid"), entry.get("kty")
    if kind == "oct":  # who can check a HMAC can make it (RFC 8725 §2.1)
        raise _UnusableError("is symmetric")
    if _PRIVATE in entry:
        raise _UnusableError("is published with its private half")
    if not is_name(kid):
        raise _UnusableError("has no `kid`")
    if entry.get("use", "sig") != "sig" or not _may_verify(entry.get("key_ops", ["verify"])):
        raise _UnusableError("is not for signatures")
    algorithms = (entry["alg"],) if "alg" in entry else allowed
    if not set(map(str, algorithms)) & set(allowed):
        raise _UnusableError("is for an algorithm that is not configured")
    try:
        key = _built(kind, entry)
    except (ValueError, UnsupportedAlgorithm):
        raise _UnusableError("is malformed") from None
    if not any(suits(algorithm, key) for algorithm in allowed if algorithm in algorithms):
        raise _UnusableError("is of a type, curve or size that the configured algorithms do not take")
    return kid, key


def _may_verify(operations: Any) -> bool:
    return isinstance(operations, list) and "verify" in operations


def _built(kind: Any, entry: Mapping[str, Any]) -> Any:
    """Return the public key that an entry describes; raises ValueError where it describes none."""
    curve = entry.get("crv")
    if kind == "RSA":
        return rsa.RSAPublicNumbers(_number(entry, "e"), _number(entry, "n")).public_key()
    if kind == "EC" and curve in ("P-256", "P-384", "P-521"):
        point = _number(entry, "x"), _number(entry, "y")
        return ec.EllipticCurvePublicNumbers(*point, _CURVES[curve]()).public_key()
    if kind == "OKP" and curve in ("Ed25519", "Ed448"):
        return _EDWARDS[curve](_bytes(entry, "x"))
    raise _UnusableError("is of a type or curve that is not known")


def _number(entry: Mapping[str, Any], member: str) -> int:
    return int.from_bytes(_bytes(entry, member), "big")


def _bytes(entry: Mapping[str, Any], member: str) -> bytes:
    """Return what a member says in base64url without padding (RFC 7518 §2); raises ValueError."""
    text = entry.get(member)
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise ValueError(f"{member} is not base64url")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError(str(error)) from None
