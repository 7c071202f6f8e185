"""Cold keys as a decision finds them: by the leading part of their token, and what argon2id has shown of it.

A cold key has no digest under a pepper that is here. Nothing in this room is slow: whether a token
is the one is found out by the prover, the single writer of `ColdProofs`. Pure; imports ``core`` only.

Promise: what is no cold key's locator never asks for argon2id.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from gateway.core.envelope import read_unverified
from gateway.core.model import ColdKey, KeyTable, LiveKey, Verify

OnceRefused = tuple[bytes, bytes]
"""A token's digest and the locator of the key that it is not the token of."""


class VerifyKey(Verify, frozen=True):
    """A token has a cold key's locator; only argon2id can tell whether it is its token. The repr keeps it."""

    token: bytes
    cold: ColdKey

    def __repr__(self) -> str:
        return f"VerifyKey({self.cold!r})"


class ColdProofs:
    """What argon2id has shown of tokens, with a single writer: the prover.

    Attributes:
        proven: digest → the cold key whose token it is, of as many as are held, until the key's digest
            comes back by the feed.
        refused: tokens that were found wrong for a key, bounded apart.
    """

    __slots__ = ("proven", "refused")

    def __init__(
        self,
        proven: MutableMapping[bytes, ColdKey] | None = None,
        refused: MutableMapping[OnceRefused, ColdKey] | None = None,
    ) -> None:
        self.proven: MutableMapping[bytes, ColdKey] = {} if proven is None else proven
        self.refused: MutableMapping[OnceRefused, ColdKey] = {} if refused is None else refused

    def key(self, digest: bytes, table: KeyTable) -> LiveKey | None:
        """Return the cold key, as it stands in the table now, whose token has been proven."""
        proven = self.proven.get(digest)
        if proven is None:
            return None
        found = table.cold.get(proven.locator)
        return found.key if found is not None and found.verifier == proven.verifier else None

    def wanted(self, token: bytes, digest: bytes, table: KeyTable) -> VerifyKey | None:
        """Return what has to be proven of a token that is no key's by its digest; None: nothing."""
        for length in table.cold_lengths:
            if length < len(token) and (cold := table.cold.get(token[:length])) is not None:
                wanted = self._unless_refused(token, digest, cold)
                if wanted is not None:
                    return wanted
        return None

    def wanted_of_signed(self, token: bytes, digest: bytes, table: KeyTable) -> VerifyKey | None:
        """Return what has to be proven of a signed token that says it is a key: ``jti`` finds its record."""
        envelope = read_unverified(token)
        key_id = envelope.claims.get("jti") if envelope is not None else None
        cold = table.cold.get(key_id.encode("ascii", "replace")) if isinstance(key_id, str) else None
        return self._unless_refused(token, digest, cold) if cold is not None else None

    def _unless_refused(self, token: bytes, digest: bytes, cold: ColdKey) -> VerifyKey | None:
        # The record as it was then: one that has changed since is asked anew.
        if self.refused.get((digest, cold.locator)) is cold:
            return None
        return VerifyKey(digest, token, cold)
