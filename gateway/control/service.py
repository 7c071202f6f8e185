"""The one domain service: what the CLI and every wire dialect do to keys, tenants and environments.

It checks, makes and names things; the store keeps them. Imports ``core``, ``store`` and its own
plane.

Promise: a token leaves ``create_key`` only after the key, its audit row and its change are durable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.control.errors import Invalid, NotFound, Refused
from gateway.control.lifetime import after, expiry
from gateway.control.minting import Mint
from gateway.control.names import checked_description, checked_name
from gateway.control.users import Hasher, UserService
from gateway.core.model import Permission, Role
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import DEFAULT_PREFIX, Digester
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    Actor,
    DuplicateError,
    EndedError,
    KeyRecord,
    KeyStatus,
    Store,
    Tenant,
    UnknownEntityError,
)
from gateway.store.lineage import AuditOf, revoke_lineage, rotate_key

BUILT_IN_ROLES: Final = {
    "viewer": Role("viewer", Permission.VIEWER),
    "editor": Role("editor", Permission.EDITOR),
}
DEFAULT_OVERLAP = "P1D"


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key and its token, which is shown this once and kept nowhere."""

    record: KeyRecord
    token: str

    def __repr__(self) -> str:
        return f"CreatedKey(record={self.record!r})"


class RotatedKey(msgspec.Struct, frozen=True):
    """A key that has a successor: when it ends now, and the successor with its token."""

    old: KeyRecord
    successor: CreatedKey


class RevokedKey(msgspec.Struct, frozen=True):
    """A revoked key; ``already`` when it had been revoked before, which then still stands.

    ``descendants`` are the keys that were revoked along with it.
    """

    record: KeyRecord
    already: bool
    descendants: tuple[KeyRecord, ...] = ()


