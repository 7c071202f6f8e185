"""``gateway users``: add, set, list and remove users, on the store directly.

A password is read at a prompt, from standard input or from a file: never from a flag or a variable,
which other processes and shells' histories would see.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import (
    CliError,
    StrictGroup,
    confirm,
    option,
    print_json,
    print_rows,
    setting_flags,
    settings_of,
)

if TYPE_CHECKING:
    from gateway.control.service import KeyService
    from gateway.store.base import Person

MAXIMUM_PASSWORD_BYTES = 4096
_HEADS = ("EMAIL", "TENANT", "ROLE", "DEFAULT", "ENABLED")


@click.group(cls=StrictGroup, no_args_is_help=False)
def users() -> None:
    """Add, set, list and remove users."""


_password_file = option("--password-file", metavar="F", help="The file that holds the password.")
_password_stdin = option("--password-stdin", is_flag=True, help="Read the password from standard input.")
_role = click.Choice(["viewer", "editor", "admin"])


@users.command(short_help="Add a user to a tenant.")
@setting_flags()
@option("--tenant", metavar="T", required=True, help="The tenant; the first one becomes her default.")
@option("--role", metavar="R", type=_role, required=True, help="viewer, editor or admin.")
@_password_file
@_password_stdin
@click.argument("email", metavar="EMAIL")
def add(
    email: str, tenant: str, role: str, password_file: str | None, password_stdin: bool, **flags: Any
) -> None:
    """Add a user to a tenant; one who exists already joins it, and keeps her password."""
    from gateway.cli.service import operator, with_service

    settings = settings_of(flags)
    password = _given_password(password_file, password_stdin)
    if password is None and with_service(settings, lambda service: service.find_user(email)) is None:
        password = _asked_password()
    person = with_service(
        settings,
        lambda service: service.add_user(operator(), email, tenant=tenant, role=role, password=password),
    )
    click.echo(f"user {person.user.email} is {role} of {tenant}")


@users.command(short_help="Give a user another password.")
@setting_flags()
@_password_file
@_password_stdin
@click.argument("email", metavar="EMAIL")
def passwd(email: str, password_file: str | None, password_stdin: bool, **flags: Any) -> None:
    """Give a user another password."""
    from gateway.cli.service import operator, with_service

    settings = settings_of(flags)
    with_service(settings, lambda service: service.show_user(email))
    password = _given_password(password_file, password_stdin) or _asked_password()
    with_service(settings, lambda service: service.set_password(operator(), email, password))
    click.echo(f"the password of {email} is changed")


@users.command(name="set", short_help="Change what a user is, or whether she is enabled.")
@setting_flags()
@option("--tenant", metavar="T", help="The tenant in which she gets the role.")
@option("--role", metavar="R", type=_role, help="viewer, editor or admin of that tenant.")
@option(
    "--enabled", metavar="B", type=click.Choice(["true", "false"]), help="false: keys that act as her rest."
)
@option(
    "--default-tenant", metavar="T", help="The one of her tenants that she is logged in to unless she asks."
)
@click.argument("email", metavar="EMAIL")
def set_user(
    email: str,
    tenant: str | None,
    role: str | None,
    enabled: str | None,
    default_tenant: str | None,
    **flags: Any,
) -> None:
    """Change what a user is in a tenant, her default tenant, or whether she is enabled."""
    from gateway.cli.service import operator, with_service

    if (tenant is None) != (role is None):
        raise CliError("--tenant and --role belong together: give both", 2)
    if role is None and enabled is None and default_tenant is None:
        raise CliError("nothing to set: give --tenant with --role, --enabled or --default-tenant", 2)

    async def work(service: KeyService) -> None:
        if tenant is not None and role is not None:
            await service.set_role(operator(), email, tenant=tenant, role=role)
        if default_tenant is not None:
            await service.set_default_tenant(operator(), email, default_tenant)
        if enabled is not None:
            await service.enable_user(operator(), email, enabled=enabled == "true")

    with_service(settings_of(flags), work)
    click.echo(f"user {email} is changed")


@users.command(name="list")
@setting_flags()
@option("--tenant", metavar="T", help="Only this tenant's.")
@option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_users(tenant: str | None, as_json: bool, **flags: Any) -> None:
    """List the users with what they are in which tenant."""
    from gateway.cli.service import with_service
    from gateway.control.views import user_view

    found = with_service(settings_of(flags), lambda service: service.list_users(tenant=tenant))
    if as_json:
        print_json([user_view(person) for person in found])
        return
    print_rows(_HEADS, [row for person in found for row in _rows(person, tenant)])


@users.command(short_help="Take a user out of a tenant, or out of all.")
@setting_flags()
@option("--tenant", metavar="T", help="Only out of this one; her others stay.")
@option("--yes", is_flag=True, help="Do not ask.")
@click.argument("email", metavar="EMAIL")
def remove(email: str, tenant: str | None, yes: bool, **flags: Any) -> None:
    """Take a user out of a tenant, or out of all; the keys that act as her there are revoked."""
    from gateway.cli.service import operator, with_service

    settings = settings_of(flags)
    if not yes:
        confirm(f"Remove {email} from {tenant or 'every tenant'}?", "removing", f"{email} was not removed")
    left = with_service(settings, lambda service: service.remove_user(operator(), email, tenant=tenant))
    click.echo(f"user {email} is removed from {tenant or 'every tenant'}")
    for key_id in left.keys:
        click.echo(f"{key_id} is revoked")


def _rows(person: Person, tenant: str | None) -> list[tuple[str, ...]]:
    enabled = "true" if person.user.disabled_at is None else "false"
    return [
        (
            person.user.email,
            m.tenant_id,
            m.role.word,
            "yes" if m.tenant_id == person.user.default_tenant_id else "",
            enabled,
        )
        for m in person.memberships
        if tenant in (None, m.tenant_id)
    ]


def _given_password(file: str | None, from_stdin: bool) -> str | None:
    """Return the password that a file or standard input holds, without its line break."""
    if file is not None and from_stdin:
        raise CliError("--password-file and --password-stdin exclude one another: keep one", 2)
    if file is None and not from_stdin:
        return None
    where = file or "standard input"
    try:
        if file is None:
            content = sys.stdin.buffer.read(MAXIMUM_PASSWORD_BYTES)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(MAXIMUM_PASSWORD_BYTES)
        text = content.decode()
    except OSError as error:
        raise CliError(f"the password file {file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CliError(f"{where} does not hold text", 2) from None
    return text.removesuffix("\n").removesuffix("\r")


def _asked_password() -> str:
    if not sys.stdin.isatty():
        raise CliError(
            "there is no terminal to ask for the password at: give --password-stdin or --password-file", 2
        )
    try:
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    except OSError:  # the terminal hung up
        raise CliError("no password was given") from None
    return answer
