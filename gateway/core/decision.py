"""Decide whether one request may pass, and to which upstream.

Pure: the snapshot, the request head and the time are arguments, so any decision can be replayed.
Imports only ``core``.

Promise: every path returns a Decision; nothing forwards by default, and `decide` is the only
maker of `Forward`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from gateway.core.credentials import read_credential
from gateway.core.http1 import RequestHead
from gateway.core.model import MILLISECONDS, Freshness, KeyTable, LiveKey, Permission, Reject, Role
from gateway.core.refusals import Reason
from gateway.core.routes import Route, Router, within
from gateway.core.section import FieldSection
from gateway.core.target import rewrite_target
from gateway.core.tokens import DEFAULT_PREFIX, Digester, is_opaque

READ_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_ANY_SOURCE = ("x-api-key", "authorization")
_JWT = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a decision may read; replaced whole when the configuration changes.

    ``keys`` is the live table, the one part that changes in place (its writer is the feed).
    """

    router: Router
    roles: Mapping[str, Role]
    keys: KeyTable
    digester: Digester
    freshness: Freshness = Freshness()


class Forward(msgspec.Struct, frozen=True, gc=False):
    """The request may go to ``route.upstream``; ``key`` is None on an anonymous route.

    ``target`` is what is asked of the backend, after the route's own rewriting.
    """

    route: Route
    key: LiveKey | None
    permission: Permission | None
    target: bytes


Decision = Forward | Reject


class Proof(msgspec.Struct, gc=False):
    """What the credential lines of a request were found to prove, for as long as nothing has changed.

    Callers repeat their credential on a connection; then the key need not be looked for again. It
    holds for those very lines, the sources that were read, one state of the key table and one set
    of peppers. Age, expiry and all that follows are judged each time.
    """

    api_keys: tuple[tuple[bytes, bytes], ...] = ()
    authorizations: tuple[tuple[bytes, bytes], ...] = ()
    sources: tuple[str, ...] = ()
    version: int = -1
    digester: Digester | None = None
    found: LiveKey | Reason = Reason.CREDENTIAL_MISSING


def decide(head: RequestHead, snapshot: Snapshot, now: float, proof: Proof | None = None) -> Decision:
    """Judge one request.

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
    if isinstance(key, Reject):
        return key
    return _authorize(head, route, key, snapshot, target)


def authenticate(
    fields: FieldSection,
    sources: tuple[str, ...],
    snapshot: Snapshot,
    now: float,
    proof: Proof | None = None,
) -> LiveKey | Reject:
    """Find the live key that the credential in ``sources`` proves, or say why there is none."""
    table = snapshot.keys
    if (
        proof is not None
        and proof.version == table.version
        and proof.api_keys == fields.api_keys
        and proof.authorizations == fields.authorizations
        and proof.sources is sources
        and proof.digester is snapshot.digester
    ):
        key = proof.found
    else:
        key = _find(fields, sources, snapshot)
        if proof is not None:
            proof.api_keys, proof.authorizations = fields.api_keys, fields.authorizations
            proof.sources, proof.found = sources, key
            proof.version, proof.digester = table.version, snapshot.digester
    if isinstance(key, Reason) and key not in _MISSES:
        return Reject(key)
    if table.synced_at is None:
        return Reject(Reason.NOT_READY)
    age = now - table.synced_at
    if isinstance(key, Reason):
        return Reject(Reason.KEY_TABLE_STALE if age > snapshot.freshness.fresh_s else key)
    if age > snapshot.freshness.bound_s:
        return Reject(Reason.KEY_TABLE_STALE, key)
    if key.revoked_at is not None:
        return Reject(Reason.KEY_REVOKED, key)
    # The store's clock, carried on by the boot clock: steps of the local wall clock change nothing.
    if (table.store_offset_s + now) * MILLISECONDS >= key.expires_at:
        return Reject(Reason.KEY_EXPIRED, key)
    return key


# Said only while the table is fresh enough to know.
_MISSES = frozenset((Reason.KEY_UNKNOWN, Reason.TOKEN_INVALID))


def _find(fields: FieldSection, sources: tuple[str, ...], snapshot: Snapshot) -> LiveKey | Reason:
    """Look for the key of the credential that ``sources`` carry."""
    token = read_credential(fields, sources)
    if isinstance(token, Reason):
        return token
    table = snapshot.keys
    if not _may_be_key(token, table):
        return Reason.CREDENTIAL_MALFORMED
    key = table.by_digest.get(snapshot.digester.digest(token))
    if key is not None:
        return key
    return Reason.TOKEN_INVALID if _JWT.fullmatch(token) else Reason.KEY_UNKNOWN


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
    if tenant is None or not tenant.api_keys_enabled:
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
