"""Make tokens, and the fields of a key's record that come of its token.

Imports ``core``, ``store`` and its own plane.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal, Protocol

import msgspec

from gateway.control.errors import Busy, Conflict
from gateway.control.passwords import HasherBusyError
from gateway.control.signing import Signing
from gateway.core.envelope import KEY_AUDIENCE
from gateway.core.model import MILLISECONDS
from gateway.core.tokens import Digester, kept_digests, locator_of, make_token
from gateway.store.base import KeyRecord, Store
from gateway.store.peppers import peppers_in_use

SHOWN_AFTER_PREFIX = 4
ARGON2ID = "argon2id"

KeyFormat = Literal["opaque", "jwt"]
"""What a token is: text of our own form, or a signed JWT (``003``)."""


class TokenHasher(Protocol):
    """What makes the verifier of record of a token."""

    async def hash(self, secret: str) -> str:
        """Return the argon2id string of ``secret``."""
        ...


class KeyClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a key that is a JWT says of itself; instants are epoch milliseconds.

    It is for clients that look inside: whether the key is good is told by its digest alone.
    """

    key_id: str
    subject_id: str
    sub_type: str
    tenant_id: str
    created_at: int
    expires_at: int


def claims_of(record: KeyRecord) -> KeyClaims:
    """Return what the token of a key says of it."""
    return KeyClaims(
        key_id=record.id,
        subject_id=record.subject_id,
        sub_type=record.sub_type,
        tenant_id=record.tenant_id,
        created_at=record.created_at,
        expires_at=record.expires_at,
    )


class Mint:
    """Makes tokens; keeps none of them."""

    def __init__(self, store: Store, digester: Digester, hasher: TokenHasher, signing: Signing) -> None:
        self._store = store
        self._digester = digester
        self._hasher = hasher
        self._signing = signing

    async def make(self, prefix: str, *, jwt: KeyClaims | None = None) -> tuple[str, dict[str, Any]]:
        """Return a new token and the fields of its record.

        With ``jwt`` it is a signed JWT and has no ``prefix`` of ours. What finds the record of such a
        key, should its digest be lost, is ``jti``: the key's id, which no opaque token's locator can
        be. Raises Busy when too many are being made, Conflict when the store is used with other
        peppers by now.
        """
        token = make_token(prefix, secrets.choice) if jwt is None else await self._signed(jwt)
        try:
            verifier = await self._hasher.hash(token)
        except HasherBusyError as error:
            raise Busy(str(error)) from None
        return token, {
            "prefix": token[: SHOWN_AFTER_PREFIX + (len(prefix) if jwt is None else 0)],
            "last_four": token[-4:],
            **await self._digests(token),
            "hash_algo": ARGON2ID,
            "locator": locator_of(token, prefix) if jwt is None else jwt.key_id,
            "verifier": verifier,
        }

    async def _digests(self, token: str) -> dict[str, Any]:
        in_use = await self._store.read(peppers_in_use())
        kept = kept_digests(
            self._digester.digests(token.encode("ascii")), in_use or self._digester.pepper_ids[:1]
        )
        if kept is None:
            raise Conflict(f"pepper {in_use[-1]}, which keys are made with now, is not here: restart with it")
        return kept._asdict()

    async def _signed(self, key: KeyClaims) -> str:
        claims = {
            "aud": KEY_AUDIENCE,
            "sub": key.subject_id,
            "subType": key.sub_type,
            "tenantId": key.tenant_id,
            "jti": key.key_id,
            "iat": key.created_at // MILLISECONDS,
            "exp": key.expires_at // MILLISECONDS,
        }
        return await self._signing.sign(claims)
