"""``gateway keys``: make, list, show, rotate and revoke keys, on the store directly."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import (
    OutputLostError,
    StrictGroup,
    confirm,
    option,
    print_json,
    print_rows,
    setting_flags,
    settings_of,
)
from gateway.cli.importing import import_keys

if TYPE_CHECKING:
    from gateway.control.making import CreatedKey
    from gateway.control.minting import KeyFormat
    from gateway.store.base import KeyRecord, KeyStatus


@click.group(cls=StrictGroup, no_args_is_help=False)
def keys() -> None:
    """Make, import, list, show, rotate and revoke keys."""


keys.add_command(import_keys)


@keys.command()
@setting_flags()
@option("--tenant", metavar="T", required=True, help="The tenant; every store has `default`.")
@option("--name", metavar="N", required=True, help="What people call the key.")
@option("--permission", metavar="P", required=True, help="viewer, editor or a configured role.")
@option("--ttl", metavar="D", help="How long it lives, such as 30d or P1Y; a calendar year at most.")
@option("--environment", metavar="E", help="The tenant's environment that it is for.")
@option("--description", metavar="D", default="", help="What it is for.")
@option("--format", "form", default="opaque", type=click.Choice(["opaque", "jwt"]), help="The token's form.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object, the token in `secretKey`.")
def create(
    tenant: str,
    name: str,
    permission: str,
    ttl: str | None,
    environment: str | None,
    description: str,
    form: KeyFormat,
    as_json: bool,
    **flags: Any,
) -> None:
    """Make a key: its token goes to stdout, this once; the facts about it to stderr."""
    from gateway.cli.service import operator, with_service

    settings = settings_of(flags)
    created = with_service(
        settings,
        lambda service: service.create_key(
            operator(),
            tenant=tenant,
            name=name,
            permission=permission,
            ttl=ttl,
            environment=environment,
            description=description,
            form=form,
        ),
    )
    _tell_created(created, as_json)


def _tell_created(created: CreatedKey, as_json: bool) -> None:
    """Print a new key: the token alone to stdout, or all of it as one JSON object."""
    from gateway.control.views import key_view

    view = key_view(created.record, created.record.created_at, token=created.token)
    try:
        print_json(view) if as_json else click.echo(created.token)
        sys.stdout.flush()
    except OSError as error:  # the key is live all the same, and nobody has its token
        raise OutputLostError(
            f"{view['id']} was made, but its token could not be printed ({error.strerror}): "
            "revoke it and make another"
        ) from None
    if as_json:
        return
    click.echo(
        f"{view['id']}: {view['permission']} key {view['name']!r} of {view['tenantId']}, "
        f"until {view['expiresAt']}; the token above is not shown again",
        err=True,
    )


@keys.command(name="list")
@setting_flags()
@option("--tenant", metavar="T", help="Only this tenant's.")
@option("--status", metavar="S", type=click.Choice(["active", "expired", "revoked"]), help="Only these.")
@option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_keys(tenant: str | None, status: KeyStatus | None, as_json: bool, **flags: Any) -> None:
    """List keys, never their tokens."""
    from gateway.cli.service import with_service

    async def work(service: Any) -> list[dict[str, Any]]:
        records = await service.list_keys(tenant=tenant, status=status)
        return _views(records, service.now_ms())

    views = with_service(settings_of(flags), work)
    if as_json:
        print_json(views)
        return
    columns = {
        "ID": "id",
        "TENANT": "tenantId",
        "NAME": "name",
        "PERMISSION": "permission",
        "STATUS": "status",
        "EXPIRES": "expiresAt",
        "LAST USED": "lastUsedAt",
        "PREFIX": "prefix",
        "LAST FOUR": "lastFour",
    }
    print_rows(tuple(columns), [tuple(view[m] or "-" for m in columns.values()) for view in views])


@keys.command()
@setting_flags()
@option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("key_id", metavar="ID")
def show(key_id: str, as_json: bool, **flags: Any) -> None:
    """Show one key, never its token."""
    from gateway.cli.service import with_service

    async def work(service: Any) -> dict[str, Any]:
        return _views([await service.show_key(key_id)], service.now_ms())[0]

    view = with_service(settings_of(flags), work)
    if as_json:
        print_json(view)
        return
    for member, value in view.items():
        click.echo(f"{member + ':':<20} {'-' if value in (None, '') else value}")


@keys.command(short_help="Make a successor of a key, beside it for a while.")
@setting_flags()
@option(
    "--overlap", metavar="D", default="P1D", show_default=True, help="How long the old key goes on working."
)
@option("--ttl", metavar="D", help="How long the successor lives; as long as the old key was made to.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object, the token in `secretKey`.")
@click.argument("key_id", metavar="ID")
def rotate(key_id: str, overlap: str, ttl: str | None, as_json: bool, **flags: Any) -> None:
    """Make a successor of a key: its token goes to stdout, this once; the old key ends after the overlap."""
    from gateway.cli.service import operator, with_service
    from gateway.control.lifetime import rfc3339

    rotated = with_service(
        settings_of(flags),
        lambda service: service.rotate_key(operator(), key_id, overlap=overlap, ttl=ttl),
    )
    _tell_created(rotated.successor, as_json)
    click.echo(f"{key_id} goes on working until {rfc3339(rotated.old.expires_at)}", err=True)


@keys.command()
@setting_flags()
@option("--yes", is_flag=True, help="Do not ask.")
@option("--descendants", is_flag=True, help="Also the keys that it made, and what came of them.")
@click.argument("key_id", metavar="ID")
def revoke(key_id: str, yes: bool, descendants: bool, **flags: Any) -> None:
    """Revoke a key for good; running gateways refuse it within a second."""
    from gateway.cli.service import operator, with_service

    settings = settings_of(flags)
    if not yes:
        confirm(f"Revoke {key_id} for good?", "revoking", f"{key_id} was not revoked")
    revoked = with_service(
        settings, lambda service: service.revoke_key(operator(), key_id, descendants=descendants)
    )
    click.echo(f"{key_id} was revoked before" if revoked.already else f"{key_id} is revoked")
    for record in revoked.descendants:
        click.echo(f"{record.id} is revoked")


def _views(records: list[KeyRecord], now_ms: int) -> list[dict[str, Any]]:
    from gateway.control.views import key_view

    return [key_view(record, now_ms) for record in records]