class KeyService(UserService):
    """Makes, shows and revokes keys; and, by what it stands on, looks after users, tenants
    and environments, and reads the audit.

    Every method may raise ``StoreError`` (the store could not be had) and the errors of
    ``gateway.control.errors``.
    """

    def __init__(
        self,
        store: Store,
        digester: Digester,
        hasher: Hasher,
        roles: Mapping[str, Role],
        policy: KeyPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the configured ``roles`` by name; viewer and editor are always there.

        ``policy`` holds for tenants that set nothing of their own.
        """
        super().__init__(store, hasher, policy, clock)
        self._mint = Mint(digester, hasher)
        self._roles = {**roles, **BUILT_IN_ROLES}

    async def create_key(
        self,
        actor: Actor,
        *,
        tenant: str,
        name: str,
        permission: str,
        ttl: str | None = None,
        expires_at: str | None = None,
        environment: str | None = None,
        description: str = "",
        intended_use: str | None = None,
    ) -> CreatedKey:
        """Make a key and return it with its token, once it is durable.

        ``permission`` is viewer or editor in any case, or a configured role. ``ttl`` is a duration,
        ``expires_at`` an RFC 3339 instant; without either the key lives as long as it may.
        Raises NotFound (tenant, environment), Invalid, Refused (the tenant's keys are switched off).
        """
        role = self._role(permission)
        owner = await self._open_tenant(tenant)
        now = self.now_ms()
        draft = _Draft(
            tenant_id=owner.id,
            environment_id=environment,
            token_prefix=await self._prefix(tenant, environment),
            role=role,
            name=checked_name(name),
            description=checked_description(description),
            intended_use=checked_name(intended_use, member="intendedUse") if intended_use else None,
            created_by=actor.name,
            created_at=now,
            expires_at=expiry(
                now, ttl=ttl, expires_at=expires_at, maximum=self.policy_of(owner).max_api_key_expiry
            ),
        )
        token, fields = await self._mint.make(draft.token_prefix)
        record = _record(draft, fields)
        try:
            kept = await self._store.insert_key(
                record, self._audit(actor, "key.create", "key", record.id, tenant)
            )
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        return CreatedKey(kept, token)

    async def list_keys(
        self, *, tenant: str | None = None, status: KeyStatus | None = None
    ) -> list[KeyRecord]:
        """Return the keys, of one tenant or all, by tenant and number. Raises NotFound (tenant)."""
        if tenant is not None and await self._store.tenant(tenant) is None:
            raise NotFound("tenant", tenant)
        now = self.now_ms()
        keys = await self._store.keys(tenant_id=tenant)
        return [key for key in keys if status is None or key.status(now) == status]

    async def show_key(self, key_id: str) -> KeyRecord:
        """Return one key. Raises NotFound."""
        record = await self._store.key(key_id)
        if record is None:
            raise NotFound("key", key_id)
        return record

    async def revoke_key(self, actor: Actor, key_id: str, *, descendants: bool = False) -> RevokedKey:
        """Revoke a key for good; doing so twice changes nothing.

        With ``descendants`` also the keys that it made, those that they made, and their successors.
        Raises NotFound.
        """
        record = await self.show_key(key_id)
        now, audit_of = self.now_ms(), self._key_audit(actor, record.tenant_id)
        if descendants:
            record, done, taken = await self._store.write(revoke_lineage(key_id, now, actor.name, audit_of))
            return RevokedKey(record, already=not done, descendants=tuple(taken))
        record, done = await self._store.revoke_key(key_id, now, actor.name, audit_of("key.revoke", key_id))
        return RevokedKey(record, already=not done)

    async def rotate_key(
        self, actor: Actor, key_id: str, *, overlap: str = DEFAULT_OVERLAP, ttl: str | None = None
    ) -> RotatedKey:
        """Make a successor with the same subject, role and limits; the old key ends after ``overlap``.

        ``overlap`` is a duration and may be no time at all. The successor lives as long as its
        predecessor was made to, unless ``ttl`` says otherwise, within what the tenant allows now.
        Raises NotFound, Invalid, Refused (the key has ended or has a successor, the tenant's keys are
        switched off).
        """
        old = await self.show_key(key_id)
        tenant = await self._open_tenant(old.tenant_id)
        now = self.now_ms()
        ends_at = after(now, overlap, member="overlap")
        maximum = self.policy_of(tenant).max_api_key_expiry
        latest = expiry(now, ttl=ttl, expires_at=None, maximum=maximum)
        token, fields = await self._mint.make(await self._prefix(old.tenant_id, old.environment_id))
        successor = msgspec.structs.replace(
            old,
            id=f"apk_{uuid7(now, os.urandom(10))}",
            created_by=actor.name,
            created_at=now,
            updated_at=now,
            expires_at=latest if ttl is not None else min(latest, now + old.expires_at - old.created_at),
            revoked_at=None,
            revoked_by=None,
            replaces=old.id,
            last_used_at=None,
            **fields,
        )
        try:
            ended, kept = await self._store.write(
                rotate_key(key_id, ends_at, successor, self._key_audit(actor, old.tenant_id))
            )
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        except EndedError as error:
            raise Refused(f"{error}, and only an active key can be rotated: make a new one") from None
        except DuplicateError as error:
            raise Refused(f"the key {key_id!r} has a successor already, {error.entity}") from None
        return RotatedKey(ended, CreatedKey(kept, token))

    def _key_audit(self, actor: Actor, tenant_id: str) -> AuditOf:
        return lambda action, key_id: self._audit(actor, action, "key", key_id, tenant_id)

    def _role(self, wanted: str) -> Role:
        role = self._roles.get(wanted) or BUILT_IN_ROLES.get(wanted.lower())
        if role is None or role.permission is Permission.ADMIN:
            known = ", ".join(
                sorted(r.name for r in self._roles.values() if r.permission is not Permission.ADMIN)
            )
            raise Invalid("permission", f"must be one of {known}")
        return role

    async def _open_tenant(self, tenant_id: str) -> Tenant:
        tenant = await self.show_tenant(tenant_id)
        if not self.policy_of(tenant).api_keys_enabled:
            raise Refused(f"the API keys of tenant {tenant_id!r} are switched off: enable them first")
        return tenant

    async def _prefix(self, tenant_id: str, environment_id: str | None) -> str:
        if environment_id is None:
            return DEFAULT_PREFIX
        for environment in await self._store.environments(tenant_id=tenant_id):
            if environment.id == environment_id:
                return environment.prefix
        raise NotFound("environment", environment_id)


def _record(draft: _Draft, fields: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(
        id=f"apk_{uuid7(draft.created_at, os.urandom(10))}",
        tenant_id=draft.tenant_id,
        environment_id=draft.environment_id,
        subject_id=f"subject_{uuid7(draft.created_at, os.urandom(10))}",
        created_by=draft.created_by,
        name=draft.name,
        description=draft.description,
        role=draft.role.name,
        permission=draft.role.permission,
        intended_use=draft.intended_use,
        created_at=draft.created_at,
        updated_at=draft.created_at,
        expires_at=draft.expires_at,
        **fields,
    )


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is settled of a key before its token is made."""

    tenant_id: str
    environment_id: str | None
    token_prefix: str
    role: Role
    name: str
    description: str
    intended_use: str | None
    created_by: str
    created_at: int
    expires_at: int
