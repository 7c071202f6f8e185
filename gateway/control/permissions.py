"""What a key may do at the proxy, asked of the very decision that is made there.

The planes meet in the snapshot: routes, roles and the age of the key table are taken from there, the
key and its holder as the store has them at this moment. Imports ``core``, ``store``
and its own plane.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.control import grants
from gateway.control.errors import Invalid
from gateway.control.subjects import SubjectService
from gateway.core.decision import Forward, Snapshot, decide_for
from gateway.core.grammar import is_authority
from gateway.core.http1 import METHODS, RequestHead, parse_request_head
from gateway.core.limits import Limits
from gateway.core.model import KeyTable, LiveKey, Permission, TenantState
from gateway.core.refusals import Reason
from gateway.core.target import TARGET_BYTES
from gateway.store import people
from gateway.store.base import KeyRecord


class DataPath(msgspec.Struct, frozen=True):
    """The data path as it is seen from here: what decisions read there, and the clock they go by."""

    snapshot: Callable[[], Snapshot]
    clock: Callable[[], float]


class Judgement(msgspec.Struct, frozen=True):
    """What would become of a request with a key.

    Attributes:
        reason: why it would be refused; None: it would not be.
        permission: what the key may do at all; None: its role is no longer configured, or the user
            for whom it acts is nothing in its tenant.
        route: the name of the route, for those whom it lets in.
    """

    reason: Reason | None
    permission: Permission | None
    route: str | None


def read_request(method: str, path: str, host: str) -> RequestHead:
    """Return the head of the request that is asked about. Raises Invalid (method, path, host)."""
    if method.encode("utf-8", "replace") not in METHODS:
        raise Invalid("method", "must be a method that this gateway forwards, such as GET or POST")
    if not is_authority(host.encode("utf-8", "replace")):
        raise Invalid("host", "must be a host name or address, and at most a port")
    target = path.encode("utf-8", "replace")
    if target.startswith(b"/") and not target.translate(None, TARGET_BYTES):
        line = b"%s %s HTTP/1.1\r\n" % (method.encode(), target)
        head = parse_request_head(line + b"Host: " + host.encode(), Limits())
        if isinstance(head, RequestHead):
            return head
    raise Invalid("path", "must be as in a request line: a slash first, spaces and other odd bytes escaped")


class PermissionService(SubjectService):
    """Answers what a key may do."""

    async def judge_key(self, record: KeyRecord, head: RequestHead, data_path: DataPath) -> Judgement:
        """Judge a request as the data path would if it carried a key."""
        snapshot = data_path.snapshot()
        user_id = record.subject_id if record.sub_type == grants.ACTS_AS_USER else None
        tenant = await self.show_tenant(record.tenant_id)
        standing = await self._store.read(people.standing(user_id, tenant.id)) if user_id else None
        table = KeyTable()
        table.synced_at, table.store_offset_s = snapshot.keys.synced_at, snapshot.keys.store_offset_s
        table.tenants = {tenant.id: TenantState(self.policy_of(tenant).api_keys_enabled)}
        table.users = {user_id: {tenant.id: standing}} if user_id and standing else {}
        snapshot = msgspec.structs.replace(snapshot, keys=table)
        decision = decide_for(head, _live(record, user_id), snapshot, data_path.clock())
        role = snapshot.roles.get(record.role)
        permission = None
        if role is not None and (user_id is None or standing is not None):
            permission = min(p for p in (record.permission, role.permission, standing) if p is not None)
        if isinstance(decision, Forward):
            return Judgement(None, permission, decision.route.name)
        route = None
        # Whom a route lets in may know of it, whatever the method; nobody else (design: told last).
        if decision.reason is Reason.PERMISSION_DENIED:
            route = snapshot.router.match(head.fields.host, head.view)
        return Judgement(decision.reason, permission, route.name if route else None)


def _live(record: KeyRecord, user_id: str | None) -> LiveKey:
    """Return what a decision reads of a key; its identity lines go nowhere, but name it as a key."""
    return LiveKey(
        who=f"X-Gateway-Key-Id: {record.id}\r\n".encode(),
        scope=b"",
        tenant_id=record.tenant_id,
        environment_id=record.environment_id,
        role=record.role,
        permission=record.permission,
        expires_at=record.expires_at,
        revoked_at=record.revoked_at,
        user_id=user_id,
    )
