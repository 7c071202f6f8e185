"""``gateway signing-keys``: list and rotate the keys that sign login tokens, on the store directly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.common import StrictGroup, option, print_json, print_rows, setting_flags, settings_of

if TYPE_CHECKING:
    from gateway.control.signing import Signing

T = TypeVar("T")


@click.group(cls=StrictGroup, no_args_is_help=False)
def signing_keys() -> None:
    """List and rotate the keys that sign login tokens."""


@signing_keys.command(name="list")
@setting_flags()
@option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_keys(as_json: bool, **flags: Any) -> None:
    """List the signing keys, never their private halves."""
    from gateway.control.signing import signing_key_view

    async def work(signing: Signing) -> list[dict[str, Any]]:
        return [signing_key_view(key, signing.status(key)) for key in await signing.list_keys()]

    views = _with_signing(flags, work)
    if as_json:
        print_json(views)
        return
    members = ("kid", "status", "createdAt", "retiredAt")
    rows = [tuple(view[member] or "-" for member in members) for view in views]
    print_rows(("KID", "STATUS", "CREATED", "RETIRED"), rows)


@signing_keys.command()
@setting_flags()
def rotate(**flags: Any) -> None:
    """Make a key that signs from now on; tokens signed before are honoured until they end."""
    from gateway.cli.service import operator

    key = _with_signing(flags, lambda signing: signing.rotate(operator()))
    click.echo(f"{key.kid} signs from now on")


def _with_signing(flags: dict[str, Any], work: Callable[[Signing], Awaitable[T]]) -> T:
    import asyncio

    from gateway.cli.service import opened_digester
    from gateway.control.signing import Signing

    settings = settings_of(flags)

    async def run() -> T:
        async with opened_digester(settings) as (store, digester):
            ttl_ms = int(settings.login.token_ttl_s * 1000)
            return await work(Signing(store, digester, settings.key_policy, token_ttl_ms=ttl_ms))

    return asyncio.run(run())
