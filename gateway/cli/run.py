"""``gateway run`` serves; ``gateway migrate`` brings the store up to date."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.cli.common import CliError, setting_flags, settings_of
from gateway.config.load import check_servable


@click.command()
@setting_flags("--upstream", "--listen", "--control-listen", "--ops-listen", "--workers")
def run(**flags: Any) -> None:
    """Serve: let authenticated requests through to the upstreams."""
    settings = settings_of(flags)
    check_servable(settings)
    from gateway.app.errors import StartError
    from gateway.app.running import run as serve
    from gateway.cli.service import checked_store

    checked_store(settings)
    try:
        code = serve(settings)
    except StartError as error:
        raise CliError(str(error)) from None
    sys.exit(code)


@click.command()
@setting_flags()
def migrate(**flags: Any) -> None:
    """Create the store if missing, and bring it up to date."""
    import asyncio

    from gateway.cli.service import opened_store

    settings = settings_of(flags)

    async def apply() -> None:
        async with opened_store(settings) as (store, applied):
            done = f"applied {', '.join(applied)}" if applied else "nothing to apply"
            click.echo(f"{store.location}: {done}")

    asyncio.run(apply())
