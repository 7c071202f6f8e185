"""``gateway tenants`` and ``gateway environments``: add, set and list them, on the store directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import (
    CliError,
    StrictGroup,
    option,
    print_json,
    print_rows,
    setting_flags,
    settings_of,
)
from gateway.core.tokens import DEFAULT_PREFIX

if TYPE_CHECKING:
    from gateway.control.service import KeyService

POLICY = "default"  # the word that leaves a setting to the gateway's own policy again


@click.group(cls=StrictGroup, no_args_is_help=False)
def tenants() -> None:
    """Add, set and list tenants (organisations)."""


@tenants.command(name="add")
@setting_flags()
@option("--name", metavar="N", help="What people call it; the id unless given.")
@click.argument("tenant_id", metavar="T")
def add_tenant(tenant_id: str, name: str | None, **flags: Any) -> None:
    """Add the tenant T."""
    from gateway.cli.service import operator, with_service

    tenant = with_service(settings_of(flags), lambda service: service.add_tenant(operator(), tenant_id, name))
    click.echo(f"tenant {tenant.id} added")


@tenants.command(name="set", short_help="Change settings of the tenant T.")
@setting_flags()
@option(
    "--api-keys-enabled",
    metavar="B",
    type=click.Choice(["true", "false", POLICY]),
    help="false: no key is made, existing ones are refused.",
)
@option("--max-keys-per-user", metavar="N", help="Active keys that a user may have made, 0 to 1000.")
@option(
    "--max-api-key-expiry", metavar="D", help="The longest that a new key may live, such as PT24H or 30d."
)
@option("--scim-external-client-expiry", metavar="D", help="How long keys of external clients live.")
@click.argument("tenant_id", metavar="T")
def set_tenant(
    tenant_id: str,
    api_keys_enabled: str | None,
    max_keys_per_user: str | None,
    max_api_key_expiry: str | None,
    scim_external_client_expiry: str | None,
    **flags: Any,
) -> None:
    """Change settings of the tenant T; the word `default` leaves one to the configured key_policy."""
    from gateway.cli.service import operator, with_service

    given = {
        "api_keys_enabled": api_keys_enabled,
        "max_keys_per_user": max_keys_per_user,
        "max_api_key_expiry": max_api_key_expiry,
        "scim_client_expiry": scim_external_client_expiry,
    }
    changes = {name: _setting(name, text) for name, text in given.items() if text is not None}
    if not changes:
        raise CliError("nothing to set: give at least one setting (see `gateway tenants set --help`)", 2)

    async def work(service: KeyService) -> dict[str, Any]:
        return _view(service, await service.set_tenant(operator(), tenant_id, **changes))

    view = with_service(settings_of(flags), work)
    click.echo(f"tenant {tenant_id}: " + ", ".join(f"{name} {_cell(view[name])}" for name in _SETTINGS))


def _setting(name: str, text: str) -> Any:
    """Return the value that a flag's text means."""
    if text == POLICY:
        return None
    if name == "api_keys_enabled":
        return text == "true"
    if name != "max_keys_per_user":
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise CliError(f"--max-keys-per-user: `{text}` is not a whole number", 2)
    return int(text)


@tenants.command(name="list")
@setting_flags()
@option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_tenants(as_json: bool, **flags: Any) -> None:
    """List the tenants with the settings that are in effect."""
    from gateway.cli.service import with_service

    async def work(service: KeyService) -> list[dict[str, Any]]:
        return [_view(service, tenant) for tenant in await service.list_tenants()]

    views = with_service(settings_of(flags), work)
    if as_json:
        print_json(views)
        return
    heads = ("ID", "NAME", "KEYS ENABLED", "MAX KEYS", "MAX EXPIRY")
    members = ("id", "name", *_SETTINGS[:3])
    print_rows(heads, [tuple(_cell(view[member]) for member in members) for view in views])


_SETTINGS = ("api_keys_enabled", "max_keys_per_user", "max_api_key_expiry", "scim_externalClient_expiry")


def _view(service: KeyService, tenant: Any) -> dict[str, Any]:
    from gateway.control.views import policy_view

    return {"id": tenant.id, "name": tenant.name, **policy_view(service.policy_of(tenant))}


def _cell(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
