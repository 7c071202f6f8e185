"""``gateway tenants`` and ``gateway environments``: add and list them, on the store directly."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.common import StrictGroup, option, print_json, print_rows, setting_flags, settings_of
from gateway.core.tokens import DEFAULT_PREFIX


@click.group(cls=StrictGroup, no_args_is_help=False)
def tenants() -> None:
    """Add and list tenants (organisations)."""


@tenants.command(name="add")
@setting_flags()
@option("--name", metavar="N", help="What people call it; the id unless given.")
@click.argument("tenant_id", metavar="T")
def add_tenant(tenant_id: str, name: str | None, **flags: Any) -> None:
    """Add the tenant T."""
    from gateway.cli.service import operator, with_service

    tenant = with_service(settings_of(flags), lambda service: service.add_tenant(operator(), tenant_id, name))
    click.echo(f"tenant {tenant.id} added")


@tenants.command(name="list")
@setting_flags()
@option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_tenants(as_json: bool, **flags: Any) -> None:
    """List the tenants."""
    from gateway.cli.service import with_service

    found = with_service(settings_of(flags), lambda service: service.list_tenants())
    if as_json:
        print_json([{"id": tenant.id, "name": tenant.name} for tenant in found])
        return
    print_rows(("ID", "NAME"), [(tenant.id, tenant.name) for tenant in found])


@click.group(cls=StrictGroup, no_args_is_help=False)
def environments() -> None:
    """Add and list the environments of tenants."""


@environments.command(name="add")
@setting_flags()
@option("--tenant", metavar="T", required=True, help="The tenant that it belongs to.")
@option(
    "--prefix", metavar="P", default=DEFAULT_PREFIX, show_default=True, help="What its tokens begin with."
)
@click.argument("environment_id", metavar="E")
def add_environment(environment_id: str, tenant: str, prefix: str, **flags: Any) -> None:
    """Add the environment E to a tenant."""
    from gateway.cli.service import operator, with_service

    environment = with_service(
        settings_of(flags),
        lambda service: service.add_environment(operator(), environment_id, tenant=tenant, prefix=prefix),
    )
    click.echo(f"environment {environment.id} added to {tenant}; its tokens begin with {environment.prefix}")


@environments.command(name="list")
@setting_flags()
@option("--tenant", metavar="T", help="Only this tenant's.")
@option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_environments(tenant: str | None, as_json: bool, **flags: Any) -> None:
    """List the environments."""
    from gateway.cli.service import with_service

    found = with_service(settings_of(flags), lambda service: service.list_environments(tenant=tenant))
    if as_json:
        print_json([{"id": e.id, "tenantId": e.tenant_id, "prefix": e.prefix} for e in found])
        return
    print_rows(("ID", "TENANT", "PREFIX"), [(e.id, e.tenant_id, e.prefix) for e in found])
