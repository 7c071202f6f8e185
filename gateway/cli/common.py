"""What commands share: their options, the settings, and how errors are told.

Imports click and ``config``; nothing that is slow to load.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from gateway.config.catalogue import flag_variable, nearest
from gateway.config.load import load_settings
from gateway.config.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


class CliError(Exception):
    """A command could not be done; the text is one sentence, ``exit_code`` 1 or 2."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class OutputLostError(CliError):
    """What a command had to print cannot be printed, and its reader should know what was done."""


class StrictGroup(click.Group):
    """A group whose unknown commands name the nearest known one, and which needs a command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            told = f"no such command `{args[0]}`; the nearest is `{nearest(args[0], known)}`"
            raise click.UsageError(told, ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(StrictGroup):
    """A group that imports a command's module when the command is asked for."""

    def __init__(self, *args: Any, commands_at: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of a first use."""
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        place = self._commands_at.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


def usage_sentence(error: click.UsageError) -> str:
    """Return one sentence for a wrong use: what was wrong, the nearest known name, where help is."""
    text = error.format_message().partition("\n")[0].rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [name for option in error.ctx.command.params for name in option.opts if name.startswith("--")]
        text = f"no such option `{error.option_name}`; the nearest is `{nearest(error.option_name, known)}`"
    text = text[:1].lower() + text[1:]
    path = error.ctx.command_path if error.ctx is not None else "gateway"
    return f"{text} (see `{path} --help`)"


def option(flag: str, *more: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option that is also the environment variable of its name."""
    return click.option(flag, *more, envvar=flag_variable(flag), **attributes)


# Settings' flags read no variable here: the loader does, and tells when two ways differ.
_SETTING_FLAGS = {
    "--config": ("F", "The configuration file."),
    "--store": ("URL", "The store, such as sqlite:///var/lib/gateway/gateway.db."),
    "--upstream": ("URL", "The one backend, such as http://127.0.0.1:9000, for a gateway without a file."),
    "--listen": ("H:P", "Where callers connect."),
    "--ops-listen": ("H:P", "Where metrics and health are served."),
    "--control-listen": ("H:P", "Where keys are managed and people log in; none: nowhere."),
    "--workers": ("N", "Processes that serve callers, or auto: one a core."),
}


def setting_flags(*flags: str) -> Callable[[F], F]:
    """Declare ``--config``, ``--store`` and further flags that are settings."""

    def declare(command: F) -> F:
        for flag in reversed(("--config", "--store", *flags)):
            metavar, text = _SETTING_FLAGS[flag]
            command = click.option(flag, metavar=metavar, help=text, multiple=True, callback=_once)(command)
        return command

    return declare


def _once(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return what a flag says; said twice and differently, neither is the one that was meant."""
    if len(set(values)) > 1:
        raise click.UsageError(f"{parameter.opts[0]} is given twice, and differs: keep one")
    return values[0] if values else None


def settings_of(flags: Mapping[str, Any]) -> Settings:
    """Return the settings that a command was given by its flags, the environment and a file."""
    given = {f"--{name.replace('_', '-')}": value for name, value in flags.items()}
    config = given.pop("--config", None)
    for flag, value in {"--config": config, **given}.items():
        if value == "":
            raise CliError(f"{flag} is empty: give it a value or leave it out", 2)
    return load_settings(config, os.environ, given)


def store_url(settings: Settings) -> str:
    """Return the URL of the store that is meant, the default one when none is named; raises CliError."""
    from gateway.store.base import StoreUrlError
    from gateway.store.urls import default_store_url

    try:
        return settings.store_url or default_store_url(os.environ)
    except StoreUrlError as error:
        raise CliError(str(error)) from None


def executable() -> str:
    """Return how this program was called, ready to be pasted into a shell."""
    if sys.argv[0].endswith("__main__.py"):
        return f"{shlex.quote(sys.executable)} -m gateway"
    name = os.path.basename(sys.argv[0])
    on_path = shutil.which(name)
    if on_path and os.path.realpath(on_path) == os.path.realpath(sys.argv[0]):
        return name
    return shlex.quote(sys.argv[0])


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the type of a flag that is a whole number in plain digits; ``int`` alone would take 1_0."""

    def number(text: str | int) -> int:
        digits = str(text)
        if digits.isascii() and digits.isdigit() and len(digits) < 10 and least <= int(digits) <= most:
            return int(digits)
        raise click.BadParameter(f"`{digits}` is not a whole number from {least} to {most}")

    return number


def confirm(question: str, doing: str, otherwise: str) -> None:
    """Ask whether to go on; where there is nobody to ask, ``--yes`` must have said so. Raises CliError."""
    if not sys.stdin.isatty():
        raise CliError(f"{doing} cannot be undone, and there is no terminal to ask at: add --yes", 2)
    try:
        agreed = click.confirm(question, err=True)
    except OSError:  # the terminal hung up
        agreed = False
    if not agreed:
        raise CliError(otherwise)


def print_json(value: Any) -> None:
    """Print one JSON text, in plain ASCII where the output's encoding is not JSON's own."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    click.echo(json.dumps(value, ensure_ascii=encoding != "utf8"))


def print_rows(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table, aligned, with its heads."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    for row in (heads, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
