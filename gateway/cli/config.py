"""``gateway config``: check a configuration, show what is in effect, print the schema of the file."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.common import StrictGroup, setting_flags, settings_of, store_url
from gateway.config.load import check_servable
from gateway.config.show import schema, show_settings

_FLAGS = ("--upstream", "--listen", "--control-listen", "--ops-listen", "--workers")


@click.group(cls=StrictGroup, no_args_is_help=False)
def config() -> None:
    """Check and show the configuration."""


@config.command()
@setting_flags(*_FLAGS)
def check(**flags: Any) -> None:
    """Tell whether `gateway run` would take this configuration; starts nothing."""
    from gateway.cli.service import checked_store

    settings = settings_of(flags)
    check_servable(settings)
    checked_store(settings)
    upstreams, routes = len(settings.upstreams), len(settings.routes)
    where = settings.file or "configuration"
    click.echo(f"{where}: good, with {_count(routes, 'route')} to {_count(upstreams, 'upstream')}")


@config.command()
@setting_flags(*_FLAGS)
def show(**flags: Any) -> None:
    """Print every setting in effect and who says so; secrets are masked."""
    settings = settings_of(flags)
    click.echo(show_settings(settings, default_store=store_url(settings)), nl=False)


@config.command(name="schema")
@setting_flags()
def print_schema(**_: Any) -> None:
    """Print the JSON schema of the configuration file, for editors."""
    click.echo(json.dumps(schema(), indent=2))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
