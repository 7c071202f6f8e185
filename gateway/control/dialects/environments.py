"""``/api/1/tenants/{tenant}/environments``: the parts of an organisation. Imports its own plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.control.dialects.tenants import ONE
from gateway.control.domain import DomainService
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.members import Id, Instant
from gateway.control.lifetime import rfc3339
from gateway.control.names import checked_id
from gateway.core.tokens import DEFAULT_PREFIX
from gateway.store import base

ALL = f"{ONE}/environments"
Prefix = Annotated[
    str,
    Meta(
        description="Neither begins another prefix nor is begun by one.",
        examples=["qs_live_"],
        extra_json_schema={"pattern": "^[A-Za-z][A-Za-z0-9_]{0,30}_$"},
    ),
]


class Environment(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a tenant, whose tokens begin with ``prefix``."""

    id: str
    tenant_id: str
    prefix: str
    created_at: Instant


class NewEnvironment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An environment to be added."""

    id: Id
    prefix: Prefix = DEFAULT_PREFIX


class EnvironmentsDialect:
    """The two operations of environments."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="GET",
                path=ALL,
                operation="listEnvironments",
                summary="List the environments of the caller's tenant",
                handler=self.list_environments,
                answers={200: list[Environment]},
                tag="tenants",
            ),
            Endpoint(
                method="POST",
                path=ALL,
                operation="createEnvironment",
                summary="Add an environment to the caller's tenant",
                handler=self.create,
                body=NewEnvironment,
                answers={201: Environment},
                faults=(400, 401, 403, 404, 409, 429),
                tag="tenants",
            ),
        ]

    async def list_environments(self, call: Call[None, Nothing]) -> Answer:
        """List environments by id."""
        found = await self._service.list_environments_as(call.principal, call.path("tenant"))
        return Answer(content=[_shown(environment) for environment in found])

    async def create(self, call: Call[NewEnvironment, Nothing]) -> Answer:
        """Add an environment."""
        wanted = call.body
        made = await self._service.add_environment_as(
            call.principal,
            call.actor,
            call.path("tenant"),
            checked_id(wanted.id, member="id"),
            wanted.prefix,
        )
        return Answer(201, _shown(made))


def _shown(environment: base.Environment) -> Environment:
    return Environment(
        id=environment.id,
        tenant_id=environment.tenant_id,
        prefix=environment.prefix,
        created_at=rfc3339(environment.created_at),
    )
