"""Tenants and their environments: the part of the domain service that keys stand on.

Imports ``core``, ``store`` and its own plane.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import msgspec

from gateway.control.errors import NotFound, Refused
from gateway.control.lifetime import checked_maximum
from gateway.control.names import checked_id, checked_name, checked_prefix
from gateway.core.tokens import DEFAULT_PREFIX
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    Actor,
    AuditRow,
    ChangeKind,
    DuplicateError,
    Environment,
    Store,
    Tenant,
    UnknownEntityError,
)

_UNSET: Final = msgspec.UNSET


class TenantService:
    """Adds, changes and lists tenants and environments."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        """Take a migrated store; ``clock`` tells epoch seconds."""
        self._store = store
        self._clock = clock

    def now_ms(self) -> int:
        """Return the time in epoch milliseconds, on the clock that keys are made by."""
        return int(self._clock() * 1000)

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
