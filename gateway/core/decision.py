"""Decide whether one request may pass, and to which upstream.

Pure: the snapshot, the request head and the time are arguments, so any decision can be replayed.
Imports only ``core``.

Promise: every path returns a Decision; nothing forwards by default, and `decide` is the only
maker of `Forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from gateway.core.cold import ColdProofs
from gateway.core.credentials import read_credential
from gateway.core.envelope import has_token_shape
from gateway.core.http1 import RequestHead
from gateway.core.model import (
    MILLISECONDS,
    Freshness,
    KeyTable,
    LiveKey,
    Permission,
    Reject,
    Role,
    Verify,
)
from gateway.core.refusals import Reason
from gateway.core.routes import Route, Router, within
from gateway.core.section import FieldSection
from gateway.core.sessions import Session, Sessions
from gateway.core.target import rewrite_target
from gateway.core.tokens import DEFAULT_PREFIX, Digester, is_opaque

READ_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_ANY_SOURCE = ("x-api-key", "authorization")
# An enum's member costs a look-up of its own, and a refusal should cost little.
_KEY_UNKNOWN = Reason.KEY_UNKNOWN


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a decision may read; replaced whole when the configuration changes.

    ``keys`` is the live table, the one part that changes in place (its writer is the feed), with
    ``sessions``, the login tokens that have been proven (their writer is the verifier), and ``cold``,
    what argon2id has shown (its writer is the prover). ``found_older`` is told a key that was found
    by its digest under an older pepper, and its token.
    """

    router: Router
    roles: Mapping[str, Role]
    keys: KeyTable
    digester: Digester
    freshness: Freshness = Freshness()
    sessions: Sessions = msgspec.field(default_factory=Sessions)
    cold: ColdProofs = msgspec.field(default_factory=ColdProofs)
    found_older: Callable[[LiveKey, bytes], None] = lambda _key, _token: None


class Forward(msgspec.Struct, frozen=True, gc=False):
    """The request may go to ``route.upstream``; ``key`` is None on an anonymous route.

    ``target`` is what is asked of the backend, after the route's own rewriting.
    """

    route: Route
    key: LiveKey | None
    permission: Permission | None
    target: bytes


Decision = Forward | Reject | Verify


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


def decide(head: RequestHead, snapshot: Snapshot, now: float, proof: Proof | None = None) -> Decision:
    """Judge one request. `Verify` asks for the credential to be proven, and to be asked again then.

    Args:
        head: the request head, which is well-formed.
        snapshot: what is known.
        now: seconds on the boot clock, the clock of ``keys.synced_at``.
        proof: what the last request of the same connection proved; renewed here. It saves work and
            changes no decision.

    The route is matched first and told last, so what does not exist is revealed only to those who
    are let in; the order in between is design §5's.
    """
    route = snapshot.router.match(head.fields.host, head.view)
    if route is False:
        return Reject(Reason.BAD_REQUEST)
    target: bytes | None = head.target
    if route is not None and (route.strip_prefix or route.add_prefix):
        target = rewrite_target(head.target, route.strip_prefix.encode(), route.add_prefix.encode())
    if target is None:
        return Reject(Reason.BAD_REQUEST)
    if route is not None and route.anonymous:
        return Forward(route, None, None, target)
    sources = route.credentials if route is not None else _ANY_SOURCE
    key = authenticate(head.fields, sources, snapshot, now, proof)
    if not isinstance(key, LiveKey):
        return key
    return _authorize(head, route, key, snapshot, target)


def decide_for(head: RequestHead, key: LiveKey, snapshot: Snapshot, now: float) -> Forward | Reject:
    """Judge one request that carries no credential as if it had proven ``key``; nothing is forwarded.

    It is the very `decide`, which finds the key as it would on a connection that has proven it.
    """
    route = snapshot.router.match(head.fields.host, head.view)
    proof = Proof(
        api_keys=head.fields.api_keys,
        authorizations=head.fields.authorizations,
        sources=route.credentials if route else _ANY_SOURCE,
        version=snapshot.keys.version,
        digester=snapshot.digester,
        found=key,
    )
    decision = decide(head, snapshot, now, proof)
    assert not isinstance(decision, Verify), "a key is proven already"
    return decision


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
        if proof is not None and not isinstance(found, Unproven):
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
    if now - table.synced_at > snapshot.freshness.bound_s:
        return Reject(Reason.KEY_TABLE_STALE, key)
    if key.revoked_at is not None:
        return Reject(Reason.KEY_REVOKED, key)
    # The store's clock, carried on by the boot clock: steps of the local wall clock change nothing.
    if (table.store_offset_s + now) * MILLISECONDS >= key.expires_at:
        return Reject(Reason.KEY_EXPIRED if isinstance(found, LiveKey) else Reason.TOKEN_EXPIRED, key)
    return key


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
            snapshot.found_older(key, token)
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
        if age > snapshot.freshness.bound_s:
            return Reject(Reason.KEY_TABLE_STALE, bearer)
        ended = found.token_id is not None and found.token_id in table.ended_tokens
        return Reject(Reason.TOKEN_INVALID, bearer) if ended else bearer
    if isinstance(found, Unproven):
        judged = found.wanted or _judge_signed(found, snapshot, now)
        if isinstance(judged, Verify):
            return judged if age <= snapshot.freshness.bound_s else Reject(Reason.KEY_TABLE_STALE)
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


_DEFAULT_PREFIX = DEFAULT_PREFIX.encode("ascii")
_NOWHERE: Mapping[str, Permission] = {}


def _authorize(
    head: RequestHead, route: Route | None, key: LiveKey, snapshot: Snapshot, target: bytes
) -> Decision:
    tenant = snapshot.keys.tenants.get(key.tenant_id)
    # A tenant that switches its keys off goes on logging in.
    if tenant is None or not (tenant.api_keys_enabled or key.key_id is None):
        return Reject(Reason.HOLDER_DISABLED, key)
    granted = key.permission
    if key.user_id is not None:
        standing = snapshot.keys.users.get(key.user_id, _NOWHERE).get(key.tenant_id)
        if standing is None:
            return Reject(Reason.HOLDER_DISABLED, key)
        granted = min(granted, standing)
    role = snapshot.roles.get(key.role)
    if role is None or not _is_let_in(key, role, route, head):
        return Reject(Reason.ROUTE_DENIED, key)
    permission = granted if granted is role.permission else min(granted, role.permission)
    if (
        head.method not in READ_METHODS
        and permission < Permission.EDITOR
        and (route is None or head.method not in route.read_methods)
    ):
        return Reject(Reason.PERMISSION_DENIED, key)
    if route is None:
        return Reject(Reason.NO_ROUTE, key)
    return Forward(route, key, permission, target)


def _is_let_in(key: LiveKey, role: Role, route: Route | None, head: RequestHead) -> bool:
    """Tell whether the role reaches this path and the route lets this tenant, environment and role in."""
    if role.routes and (
        # A route may let dot segments pass, but not out of where the role ends.
        head.view.unsafe
        or not all(
            any(within(reading, prefix.encode()) for prefix in role.routes) for reading in head.view.readings
        )
    ):
        return False
    if route is None:
        return True
    return (
        (route.tenants is None or key.tenant_id in route.tenants)
        and (route.environments is None or key.environment_id in route.environments)
        and (route.roles is None or key.role in route.roles)
    )
