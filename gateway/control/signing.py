"""The keys that sign tokens: made once, sealed in the store, rotated without breaking a token.

Every replica reads the same keys. The private half leaves the store sealed (AES-256-GCM under a key
of the pepper, bound to the key's id); the one that signs is opened once and kept in memory. Imports
``core``, ``store`` and its own plane.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.control.audit import AuditService
from gateway.control.errors import Conflict
from gateway.control.lifetime import rfc3339
from gateway.core.envelope import OWN_ALGORITHM
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import Digester
from gateway.core.uuid7 import uuid7
from gateway.store.base import Actor, SigningKey, Store
from gateway.store.peppers import peppers_in_use
from gateway.store.signing import keep_signing_key, signing_keys

BITS = 2048
"""RFC 7518 §3.3: RS256 needs at least 2048."""
TOKEN_TTL_MS = 3_600_000
"""How long login tokens live, unless the configuration says otherwise."""
OWN_NAME = "gateway"
"""``iss`` of an installation that has not said under which URL it is reached."""
_ITSELF = Actor(name="gateway", source="signing")
_LABEL = b"gateway signing keys"
_NONCE_BYTES = 12

SigningKeyStatus = Literal["active", "retiring", "ended"]


class Signing(AuditService):
    """Makes, lists and rotates signing keys, and signs with the one that is active.

    Attributes:
        issuer: what the tokens of this installation say in ``iss``.
        token_ttl_ms: how long login tokens live; so long a retired key's signatures still count.
    """

    def __init__(
        self,
        store: Store,
        digester: Digester,
        policy: KeyPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
        *,
        issuer: str = OWN_NAME,
        token_ttl_ms: int = TOKEN_TTL_MS,
    ) -> None:
        """Take a migrated store and the digester of its pepper; the rest as ``AuditService`` has it."""
        super().__init__(store, policy, clock)
        self.issuer = issuer
        self.token_ttl_ms = token_ttl_ms
        self._opened: tuple[str, rsa.RSAPrivateKey] | None = None
        self._digester = digester

    async def start(self) -> None:
        """Make the first key if there is none, and open the one that signs: its faults are told at start.

        Raises Conflict when it was sealed under another pepper, StoreError.
        """
        await self._private()

    async def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a JWT of ``claims`` and ``iss``, signed by the key that is active in the store now.

        Raises Conflict when it was sealed under another pepper, StoreError.
        """
        kid, private = await self._private()
        payload = {"iss": self.issuer, **claims}
        # About a millisecond of arithmetic, which other threads need not wait for.
        return await asyncio.to_thread(
            jwt.encode, payload, private, algorithm=OWN_ALGORITHM, headers={"kid": kid}
        )

    async def ensure(self, actor: Actor) -> SigningKey:
        """Return the key that signs, made now if there is none."""
        active = [key for key in await self.list_keys() if key.retired_at is None]
        return active[-1] if active else await self._make(actor, rotate=False)

    async def rotate(self, actor: Actor) -> SigningKey:
        """Make a key that signs from now on; tokens of the one before are honoured until they end."""
        return await self._make(actor, rotate=True)

    async def list_keys(self) -> list[SigningKey]:
        """Return every signing key, oldest first."""
        return await self._store.read(signing_keys())

    def status(self, key: SigningKey) -> SigningKeyStatus:
        """Return whether a key signs, is honoured for the tokens it signed, or neither."""
        if key.retired_at is None:
            return "active"
        return "retiring" if self.now_ms() < key.retired_at + self.token_ttl_ms else "ended"

    def open_private(self, key: SigningKey) -> rsa.RSAPrivateKey:
        """Return the private half. Raises Conflict when it was sealed under another pepper."""
        private = serialization.load_der_private_key(self._unsealed(key), password=None)
        assert isinstance(private, rsa.RSAPrivateKey)
        return private

    def resealed(self, key: SigningKey, pepper_id: str) -> bytes | None:
        """Return the private half sealed under another pepper; None where it cannot be opened."""
        try:
            return self._sealed(self._unsealed(key), key.kid, pepper_id)
        except Conflict:
            return None

    def _unsealed(self, key: SigningKey) -> bytes:
        nonce, sealed = key.sealed[:_NONCE_BYTES], key.sealed[_NONCE_BYTES:]
        try:
            sealer = AESGCM(self._digester.derived_key(_LABEL, key.pepper_id))
            return sealer.decrypt(nonce, sealed, key.kid.encode())
        except (KeyError, InvalidTag):
            raise Conflict(
                f"the signing key {key.kid} was sealed under another pepper:"
                " run `gateway signing-keys rotate`"
            ) from None

    def _sealed(self, der: bytes, kid: str, pepper_id: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        sealer = AESGCM(self._digester.derived_key(_LABEL, pepper_id))
        return nonce + sealer.encrypt(nonce, der, kid.encode())

    async def _private(self) -> tuple[str, rsa.RSAPrivateKey]:
        """Return the active key opened; it is opened anew when another one has become active."""
        active = await self.ensure(_ITSELF)
        opened = self._opened
        if opened is None or opened[0] != active.kid:
            opened = active.kid, await asyncio.to_thread(self.open_private, active)
            self._opened = opened
        return opened

    async def _make(self, actor: Actor, *, rotate: bool) -> SigningKey:
        in_use = await self._store.read(peppers_in_use())
        here = [pepper_id for pepper_id in in_use if pepper_id in self._digester.pepper_ids]
        pepper_id = here[-1] if here else self._digester.pepper_ids[0]
        key = await asyncio.to_thread(self._new_key, pepper_id)  # hundreds of milliseconds
        action = "signing_key.rotate" if rotate else "signing_key.create"
        audit = self._audit(actor, action, "signing_key", key.kid, None)
        return await self._store.write(keep_signing_key(key, audit, rotate=rotate))

    def _new_key(self, pepper_id: str) -> SigningKey:
        private = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
        now = self.now_ms()
        kid = f"sig_{uuid7(now, os.urandom(10))}"
        der = private.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return SigningKey(
            kid=kid,
            public_pem=pem.decode(),
            sealed=self._sealed(der, kid, pepper_id),
            pepper_id=pepper_id,
            created_at=now,
        )


def jwk(key: SigningKey) -> dict[str, str]:
    """Return the public half as a JSON Web Key (RFC 7517, RFC 7518 §6.3.1)."""
    public = serialization.load_pem_public_key(key.public_pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    numbers = public.public_numbers()
    return {
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": key.kid,
        "n": _base64url(numbers.n),
        "e": _base64url(numbers.e),
    }


def signing_key_view(key: SigningKey, status: SigningKeyStatus) -> dict[str, Any]:
    """Return a signing key as a JSON object, never its private half."""
    return {
        "kid": key.kid,
        "status": status,
        "createdAt": rfc3339(key.created_at),
        "retiredAt": rfc3339(key.retired_at) if key.retired_at is not None else None,
    }


def _base64url(number: int) -> str:
    content = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
