"""The one domain service: what the CLI and every wire dialect do to keys, tenants and environments.

It checks, makes and names things; the store keeps them. Imports ``core``, ``store`` and its own
plane.

Promise: a token leaves ``create_key`` only after the key, its audit row and its change are durable.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from gateway.control.errors import Invalid, NotFound, Refused
from gateway.control.lifetime import checked_maximum, expiry
from gateway.control.names import checked_description, checked_id, checked_name, checked_prefix
from gateway.control.passwords import HasherBusyError
from gateway.core.model import Permission, Role
from gateway.core.tokens import DEFAULT_PREFIX, Digester, locator_of, make_token
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    Actor,
    AuditRow,
    ChangeKind,
    DuplicateError,
    Environment,
    KeyRecord,
    KeyStatus,
    Store,
    Tenant,
    UnknownEntityError,
)

BUILT_IN_ROLES: Final = {
    "viewer": Role("viewer", Permission.VIEWER),
    "editor": Role("editor", Permission.EDITOR),
}
SHOWN_AFTER_PREFIX = 4
_UNSET: Final = msgspec.UNSET


class Hasher(Protocol):
    """What makes the verifier of record of a token."""

    async def hash(self, secret: str) -> str:
        """Return the argon2id string of ``secret``."""
        ...


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key and its token, which is shown this once and kept nowhere."""

    record: KeyRecord
    token: str

    def __repr__(self) -> str:
        return f"CreatedKey(record={self.record!r})"


class RevokedKey(msgspec.Struct, frozen=True):
    """A revoked key; ``already`` when it had been revoked before, which then still stands."""

    record: KeyRecord
    already: bool


