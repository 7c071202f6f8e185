"""Tenants, their environments and their audit, in the name of a principal.

A principal is in one tenant, the one that her token was made for, and reads and changes that alone:
who is in several asks for a token of the other one. Imports ``core``, ``store`` and its own plane.

Promise: a tenant that is not the principal's is not found, exactly as one that never was.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.control import grants
from gateway.control.audit import AuditPage
from gateway.control.errors import Conflict, Forbidden
from gateway.control.grants import Principal
from gateway.control.members import MemberService
from gateway.core.tokens import DEFAULT_PREFIX
from gateway.store import members
from gateway.store.audit import AuditFilter
from gateway.store.base import DEFAULT_TENANT, Actor, Environment, Tenant

MOST_ENVIRONMENTS = 100
"""Each gives tokens a prefix of its own, which the data path tells from all others."""


class OrganisationService(MemberService):
    """Looks after the principal's tenant, besides its users."""

    async def list_tenants_as(self, principal: Principal) -> list[Tenant]:
        """Return the tenants that a user is in, by id; to a key its own."""
        if principal.key_id is None and principal.user_id is not None:
            return await self._store.read(members.tenants_of(principal.user_id))
        return [await self.show_tenant(principal.tenant_id)]

    async def show_tenant_as(self, principal: Principal, tenant_id: str) -> Tenant:
        """Return the principal's tenant. Raises NotFound for any other."""
        grants.check_tenant(principal, tenant_id)
        return await self.show_tenant(tenant_id)

    async def add_tenant_as(
        self, principal: Principal, actor: Actor, tenant_id: str, name: str | None = None
    ) -> Tenant:
        """Add a tenant, of which she is an admin from then on.

        This is for admins of the first tenant, which is the operator's own. Raises Forbidden, Invalid,
        Conflict.
        """
        if not principal.is_admin or principal.tenant_id != DEFAULT_TENANT:
            raise Forbidden(f"organisations are added by the admins of {DEFAULT_TENANT!r} alone")
        return await self.add_tenant(actor, tenant_id, name, admin=principal.user_id)

    async def set_tenant_as(
        self, principal: Principal, actor: Actor, tenant_id: str, changes: dict[str, Any]
    ) -> Tenant:
        """Change the name or the settings of the principal's tenant; see ``set_tenant``.

        Raises NotFound, Forbidden, Invalid.
        """
        grants.check_tenant(principal, tenant_id)
        grants.check_admin(principal)
        if not changes:
            return await self.show_tenant(tenant_id)
        return await self.set_tenant(actor, tenant_id, **changes)

    async def list_environments_as(self, principal: Principal, tenant_id: str) -> list[Environment]:
        """Return the environments of the principal's tenant, by id. Raises NotFound."""
        grants.check_tenant(principal, tenant_id)
        return await self.list_environments(tenant=tenant_id)

    async def add_environment_as(
        self,
        principal: Principal,
        actor: Actor,
        tenant_id: str,
        environment_id: str,
        prefix: str = DEFAULT_PREFIX,
    ) -> Environment:
        """Add an environment to the principal's tenant.

        Raises NotFound, Forbidden, Invalid, Conflict (it exists, or there are too many).
        """
        grants.check_tenant(principal, tenant_id)
        grants.check_admin(principal)
        if len(await self.list_environments(tenant=tenant_id)) >= MOST_ENVIRONMENTS:
            raise Conflict(f"an organisation has at most {MOST_ENVIRONMENTS} environments")
        return await self.add_environment(actor, environment_id, tenant=tenant_id, prefix=prefix)

    async def read_audit_as(
        self, principal: Principal, wanted: AuditFilter, *, limit: int = 100
    ) -> AuditPage:
        """Return one page of the tenant's audit, to its admins. Raises Forbidden, Invalid."""
        grants.check_admin(principal)
        narrowed = msgspec.structs.replace(wanted, tenant_id=principal.tenant_id)
        return await self.read_audit(narrowed, limit=limit)
