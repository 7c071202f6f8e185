"""``gateway pepper``: go from one pepper to a newer one, on the store directly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CliError, StrictGroup, confirm, option, print_rows, setting_flags, settings_of

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.control.peppers import RotationService
    from gateway.keys.peppers import Source
    from gateway.store.base import KeyRecord, Store
    from gateway.store.peppers import Pepper


@click.group(cls=StrictGroup, no_args_is_help=False)
def pepper() -> None:
    """Rotate the pepper that keys are kept under."""


@pepper.command(short_help="Go from one pepper to a newer one, in steps.")
@setting_flags()
@option("--finish", is_flag=True, help="Retire the older pepper; keys not seen under the newer become cold.")
@option("--write", "target", metavar="F", help="Write the list with a new pepper to this new file.")
@option("--yes", is_flag=True, help="Do not ask.")
def rotate(finish: bool, target: str | None, yes: bool, **flags: Any) -> None:
    """Go from one pepper to a newer one without a new key for anybody: run it, restart, run it, finish it.

    First it makes a new pepper (or says where to put one), with which every gateway has to be
    restarted. Run again, it has keys written under that one. With --finish it names the keys
    that were not seen since, and retires the older pepper.
    """
    import asyncio

    if finish and target is not None:
        raise CliError("--write is for a new pepper, and --finish for an old one: give one of them", 2)
    asyncio.run(_rotate(settings_of(flags), finish=finish, target=target, yes=yes))


async def _rotate(settings: Settings, *, finish: bool, target: str | None, yes: bool) -> None:
    from gateway.cli.service import opened_store
    from gateway.control.peppers import RotationService
    from gateway.control.signing import Signing
    from gateway.keys import peppers

    given = settings.secrets.pepper.reveal if settings.secrets.pepper else None
    named = Path(settings.secrets.pepper_file) if settings.secrets.pepper_file else None
    async with opened_store(settings) as (store, _):
        source = await peppers.find_peppers(store, pepper=given, pepper_file=named)
        known = await peppers.known_peppers(store, source)
        if not finish:
            peppers.check_peppers(store, source, known)
        digester = peppers.ordered_digester(source, known)
        signing = Signing(store, digester, settings.key_policy)
        service = RotationService(store, digester, signing, settings.key_policy)
        standing = await service.standing()
        if finish:
            await _finish(store, service, source, known, yes=yes)
        elif standing.begun or standing.prepared:
            if target is not None:
                raise CliError(f"nothing is written to {target}: a newer pepper is at hand already")
            await _begin(service, yes=yes)
        else:
            _prepare(source, target, store)


def _prepare(source: Source, target: str | None, store: Store) -> None:
    """Make a new pepper where that can be done, and say what comes next."""
    from gateway.keys.peppers import new_pepper, write_peppers

    again = "restart every gateway of this store with it, then run `gateway pepper rotate` again"
    path = Path(target) if target is not None else source.own_file
    if path is None:
        raise CliError(
            f"there is no newer pepper in {source.name}: put a new line of at least 32 random bytes before"
            f" the others there (or have --write F make the whole list), {again}"
        )
    lines = [new_pepper(), *source.peppers]
    try:
        owner = Path(store.location) if target is None else path.absolute().parent
        write_peppers(path.absolute(), lines, owner=owner, replace=target is None)
    except OSError as error:
        raise CliError(f"the pepper file {path} cannot be written: {error.strerror}") from None
    click.echo(f"a new pepper is in {path}, before the others: {again}")


async def _begin(service: RotationService, *, yes: bool) -> None:
    from gateway.cli.service import operator

    standing = await service.standing()
    if not yes and not standing.begun:
        confirm(
            f"Has every gateway of this store been restarted with pepper {standing.at_hand}?",
            "beginning to write keys under another pepper",
            "nothing was changed",
        )
    newest = await service.begin(operator())
    waiting = len(await service.unseen(standing.in_use))
    click.echo(
        f"keys are written under pepper {newest} from now on, and go along as they are used"
        f" ({waiting} have not): run `gateway pepper rotate --finish` when they had the time to"
    )


async def _finish(
    store: Store, service: RotationService, source: Source, known: Sequence[Pepper], *, yes: bool
) -> None:
    from gateway.cli.service import operator
    from gateway.keys.peppers import missing_peppers

    missing = missing_peppers(known, source)
    standing = await service.standing()
    newest = standing.in_use[-1]
    if newest in missing:
        newest = standing.at_hand  # the pepper is lost: what is at hand takes its place
    retiring = [pepper_id for pepper_id in standing.in_use if pepper_id != newest]
    if not retiring and (left := _left_behind(source, known)):
        await service.forget(left)
        _tell_finished(store, source, left)
        return
    if not retiring:
        click.echo(f"there is nothing to finish: every key is under pepper {newest}")
        return
    unseen = await service.unseen(retiring)
    _name(unseen)
    for pepper_id in missing:
        click.echo(
            f"pepper {pepper_id} is not in {source.name}: put it back there if it is not lost", err=True
        )
    if unseen and not yes:
        confirm(
            f"Retire pepper {', '.join(retiring)}, so that these {len(unseen)} keys are cold?",
            "retiring a pepper",
            "nothing was changed",
        )
    if newest not in standing.in_use:
        await service.begin(operator(), replacing=True)
    await service.finish(operator(), retiring)
    _tell_finished(store, source, retiring)


def _left_behind(source: Source, known: Sequence[Pepper]) -> list[str]:
    """Return the retired peppers in the store's own file, as an end that was interrupted leaves them."""
    from gateway.core.tokens import Digester

    retired = {pepper.id for pepper in known if pepper.retired_at is not None}
    here = Digester(source.peppers).pepper_ids
    return [each for each in here if each in retired] if source.own_file is not None else []


def _name(unseen: list[KeyRecord]) -> None:
    """Name the keys that become cold, and those that end because nothing else proves them."""
    from gateway.control.lifetime import rfc3339

    if not unseen:
        return
    rows: list[tuple[str, ...]] = [
        (
            key.id,
            key.tenant_id,
            key.name,
            rfc3339(key.last_used_at) if key.last_used_at is not None else "-",
            "cold" if key.verifier else "ends",
        )
        for key in unseen
    ]
    print_rows(("ID", "TENANT", "NAME", "LAST USED", "BECOMES"), rows)
    ending = sum(not key.verifier for key in unseen)
    if ending:
        click.echo(f"{ending} of these have no argon2id verifier, so that nothing proves them then", err=True)


def _tell_finished(store: Store, source: Source, retiring: list[str]) -> None:
    """Say what is to be done with the pepper that was retired; the store's own file does without it."""
    from gateway.core.tokens import Digester
    from gateway.keys.peppers import write_peppers

    ids = ", ".join(retiring)
    if source.own_file is None:
        click.echo(f"pepper {ids} is retired: take its line out of {source.name} and restart the gateways")
        return
    by_id = dict(zip(Digester(source.peppers).pepper_ids, source.peppers, strict=True))
    kept = [line for pepper_id, line in by_id.items() if pepper_id not in retiring]
    try:
        write_peppers(source.own_file, kept, owner=Path(store.location), replace=True)
    except OSError as error:
        raise CliError(
            f"pepper {ids} is retired, but {source.own_file} cannot be written without it: {error.strerror}"
        ) from None
    click.echo(
        f"pepper {ids} is retired and no longer in {source.own_file}; an older backup of the store"
        " needs the pepper file that was kept with it"
    )
