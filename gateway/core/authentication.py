"""Find who is proven by the credential that a request carries.

Pure, as `decide` is, which asks this first: what is known is read from the snapshot. Imports only
``core``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.core.cold import ColdProofs
from gateway.core.credentials import read_credential
from gateway.core.envelope import has_token_shape
from gateway.core.model import MILLISECONDS, Freshness, KeyTable, LiveKey, Reject, Role, Verify
from gateway.core.refusals import Reason
from gateway.core.routes import Router
from gateway.core.section import FieldSection
from gateway.core.sessions import Session, Sessions
from gateway.core.tokens import DEFAULT_PREFIX, Digester, is_opaque

# An enum's member costs a look-up of its own, and a refusal should cost little.
_KEY_UNKNOWN = Reason.KEY_UNKNOWN
_DEFAULT_PREFIX = DEFAULT_PREFIX.encode("ascii")


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a decision may read; replaced whole when the configuration changes.

    ``keys`` is the live table, the one part that changes in place (its writer is the feed), with
    ``sessions``, the login tokens that have been proven (their writer is the verifier), and ``cold``,
    what argon2id has shown (its writer is the prover). ``found_older`` is told a key that was found
    by its digest under an older pepper, its token and that digest.
    """

    router: Router
    roles: Mapping[str, Role]
    keys: KeyTable
    digester: Digester
    freshness: Freshness = Freshness()
    sessions: Sessions = msgspec.field(default_factory=Sessions)
    cold: ColdProofs = msgspec.field(default_factory=ColdProofs)
    found_older: Callable[[LiveKey, bytes, bytes], None] = lambda _key, _token, _digest: None


class Unproven(msgspec.Struct, frozen=True, gc=False):
    """A token that is no key of the table, and not proven (yet); its ``repr`` keeps it.

    It has JWS form, or a cold key's locator: then ``wanted`` is what has to be proven.
    """

    token: bytes
    digest: bytes
    wanted: Verify | None = None

    def __repr__(self) -> str:
        return "Unproven(***)"


class Proof(msgspec.Struct, gc=False):
    """What the credential lines of a request were found to prove, for as long as nothing has changed.

    Callers repeat their credential on a connection; then the key need not be looked for again. It
    holds for those very lines, the sources that were read, one state of the key table and one set
    of peppers. Age, expiry and all that follows are judged each time. A token that is not proven is
    not remembered, since time and the verifier may think of it otherwise the next moment.
    """

    api_keys: tuple[tuple[bytes, bytes], ...] = ()
    authorizations: tuple[tuple[bytes, bytes], ...] = ()
    sources: tuple[str, ...] = ()
    version: int = -1
    digester: Digester | None = None
    found: LiveKey | Session | Reason = Reason.CREDENTIAL_MISSING


def authenticate(
    fields: FieldSection,
    sources: tuple[str, ...],
    snapshot: Snapshot,
    now: float,
    proof: Proof | None = None,
) -> LiveKey | Reject | Verify:
    """Find who is proven by the credential in ``sources``, or say why nobody is."""
    table = snapshot.keys
    if (
        proof is not None
        and proof.version == table.version
        and proof.api_keys == fields.api_keys
        and proof.authorizations == fields.authorizations
        and proof.sources is sources
        and proof.digester is snapshot.digester
    ):
        found: LiveKey | Session | Unproven | Reason = proof.found
    else:
        found = _find(fields, sources, snapshot)
        if proof is not None and not isinstance(found, Unproven) and _is_short(fields):
            proof.api_keys, proof.authorizations = fields.api_keys, fields.authorizations
            proof.sources, proof.found = sources, found
            proof.version, proof.digester = table.version, snapshot.digester
    if isinstance(found, LiveKey):
        key = found
    else:
        bearer = _bearer(found, snapshot, now)
        if not isinstance(bearer, LiveKey):
            return bearer
        key = bearer
    if table.synced_at is None:
        return Reject(Reason.NOT_READY)
    age, freshness = now - table.synced_at, snapshot.freshness
    if age > freshness.bound_s and age > freshness.known_s(table):
        return Reject(Reason.KEY_TABLE_STALE, key)
    if key.revoked_at is not None:
        return Reject(Reason.KEY_REVOKED, key)
    # The store's clock, carried on by the boot clock: steps of the local wall clock change nothing.
    if (table.store_offset_s + now) * MILLISECONDS >= key.expires_at:
        return Reject(Reason.KEY_EXPIRED if isinstance(found, LiveKey) else Reason.TOKEN_EXPIRED, key)
    return key


