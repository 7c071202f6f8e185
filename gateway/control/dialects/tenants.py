"""``/api/1/tenants``: the organisations that the caller is in, and their settings. Imports its own plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.control.domain import DomainService
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.members import Id, Lifetime, Name
from gateway.control.names import checked_id
from gateway.control.tenants import WIRE_NAMES
from gateway.core.policy import MOST_KEYS_PER_USER
from gateway.store import base

ALL = "/api/1/tenants"
ONE = f"{ALL}/{{tenant}}"
MostKeys = Annotated[int, Meta(ge=0, le=MOST_KEYS_PER_USER)]


class Tenant(msgspec.Struct, frozen=True, rename=WIRE_NAMES):
    """An organisation with the settings of its keys that are in effect."""

    id: str
    name: str
    api_keys_enabled: bool
    max_keys_per_user: int
    max_api_key_expiry: str
    scim_client_expiry: str


class NewTenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An organisation to be added; its name is its id unless given."""

    id: Id
    name: Name | None = None


class TenantChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=WIRE_NAMES):
    """What is to change: what is absent stays, null leaves a setting to the gateway's own policy."""

    name: Name | UnsetType = UNSET
    api_keys_enabled: bool | UnsetType | None = UNSET
    max_keys_per_user: MostKeys | UnsetType | None = UNSET
    max_api_key_expiry: Lifetime | UnsetType | None = UNSET
    scim_client_expiry: Lifetime | UnsetType | None = UNSET


class TenantsDialect:
    """The four operations of tenants."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="GET",
                path=ALL,
                operation="listTenants",
                summary="List the tenants that the caller is in; to a key its own",
                handler=self.list_tenants,
                answers={200: list[Tenant]},
                faults=(400, 401, 403, 429),
                tag="tenants",
            ),
            Endpoint(
                method="POST",
                path=ALL,
                operation="createTenant",
                summary="Add a tenant, of which the caller is an admin from then on",
                handler=self.create,
                body=NewTenant,
                answers={201: Tenant},
                faults=(400, 401, 403, 409, 429),
                tag="tenants",
            ),
            Endpoint(
                method="GET",
                path=ONE,
                operation="getTenant",
                summary="Show the caller's tenant",
                handler=self.show,
                answers={200: Tenant},
                tag="tenants",
            ),
            Endpoint(
                method="PATCH",
                path=ONE,
                operation="changeTenant",
                summary="Change the name or the settings of the caller's tenant; new keys alone are bound",
                handler=self.change,
                body=TenantChange,
                answers={200: Tenant},
                tag="tenants",
            ),
        ]

    async def list_tenants(self, call: Call[None, Nothing]) -> Answer:
        """List tenants by id."""
        found = await self._service.list_tenants_as(call.principal)
        return Answer(content=[self._shown(tenant) for tenant in found])

    async def create(self, call: Call[NewTenant, Nothing]) -> Answer:
        """Add a tenant."""
        wanted = call.body
        made = await self._service.add_tenant_as(
            call.principal, call.actor, checked_id(wanted.id, member="id"), wanted.name
        )
        return Answer(201, self._shown(made))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show the caller's tenant."""
        found = await self._service.show_tenant_as(call.principal, call.path("tenant"))
        return Answer(content=self._shown(found))

    async def change(self, call: Call[TenantChange, Nothing]) -> Answer:
        """Change the caller's tenant."""
        given = {
            name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not UNSET
        }
        changed = await self._service.set_tenant_as(call.principal, call.actor, call.path("tenant"), given)
        return Answer(content=self._shown(changed))

    def _shown(self, tenant: base.Tenant) -> Tenant:
        policy = self._service.policy_of(tenant)
        return Tenant(id=tenant.id, name=tenant.name, **msgspec.structs.asdict(policy))
