"""Decide whether one request may pass, and to which upstream.

Pure: the snapshot, the request head and the time are arguments, so any decision can be replayed.
Imports only ``core``.

Promise: every path returns a Decision; nothing forwards by default, and `decide` is the only
maker of `Forward`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.authentication import Proof as Proof
from gateway.core.authentication import Snapshot as Snapshot
from gateway.core.authentication import authenticate
from gateway.core.http1 import RequestHead
from gateway.core.model import LiveKey, Permission, Reject, Role, Verify
from gateway.core.refusals import Reason
from gateway.core.routes import Route, within
from gateway.core.target import rewrite_target

READ_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_ANY_SOURCE = ("x-api-key", "authorization")


class Forward(msgspec.Struct, frozen=True, gc=False):
    """The request may go to ``route.upstream``; ``key`` is None on an anonymous route.

    ``target`` is what is asked of the backend, after the route's own rewriting.
    """

    route: Route
    key: LiveKey | None
    permission: Permission | None
    target: bytes


Decision = Forward | Reject | Verify


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
