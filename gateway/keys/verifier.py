"""Check the signatures of login tokens: off the event loop, each token once, no more than can wait.

The single writer of `Sessions`: of the issuers that a decision may trust (ours from the key
table's signing keys, the external ones as they are told) and of the tokens that were found good.
Imports ``core`` and its own plane.

Promise: a token is proven by a signature that was checked against a key that its issuer still has
at that moment; whatever fails proves nothing.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from cachetools import LRUCache

from gateway.core.envelope import TrustedIssuer
from gateway.core.jws import Claims, own_issuer, signature_holds
from gateway.core.model import KeyTable, LiveKey, Permission
from gateway.core.refusals import Reason
from gateway.core.sessions import Session, Sessions, VerifySignature
from gateway.keys.table import field_text

OWN_ISSUER = "gateway"
TOKEN_TTL_MS = 3_600_000
PROVEN_MAX = 10_000
"""Proven tokens that are held, a kilobyte each; one more pushes out the one longest unasked for."""
REFUSED_MAX = 1_000
"""Tokens whose signature was found bad, held apart so that junk pushes out nothing good."""
WAITING_MAX = 256
"""Tokens that wait for their check: some ten milliseconds' work."""

Done = Callable[[Reason | None], None]
_log = logging.getLogger("gateway.keys")


class Verifier:
    """Checks signatures for the decisions of one key table.

    Attributes:
        sessions: what decisions read; belongs into the snapshot.
        checked: how many signatures have been checked so far.
    """

    def __init__(
        self,
        table: KeyTable,
        *,
        issuer: str = OWN_ISSUER,
        token_ttl_ms: int = TOKEN_TTL_MS,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """Take the table whose signing keys are ours, and what our tokens say in ``iss``.

        ``token_ttl_ms`` is how long our tokens live, and so how long a retired key is honoured.
        """
        self.sessions = Sessions(LRUCache(PROVEN_MAX), LRUCache(REFUSED_MAX))
        self.checked = 0
        self._table = table
        self._issuer = issuer
        self._token_ttl_ms = token_ttl_ms
        self._waiting_max = waiting_max
        self._external: dict[str, TrustedIssuer] = {}
        self._waiting: dict[bytes, list[Done]] = {}
        self._closed = False
        # One thread: more would only take turns with the loop.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="verify")
        self.rekey()

    def rekey(self) -> None:
        """Take over the table's signing keys; to be called on the loop whenever they were replaced."""
        keys = []
        for kid, key in self._table.signing_keys.items():
            row = (kid, key.public_pem, key.retired_at)
            try:
                own_issuer(self._issuer, [row], self._token_ttl_ms)
            except ValueError:
                _log.error("the signing key %s cannot be read: its tokens are refused", kid)
            else:
                keys.append(row)
        self._replace({**self._external, self._issuer: own_issuer(self._issuer, keys, self._token_ttl_ms)})

    def trust(self, issuers: Sequence[TrustedIssuer]) -> None:
        """Trust these external issuers and no others; to be called on the loop, whole, at every change.

        Raises ValueError for one that claims to be ours.
        """
        if any(issuer.is_own or issuer.issuer == self._issuer for issuer in issuers):
            raise ValueError(f"the issuer {self._issuer!r} is this gateway itself")
        self._external = {issuer.issuer: issuer for issuer in issuers}
        self._replace({**self._external, self._issuer: self.sessions.issuers[self._issuer]})

    def verify(self, wanted: VerifySignature, done: Done) -> bool:
        """Have a signature checked; False when too many wait.

        ``done`` is called on the running loop, never from here: with None when it is worth deciding
        again, or why not.
        """
        waiting = self._waiting.get(wanted.digest)
        if waiting is not None:
            waiting.append(done)
            return True
        if self._closed or len(self._waiting) >= self._waiting_max:
            return False
        self._waiting[wanted.digest] = [done]
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self._executor, signature_holds, wanted.envelope, wanted.issuer)
        check.add_done_callback(functools.partial(self._on_checked, wanted))
        return True

    def close(self) -> None:
        """Let the thread go; who still waits is not told. Safe to call twice."""
        self._closed = True
        self._waiting.clear()
        self._executor.shutdown(cancel_futures=True)

    def _on_checked(self, wanted: VerifySignature, check: asyncio.Future[bool]) -> None:
        reason = self._learn(wanted, check)
        loop = asyncio.get_running_loop()
        for done in self._waiting.pop(wanted.digest, ()):
            # Each on its own: a fault of one must not keep the others waiting.
            loop.call_soon(done, reason)

    def _learn(self, wanted: VerifySignature, check: asyncio.Future[bool]) -> Reason | None:
        """Note what was found; None when the decision should be made again."""
        if check.cancelled():
            return Reason.OVERLOADED
        error = check.exception()
        if error is not None:
            _log.error("a signature could not be checked: %s", type(error).__name__)
            return Reason.OVERLOADED
        self.checked += 1
        if self.sessions.issuers.get(wanted.claims.issuer) is not wanted.issuer:
            return None  # its keys have been replaced meanwhile: what was found counts no more
        if check.result():
            self.sessions.proven[wanted.digest] = session_of(wanted.claims, wanted.issuer)
        else:
            self.sessions.refused[wanted.digest] = None
        return None

    def _replace(self, issuers: Mapping[str, TrustedIssuer]) -> None:
        """Trust these issuers, and of what was proven keep what the same key would prove again."""
        before, sessions = self.sessions.issuers, self.sessions
        kept = {
            (name, kid): issuer.ends.get(kid)
            for name, issuer in issuers.items()
            if name in before
            for kid in _unchanged(before[name], issuer)
        }
        for digest, session in list(sessions.proven.items()):
            ends = kept.get((session.issuer, session.kid), 0)
            if ends is not None and ends < session.viewer.expires_at:
                del sessions.proven[digest]
        sessions.refused.clear()
        sessions.issuers = issuers
        self._table.version += 1


def session_of(claims: Claims, issuer: TrustedIssuer) -> Session:
    """Return the session of a token whose signature holds."""
    if issuer.is_own:
        viewer = _bearer(claims, Permission.VIEWER.word, Permission.VIEWER)
        editor = _bearer(claims, Permission.EDITOR.word, Permission.EDITOR)
        return Session(claims.issuer, claims.kid, claims.token_id, viewer, editor)
    # The role that the token's own is mapped to says all: nothing here bounds it further.
    bearer = _bearer(claims, claims.role, Permission.ADMIN)
    return Session(claims.issuer, claims.kid, None, bearer, bearer)


def _bearer(claims: Claims, role: str, permission: Permission) -> LiveKey:
    return LiveKey(
        who=f"X-Gateway-Subject: {field_text(claims.subject)}\r\n".encode("ascii"),
        scope=(
            f"X-Gateway-Tenant: {field_text(claims.tenant_id)}\r\nX-Gateway-Role: {field_text(role)}\r\n"
        ).encode("ascii"),
        tenant_id=claims.tenant_id,
        environment_id=None,
        role=role,
        permission=permission,
        expires_at=claims.expires_at,
        revoked_at=None,
        user_id=claims.user_id,
    )


def _unchanged(before: TrustedIssuer, after: TrustedIssuer) -> list[str]:
    """Return the ids of keys that are still what they were, of an issuer that is."""
    if msgspec.structs.replace(before, keys=after.keys, ends=after.ends) != after:
        return []
    return [kid for kid, key in after.keys.items() if before.keys.get(kid) == key]