class KeyService:
    """Makes, shows and revokes keys; adds tenants and environments.

    Every method may raise ``StoreError`` (the store could not be had) and the errors of
    ``gateway.control.errors``.
    """

    def __init__(
        self,
        store: Store,
        digester: Digester,
        hasher: Hasher,
        roles: Mapping[str, Role],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the configured ``roles`` by name; viewer and editor are always there."""
        self._store = store
        self._digester = digester
        self._hasher = hasher
        self._roles = {**roles, **BUILT_IN_ROLES}
        self._clock = clock

    def now_ms(self) -> int:
        """Return the time in epoch milliseconds, on the clock that keys are made by."""
        return int(self._clock() * 1000)

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
        prefix = await self._prefix(tenant, environment)
        now = self.now_ms()
        ends = expiry(now, ttl=ttl, expires_at=expires_at, maximum=owner.max_api_key_expiry)
        draft = _Draft(
            name=checked_name(name),
            description=checked_description(description),
            intended_use=checked_name(intended_use, member="intendedUse") if intended_use else None,
        )
        token = make_token(prefix, secrets.choice)
        verifier = await self._verifier(token)
        record = self._record(actor, owner.id, environment, role, draft, token, prefix, verifier, now, ends)
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

    async def revoke_key(self, actor: Actor, key_id: str) -> RevokedKey:
        """Revoke a key for good; doing so twice changes nothing. Raises NotFound."""
        record = await self.show_key(key_id)
        audit = self._audit(actor, "key.revoke", "key", key_id, record.tenant_id)
        try:
            record, done = await self._store.revoke_key(key_id, self.now_ms(), actor.name, audit)
        except UnknownEntityError:
            raise NotFound("key", key_id) from None
        return RevokedKey(record, already=not done)

    async def add_tenant(self, actor: Actor, tenant_id: str, name: str | None = None) -> Tenant:
        """Add a tenant; its name is its id unless given. Raises Invalid, Refused (exists already)."""
        now = self.now_ms()
        checked_id(tenant_id, member="tenant")
        tenant = Tenant(id=tenant_id, name=checked_name(name or tenant_id), created_at=now, updated_at=now)
        try:
            await self._store.insert_tenant(
                tenant, self._audit(actor, "tenant.create", "tenant", tenant_id, tenant_id)
            )
        except DuplicateError as error:
            raise Refused(str(error)) from None
        return tenant

    async def set_tenant(
        self,
        actor: Actor,
        tenant_id: str,
        *,
        api_keys_enabled: bool | msgspec.UnsetType = _UNSET,
        max_api_key_expiry: str | msgspec.UnsetType = _UNSET,
    ) -> Tenant:
        """Change what is given of a tenant's settings; what is absent stays. Raises NotFound, Invalid."""
        tenant = await self._store.tenant(tenant_id)
        if tenant is None:
            raise NotFound("tenant", tenant_id)
        changes: dict[str, object] = {"updated_at": self.now_ms()}
        if api_keys_enabled is not _UNSET:
            changes["api_keys_enabled"] = api_keys_enabled
        if isinstance(max_api_key_expiry, str):
            changes["max_api_key_expiry"] = checked_maximum(max_api_key_expiry, member="max_api_key_expiry")
        tenant = msgspec.structs.replace(tenant, **changes)
        await self._store.update_tenant(
            tenant, self._audit(actor, "tenant.update", "tenant", tenant_id, tenant_id)
        )
        return tenant

    async def list_tenants(self) -> list[Tenant]:
        """Return the tenants by id."""
        return await self._store.tenants()

    async def add_environment(
        self, actor: Actor, environment_id: str, *, tenant: str, prefix: str = DEFAULT_PREFIX
    ) -> Environment:
        """Add an environment to a tenant; its tokens begin with ``prefix``.

        Raises NotFound (tenant), Invalid, Refused (exists already).
        """
        checked_id(environment_id, member="environment")
        known = {other.prefix for other in await self._store.environments()}
        now = self.now_ms()
        environment = Environment(
            id=environment_id,
            tenant_id=tenant,
            prefix=checked_prefix(prefix, known),
            created_at=now,
            updated_at=now,
        )
        audit = self._audit(actor, "environment.create", "environment", environment_id, tenant)
        try:
            await self._store.insert_environment(environment, audit)
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        except DuplicateError as error:
            raise Refused(str(error)) from None
        return environment

    async def list_environments(self, *, tenant: str | None = None) -> list[Environment]:
        """Return the environments, of one tenant or all. Raises NotFound (tenant)."""
        if tenant is not None and await self._store.tenant(tenant) is None:
            raise NotFound("tenant", tenant)
        return await self._store.environments(tenant_id=tenant)

    def _role(self, wanted: str) -> Role:
        role = self._roles.get(wanted) or BUILT_IN_ROLES.get(wanted.lower())
        if role is None or role.permission is Permission.ADMIN:
            known = ", ".join(
                sorted(r.name for r in self._roles.values() if r.permission is not Permission.ADMIN)
            )
            raise Invalid("permission", f"must be one of {known}")
        return role

    async def _open_tenant(self, tenant_id: str) -> Tenant:
        tenant = await self._store.tenant(tenant_id)
        if tenant is None:
            raise NotFound("tenant", tenant_id)
        if tenant.api_keys_enabled is False:
            raise Refused(f"the API keys of tenant {tenant_id!r} are switched off: enable them first")
        return tenant

    async def _prefix(self, tenant_id: str, environment_id: str | None) -> str:
        if environment_id is None:
            return DEFAULT_PREFIX
        for environment in await self._store.environments(tenant_id=tenant_id):
            if environment.id == environment_id:
                return environment.prefix
        raise NotFound("environment", environment_id)

    async def _verifier(self, token: str) -> str:
        try:
            return await self._hasher.hash(token)
        except HasherBusyError as error:
            raise Refused(str(error)) from None

    def _record(
        self,
        actor: Actor,
        tenant_id: str,
        environment_id: str | None,
        role: Role,
        draft: _Draft,
        token: str,
        prefix: str,
        verifier: str,
        now: int,
        ends: int,
    ) -> KeyRecord:
        return KeyRecord(
            id=f"apk_{uuid7(now, os.urandom(10))}",
            tenant_id=tenant_id,
            environment_id=environment_id,
            subject_id=f"subject_{uuid7(now, os.urandom(10))}",
            created_by=actor.name,
            name=draft.name,
            description=draft.description,
            role=role.name,
            permission=role.permission,
            intended_use=draft.intended_use,
            prefix=token[: len(prefix) + SHOWN_AFTER_PREFIX],
            last_four=token[-4:],
            created_at=now,
            updated_at=now,
            expires_at=ends,
            digest=self._digester.digest(token.encode("ascii")),
            pepper_id=self._digester.pepper_ids[0],
            locator=locator_of(token, prefix),
            verifier=verifier,
        )

    def _audit(
        self, actor: Actor, action: str, kind: ChangeKind, entity: str, tenant_id: str | None
    ) -> AuditRow:
        now = self.now_ms()
        return AuditRow(
            id=f"audit_{uuid7(now, os.urandom(10))}",
            at=now,
            actor=actor.name,
            action=action,
            kind=kind,
            entity=entity,
            tenant_id=tenant_id,
            source=actor.source,
            request_id=actor.request_id,
        )


class _Draft(msgspec.Struct, frozen=True):
    """The words that a caller gave a key, checked."""

    name: str
    description: str
    intended_use: str | None
