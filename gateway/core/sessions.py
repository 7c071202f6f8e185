"""Login tokens as a decision finds them: proven ones by digest, and the issuers that the others may be of.

The cheap questions are asked here, so that garbage is refused at once; whether a signature holds
is left to the verifier, the single writer of `Sessions`. Pure; imports ``core`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

import msgspec

from gateway.core.envelope import KEY_AUDIENCE, Envelope, TrustedIssuer, read_unverified
from gateway.core.jws import Claims, examine
from gateway.core.model import KeyTable, LiveKey, Permission, Verify
from gateway.core.refusals import Reason


class Session(msgspec.Struct, frozen=True):
    """A login token whose signature holds; whether its bearer may still do anything is asked each time.

    Attributes:
        issuer: ``iss``.
        kid: which of the issuer's keys signed it.
        token_id: ``jti``, under which it may have been logged out; None for an external issuer's.
        viewer: its bearer, while she is a viewer of the tenant there, or nothing.
        editor: its bearer, while she is more; the very same where the token itself says what she is.
    """

    issuer: str
    kid: str
    token_id: str | None
    viewer: LiveKey
    editor: LiveKey

    def bearer(self, table: KeyTable) -> LiveKey:
        """Return who bears the token, as she stands in its tenant now; admin counts as editor here."""
        user_id = self.viewer.user_id
        if user_id is None:
            return self.viewer
        standing = table.users.get(user_id, {}).get(self.viewer.tenant_id, Permission.VIEWER)
        return self.editor if standing >= Permission.EDITOR else self.viewer


class VerifySignature(Verify, frozen=True):
    """Nothing speaks against a login token but that its signature has not been checked. Its repr keeps it."""

    envelope: Envelope
    issuer: TrustedIssuer
    claims: Claims

    def __repr__(self) -> str:
        return f"VerifySignature(issuer={self.claims.issuer!r}, kid={self.claims.kid!r})"


class Sessions:
    """What is known of login tokens, with a single writer: the verifier.

    Attributes:
        issuers: those we trust, by ``iss``; replaced whole, and then the key table's version grows.
        proven: digest → the session, of as many as are held.
        refused: digests of tokens whose signatures were found not to hold, bounded apart.
        key_missed: told the ``iss`` of a token that names a key which its external issuer may have
            begun to use since its keys were fetched.
    """

    __slots__ = ("issuers", "key_missed", "proven", "refused")

    def __init__(
        self,
        proven: MutableMapping[bytes, Session] | None = None,
        refused: MutableMapping[bytes, None] | None = None,
        issuers: Mapping[str, TrustedIssuer] | None = None,
        key_missed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.proven: MutableMapping[bytes, Session] = {} if proven is None else proven
        self.refused: MutableMapping[bytes, None] = {} if refused is None else refused
        self.issuers: Mapping[str, TrustedIssuer] = {} if issuers is None else issuers
        self.key_missed = key_missed

    def judge(self, token: bytes, digest: bytes, now_s: float) -> VerifySignature | Reason:
        """Judge a token that is neither a key of the table nor proven; ``now_s`` is the store's clock.

        Returns KEY_UNKNOWN for a JWT key, TOKEN_INVALID or TOKEN_EXPIRED; else it must be verified.
        """
        envelope = read_unverified(token)
        if envelope is None:
            return Reason.TOKEN_INVALID
        if KEY_AUDIENCE in envelope.audiences:
            return Reason.KEY_UNKNOWN
        claims = examine(envelope, self.issuers, now_s)
        if isinstance(claims, Reason):
            self._note_missing_key(envelope)
            return claims
        if digest in self.refused:
            return Reason.TOKEN_INVALID
        return VerifySignature(digest, envelope, self.issuers[claims.issuer], claims)

    def _note_missing_key(self, envelope: Envelope) -> None:
        issuer = self.issuers.get(envelope.issuer or "")
        if issuer is None or issuer.is_own or envelope.kid in issuer.keys:
            return
        if envelope.algorithm in issuer.algorithms and issuer.audience in envelope.audiences:
            self.key_missed(issuer.issuer)
