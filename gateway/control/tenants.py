"""Tenants and their environments: the part of the domain service that keys stand on.

Imports ``core``, ``store`` and its own plane.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.control.audit import AuditService
from gateway.control.errors import Conflict, Invalid, NotFound
from gateway.control.lifetime import checked_maximum
from gateway.control.names import checked_id, checked_name, checked_prefix
from gateway.core.model import Permission
from gateway.core.policy import MOST_KEYS_PER_USER, KeyPolicy
from gateway.core.tokens import DEFAULT_PREFIX
from gateway.store import people
from gateway.store.base import (
    Actor,
    AuditRow,
    DuplicateError,
    Environment,
    Membership,
    Tenant,
    UnknownEntityError,
)
from gateway.store.operations import insert_environment, insert_tenant
from gateway.store.steps import Query, Steps

WIRE_NAMES: Final = {"scim_client_expiry": "scim_externalClient_expiry"}
"""Settings that clients know by another name than the store does."""
_UNSET: Final = msgspec.UNSET


class TenantService(AuditService):
    """Adds, changes and lists tenants and environments."""

    async def add_tenant(
        self, actor: Actor, tenant_id: str, name: str | None = None, *, admin: str | None = None
    ) -> Tenant:
        """Add a tenant; its name is its id unless given. The user ``admin`` is its admin from then on.

        Raises Invalid, Conflict, NotFound (user).
        """
        now = self.now_ms()
        checked_id(tenant_id, member="tenant")
        tenant = Tenant(
            id=tenant_id,
            name=checked_name(tenant_id if name is None else name),
            created_at=now,
            updated_at=now,
        )
        try:
            await self._store.write(self._founded(actor, tenant, admin))
        except DuplicateError as error:
            raise Conflict(str(error)) from None
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        return tenant

    def _founded(self, actor: Actor, tenant: Tenant, admin: str | None) -> Steps[None]:
        yield from insert_tenant(tenant, self._audit(actor, "tenant.create", "tenant", tenant.id, tenant.id))
        if admin is not None:
            detail = {"role": Permission.ADMIN.word}
            audit = self._audit(actor, "user.join", "user", admin, tenant.id, detail=detail)
            first = Membership(
                user_id=admin, tenant_id=tenant.id, role=Permission.ADMIN, created_at=tenant.created_at
            )
            yield from people.join(first, audit)

    async def set_tenant(
        self,
        actor: Actor,
        tenant_id: str,
        *,
        name: str | msgspec.UnsetType = _UNSET,
        api_keys_enabled: bool | msgspec.UnsetType | None = _UNSET,
        max_keys_per_user: int | msgspec.UnsetType | None = _UNSET,
        max_api_key_expiry: str | msgspec.UnsetType | None = _UNSET,
        scim_client_expiry: str | msgspec.UnsetType | None = _UNSET,
    ) -> Tenant:
        """Change what is given of a tenant; None leaves a setting to the gateway's policy again.

        What is absent stays. New keys alone are bound; but switching keys off refuses all of them
        until they are switched on. Raises NotFound, Invalid.
        """
        settings = {
            "name": name,
            "api_keys_enabled": api_keys_enabled,
            "max_keys_per_user": max_keys_per_user,
            "max_api_key_expiry": max_api_key_expiry,
            "scim_client_expiry": scim_client_expiry,
        }
        changes = {
            which: _checked_setting(which, value) for which, value in settings.items() if value is not _UNSET
        }
        now = self.now_ms()
        audit = self._audit(actor, "tenant.update", "tenant", tenant_id, tenant_id, detail=changes)
        try:
            return await self._store.change_tenant(tenant_id, changes, now, audit)
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None

    async def show_tenant(self, tenant_id: str) -> Tenant:
        """Return one tenant. Raises NotFound."""
        tenant = await self._store.tenant(tenant_id)
        if tenant is None:
            raise NotFound("tenant", tenant_id)
        return tenant

    def policy_of(self, tenant: Tenant) -> KeyPolicy:
        """Return the settings that are in effect for a tenant's keys."""
        return tenant.policy(self._policy)

    async def list_tenants(self) -> list[Tenant]:
        """Return the tenants by id."""
        return await self._store.tenants()

    async def add_environment(
        self, actor: Actor, environment_id: str, *, tenant: str, prefix: str = DEFAULT_PREFIX
    ) -> Environment:
        """Add an environment to a tenant; its tokens begin with ``prefix``.

        Raises NotFound (tenant), Invalid, Conflict.
        """
        checked_id(environment_id, member="environment")
        now = self.now_ms()
        environment = Environment(
            id=environment_id, tenant_id=tenant, prefix=prefix, created_at=now, updated_at=now
        )
        audit = self._audit(actor, "environment.create", "environment", environment_id, tenant)
        try:
            await self._store.write(_prefixed(environment, audit))
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        except DuplicateError as error:
            raise Conflict(str(error)) from None
        return environment

    async def list_environments(self, *, tenant: str | None = None) -> list[Environment]:
        """Return the environments, of one tenant or all. Raises NotFound (tenant)."""
        if tenant is not None and await self._store.tenant(tenant) is None:
            raise NotFound("tenant", tenant)
        return await self._store.environments(tenant_id=tenant)


def _prefixed(environment: Environment, audit: AuditRow) -> Steps[None]:
    """Keep an environment whose prefix no other one begins, of two that are added at once neither."""
    yield from insert_environment(environment, audit)
    known = {row[0] for row in (yield Query("prefixes"))}
    checked_prefix(environment.prefix, known)


def _checked_setting(name: str, value: Any) -> Any:
    """Return a tenant's setting if it may have this value. Raises Invalid."""
    if value is None:
        return None
    if name == "name":
        return checked_name(value)
    if name == "max_keys_per_user" and not 0 <= value <= MOST_KEYS_PER_USER:
        raise Invalid(name, f"must be a whole number from 0 to {MOST_KEYS_PER_USER}")
    if isinstance(value, str):
        return checked_maximum(value, member=WIRE_NAMES.get(name, name))
    return value
