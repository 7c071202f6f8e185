"""``gateway keys import``: bring keys in from elsewhere, so that no caller needs a new one."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import click

from gateway.cli.common import CliError, option, print_json, setting_flags, settings_of

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.control.importing import BadLine, Imported

SHOWN_MAX = 100
"""Wrong lines that are named one by one."""
_LINE_MAX = 65537  # one more than a line may have, so that it is told


@click.command(name="import", short_help="Bring keys in from elsewhere, one JSON object a line.")
@setting_flags()
@option("--skip-bad", is_flag=True, help="Pass over lines that are wrong; without it they stop everything.")
@option("--no-verifier", is_flag=True, help="Make no argon2id strings of tokens: quicker, see above.")
@option("--allow-weak", is_flag=True, help="Take tokens of fewer than 16 characters, which can be guessed.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("file", metavar="F")
def import_keys(
    file: str, skip_bad: bool, no_verifier: bool, allow_weak: bool, as_json: bool, **flags: Any
) -> None:
    """Import keys from file F (`-` for stdin), one JSON object a line, so that no caller needs a new key.

    Each has tenantId, name, permission and expiresAt, and either the token or argon2id (its hash)
    with locator (the leading part of the token that finds it). Optional: description, environmentId,
    intendedUse; lastFour beside argon2id; locator beside token. Tokens are digested at once and kept
    nowhere. Without --skip-bad nothing is imported if a line is wrong. Run again, it goes on
    where it was interrupted.

    A token of our own form, or with a locator, also gets an argon2id string (some 20 ms each): by it
    the key outlives a lost pepper, and a rotation in which it was not used.
    """
    import asyncio

    settings = settings_of(flags)
    with _opened(file) as source:
        work = _import(
            settings, source, skip_bad=skip_bad, verifiers=not no_verifier, weak=allow_weak, quiet=as_json
        )
        found = asyncio.run(work)
    if as_json:
        errors = [{"line": bad.line, "reason": bad.reason} for bad in found.refused]
        print_json(
            {
                "imported": found.imported,
                "present": found.present,
                "withoutVerifier": found.without_verifier,
                "refused": len(errors),
                "errors": errors,
            }
        )
    else:
        _tell(found)
    if found.refused and not skip_bad:
        raise CliError(f"nothing was imported: {_count(len(found.refused), 'line')} wrong")


async def _import(
    settings: Settings, source: IO[bytes], *, skip_bad: bool, verifiers: bool, weak: bool, quiet: bool
) -> Imported:
    from gateway.cli.service import opened_digester, operator
    from gateway.control.importing import KeyImport
    from gateway.control.passwords import Argon2Pool

    async with opened_digester(settings) as (store, digester):
        pool = Argon2Pool(threads=os.cpu_count() or 1)
        try:

            async def run(label: str, *, write: bool) -> Imported:
                keys = KeyImport(store, digester, pool, settings.roles, settings.key_policy)
                source.seek(0)
                with _progress(source, label, quiet=quiet) as bar:
                    return await keys.run(
                        operator(),
                        _lines(source),
                        write=write,
                        weak=weak,
                        verifiers=verifiers,
                        progress=lambda line: bar.update(len(line)),
                    )

            if not skip_bad:
                found = await run("checking", write=False)
                if found.refused:
                    found.imported = 0
                    return found
            found = await run("importing", write=True)
            if found.refused and not skip_bad:
                raise CliError(
                    f"{_count(found.imported, 'key')} imported, but line {found.refused[0].line} has changed"
                    " or was imported meanwhile: run it again"
                )
            return found
        finally:
            pool.close()


def _opened(file: str) -> IO[bytes]:
    """Return the file, or what is in a pipe, which can be read once only. Raises CliError."""
    try:
        if file == "-":
            return io.BytesIO(sys.stdin.buffer.read())
        opened = open(file, "rb")  # noqa: SIM115  the caller closes it
        if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return opened
        with opened:
            return io.BytesIO(opened.read())
    except OSError as error:
        raise CliError(f"the file {file} cannot be read: {error.strerror or error}") from None


def _lines(source: IO[bytes]) -> Iterator[bytes]:
    """Yield each line; of one that is too long no more than it takes to see that."""
    first = True
    while line := source.readline(_LINE_MAX):
        rest = line
        while len(rest) == _LINE_MAX and not rest.endswith(b"\n"):
            rest = source.readline(_LINE_MAX)
        yield line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False


def _progress(source: IO[bytes], label: str, *, quiet: bool) -> Any:
    """Return a bar on the terminal; where there is none, or JSON is wanted, one that shows nothing."""
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    hidden = quiet or not sys.stderr.isatty()
    steps = max(1, size // 200)
    return click.progressbar(length=size, label=label, file=sys.stderr, hidden=hidden, update_min_steps=steps)


def _tell(found: Imported) -> None:
    for bad in found.refused[:SHOWN_MAX]:
        click.echo(f"line {bad.line}: {bad.reason}", err=True)
    _tell_more(found.refused)
    parts = [f"{_count(found.imported, 'key')} imported"]
    if found.present:
        parts.append(f"{found.present} there already")
    if found.refused:
        parts.append(f"{_count(len(found.refused), 'line')} wrong")
    click.echo(", ".join(parts))
    if found.without_verifier:
        click.echo(
            f"{found.without_verifier} of the new keys have no argon2id string: they end with their pepper,"
            " unless they are used while it is rotated",
            err=True,
        )


def _tell_more(refused: list[BadLine]) -> None:
    if len(refused) > SHOWN_MAX:
        click.echo(f"… and {_count(len(refused) - SHOWN_MAX, 'line')} more", err=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
