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
from gateway.control.lifetime import expiry
from gateway.control.names import checked_description, checked_name
from gateway.control.passwords import HasherBusyError
from gateway.control.tenants import TenantService
from gateway.core.model import Permission, Role
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import DEFAULT_PREFIX, Digester, locator_of, make_token
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    Actor,
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


class KeyService(TenantService):
    """Makes, shows and revokes keys; and, by ``TenantService``, adds tenants and environments.

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
        super().__init__(store, policy, clock)
        self._digester = digester
        self._hasher = hasher
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
        token = make_token(draft.token_prefix, secrets.choice)
        record = self._record(draft, token, await self._verifier(token))
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

    async def _verifier(self, token: str) -> str:
        try:
            return await self._hasher.hash(token)
        except HasherBusyError as error:
            raise Refused(str(error)) from None

    def _record(self, draft: _Draft, token: str, verifier: str) -> KeyRecord:
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
            prefix=token[: len(draft.token_prefix) + SHOWN_AFTER_PREFIX],
            last_four=token[-4:],
            created_at=draft.created_at,
            updated_at=draft.created_at,
            expires_at=draft.expires_at,
            digest=self._digester.digest(token.encode("ascii")),
            pepper_id=self._digester.pepper_ids[0],
            locator=locator_of(token, draft.token_prefix),
            verifier=verifier,
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