# Callers hold connections open by thousands, and strangers choose what each of them is to remember.
_REMEMBERED_BYTES_MAX = 4096


def _is_short(fields: FieldSection) -> bool:
    """Tell whether the credential lines may lie with their connection for as long as it is open."""
    lines = fields.api_keys + fields.authorizations
    return sum(len(line) for line, _ in lines) <= _REMEMBERED_BYTES_MAX


def _find(
    fields: FieldSection, sources: tuple[str, ...], snapshot: Snapshot
) -> LiveKey | Session | Unproven | Reason:
    """Look for the key, or the login, of the credential that ``sources`` carry."""
    token = read_credential(fields, sources)
    if isinstance(token, Reason):
        return token
    table = snapshot.keys
    if not _may_be_key(token, table):
        return Reason.CREDENTIAL_MALFORMED
    digest = snapshot.digester.digest(token)
    key = table.by_digest.get(digest)
    if key is not None:
        return key
    if snapshot.digester.has_older or table.cold:
        found = _find_elsewhere(token, digest, snapshot)
        if found is not None:
            return found
    if not has_token_shape(token):
        return _KEY_UNKNOWN
    return snapshot.sessions.proven.get(digest) or Unproven(token, digest)


def _find_elsewhere(token: bytes, digest: bytes, snapshot: Snapshot) -> LiveKey | Unproven | None:
    """Look for a key that is known by an older pepper's digest, or whose digest is not known at all."""
    table = snapshot.keys
    for older in snapshot.digester.older_digests(token):
        key = table.by_digest.get(older)
        if key is not None:
            snapshot.found_older(key, token, older)
            return key
    if not table.cold:
        return None
    key = snapshot.cold.key(digest, table)
    if key is not None:
        return key
    wanted = snapshot.cold.wanted(token, digest, table)
    return Unproven(token, digest, wanted) if wanted is not None else None


def _bearer(found: Session | Unproven | Reason, snapshot: Snapshot, now: float) -> LiveKey | Reject | Verify:
    """Find who bears what is no key of the table, or say why nobody does."""
    if isinstance(found, Reason) and found is not _KEY_UNKNOWN:
        return Reject(found)
    table = snapshot.keys
    if table.synced_at is None:
        return Reject(Reason.NOT_READY)
    age = now - table.synced_at
    if isinstance(found, Session):
        bearer = found.bearer(table)
        if age > snapshot.freshness.known_s(table):
            return Reject(Reason.KEY_TABLE_STALE, bearer)
        ended = found.token_id is not None and found.token_id in table.ended_tokens
        return Reject(Reason.TOKEN_INVALID, bearer) if ended else bearer
    if isinstance(found, Unproven):
        judged = found.wanted or _judge_signed(found, snapshot, now)
        if isinstance(judged, Verify):
            return judged if age <= snapshot.freshness.known_s(table) else Reject(Reason.KEY_TABLE_STALE)
        found = judged
    # What is not known may have been made since: so it is said only while the table is fresh.
    return Reject(found if age <= snapshot.freshness.fresh_s else Reason.KEY_TABLE_STALE)


def _judge_signed(found: Unproven, snapshot: Snapshot, now: float) -> Verify | Reason:
    """Judge a token of JWS form: a login token, or a key that is known by its id alone."""
    table = snapshot.keys
    judged = snapshot.sessions.judge(found.token, found.digest, table.store_offset_s + now)
    if judged is _KEY_UNKNOWN and table.cold:
        return snapshot.cold.wanted_of_signed(found.token, found.digest, table) or judged
    return judged


def _may_be_key(token: bytes, table: KeyTable) -> bool:
    """Tell whether a token is worth a look-up: one of our own form must have the right check digits."""
    if token.startswith(_DEFAULT_PREFIX):
        return is_opaque(token, _DEFAULT_PREFIX)
    if table.prefixes and token.startswith(table.prefixes):
        return any(is_opaque(token, prefix) for prefix in table.prefixes if token.startswith(prefix))
    return True
