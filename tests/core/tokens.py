"""Signed tokens for tests, well made or made wrong on purpose; keys of their own."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.core.envelope import TrustedIssuer
from gateway.core.jws import own_issuer

NOW_S = 1_700_000_000
TTL_MS = 3_600_000
KID = "sig_1"


@cache
def private_key(name: str) -> Any:
    """Return a private key: ``rsa…`` (2048 bits), ``short`` (RSA, 1024 bits), ``p256``, ``p384``, ``ed``."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if name == "short":
        return rsa.generate_private_key(public_exponent=65537, key_size=1024)
    if name == "ed":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[name])


def public_pem(name: str) -> str:
    pem: bytes = (
        private_key(name)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem.decode()


def ours(**retired: int) -> TrustedIssuer:
    """Return our own issuer, with the key ``rsa`` as ``sig_1``; ``retired`` says when some were."""
    return own_issuer("gateway", [(KID, public_pem("rsa"), retired.get(KID))], TTL_MS)


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a login token; a change to ``...`` leaves one out."""
    values: dict[str, Any] = {
        "iss": "gateway",
        "aud": "gateway:login",
        "sub": "subject_ann",
        "email": "ann@example.com",
        "tenant": "default",
        "role": "editor",
        "permission": "editor",
        "iat": NOW_S,
        "exp": NOW_S + 3600,
        "jti": "tok_1",
    }
    return {name: value for name, value in (values | changes).items() if value is not ...}


def signed(
    content: dict[str, Any] | None = None,
    *,
    key: Any = None,
    algorithm: str = "RS256",
    **header: Any,
) -> bytes:
    """Return a well-made token; ``header`` changes or adds header members (``...`` leaves one out)."""
    members = {"alg": algorithm, "typ": "JWT", "kid": KID} | header
    text = json.dumps({name: value for name, value in members.items() if value is not ...})
    return signed_text(text, json.dumps(claims() if content is None else content), key, algorithm)


def signed_text(header: str, payload: str, key: Any = None, algorithm: str = "RS256") -> bytes:
    """Sign two texts as they stand, whatever they are."""
    message = b".".join((part(header.encode()), part(payload.encode())))
    signer = jwt.algorithms.get_default_algorithms()[algorithm]
    return message + b"." + part(signer.sign(message, private_key("rsa") if key is None else key))


def part(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
