"""Read login tokens as the proxy does, with the signing keys of the store.

What costs little comes first, so that garbage costs no look-up and a stranger's key id no flood of
them. Imports ``core``, ``store`` and its own plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.control.signing import Signing
from gateway.core.envelope import read_unverified
from gateway.core.jws import Claims, TrustedIssuer, own_issuer, verify
from gateway.core.model import MILLISECONDS
from gateway.core.rate import Rate, judge
from gateway.core.refusals import Reason
from gateway.store.base import Store
from gateway.store.login import ended_token

RELOADS = Rate(10, 10.0)
"""How often an unknown key id may have the keys read again, however many tokens name one.

Usually at once, for a token that another replica has just signed; once a second under a flood.
"""
KEEP_S = 60.0
"""How long the keys are believed: one that was retired meanwhile ends late by no more."""


class LoginTokens:
    """Judges login tokens; keeps the public keys for a while."""

    def __init__(
        self, store: Store, signing: Signing, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Take a migrated store and what lists its keys; ``monotonic`` tells seconds."""
        self._store = store
        self._signing = signing
        self._monotonic = monotonic
        self._issuer: TrustedIssuer | None = None
        self._read_at = -KEEP_S
        self._arrival = 0.0

    async def claims(self, token: bytes) -> Claims | Reason:
        """Return what a token of ours that has not been ended says; or why it counts for nothing.

        Whether its user is still what she was is not told here. Raises StoreError.
        """
        envelope = read_unverified(token)
        if envelope is None or envelope.issuer != self._signing.issuer:
            return Reason.TOKEN_INVALID
        issuer = await self._issuer_with(envelope.kid)
        claims = verify(token, {issuer.issuer: issuer}, self._signing.now_ms() / MILLISECONDS)
        if isinstance(claims, Reason):
            return claims
        if await self._store.read(ended_token(claims.token_id)):
            return Reason.TOKEN_INVALID
        return claims

    async def _issuer_with(self, kid: str) -> TrustedIssuer:
        """Return our keys; an id that is not among them has them read again, now and then."""
        now, known = self._monotonic(), self._issuer
        if known is not None and now - self._read_at < KEEP_S:
            if kid in known.keys:
                return known
            verdict = judge(RELOADS, self._arrival, now)
            self._arrival = verdict.arrival
            if not verdict.admitted:
                return known
        self._read_at = now
        keys = [(key.kid, key.public_pem, key.retired_at) for key in await self._signing.list_keys()]
        self._issuer = own_issuer(self._signing.issuer, keys, self._signing.token_ttl_ms)
        return self._issuer
