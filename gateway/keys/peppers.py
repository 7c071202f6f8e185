"""The peppers of the digests: where they come from, and that they are those the store's keys were made with.

Imports ``core`` and ``store`` only. Nothing here shows a pepper, not even in part; its id, a
fingerprint of four bytes, is no secret.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.core.tokens import MINIMUM_PEPPER_BYTES, Digester
from gateway.store.base import Store
from gateway.store.peppers import Pepper, peppers, tie_pepper
from gateway.store.sqlite_files import create_private, sync_directory

LARGEST_SOURCE_BYTES = 65536
MOST_PEPPERS = 4
"""Each costs every unknown key one HMAC; more than two are in use by mistake alone."""
_MADE_BYTES = 48


class PepperError(Exception):
    """There is no pepper that can be used with this store; the message is one sentence."""


class Source(msgspec.Struct, frozen=True):
    """Where the peppers were found, for people, and what they are; its ``repr`` keeps them.

    ``own_file`` is the store's own file; None: the operator keeps them.
    """

    name: str
    peppers: tuple[bytes, ...]
    own_file: Path | None = None

    def __repr__(self) -> str:
        return f"Source({self.name!r})"


async def open_digester(
    store: Store, *, pepper: str | None = None, pepper_file: Path | None = None
) -> Digester:
    """Return the digester for a migrated store, and tie the store to its pepper at the first use.

    ``pepper`` (the text itself, one a line, newest first) comes before ``pepper_file``; without either
    the store keeps its own beside itself. Raises PepperError (missing, malformed, or one that the
    store's keys need is not there) and StoreError.
    """
    source = await find_peppers(store, pepper=pepper, pepper_file=pepper_file)
    known = await known_peppers(store, source)
    check_peppers(store, source, known)
    return ordered_digester(source, known)


async def find_peppers(store: Store, *, pepper: str | None = None, pepper_file: Path | None = None) -> Source:
    """Return the peppers that are meant, as ``open_digester`` takes them. Raises PepperError, StoreError."""
    if pepper is None and pepper_file is None:
        await _kept_beside(store)
    return peppers_at_hand(store, pepper=pepper, pepper_file=pepper_file)


def peppers_at_hand(store: Store, *, pepper: str | None = None, pepper_file: Path | None = None) -> Source:
    """Return what ``find_peppers`` does, without asking the store, nor making any. Raises PepperError."""
    if pepper is not None:
        name = "the pepper that was given"
        return Source(name, _lines(pepper.encode(), name))
    path = pepper_file or store.pepper_path
    if path is None:
        raise PepperError(_no_place(store))
    name = f"the pepper file {path}"
    return Source(name, _lines(_read(path), name), path if pepper_file is None else None)


async def known_peppers(store: Store, source: Source) -> list[Pepper]:
    """Return the peppers that the store knows, oldest first; it is tied now to the newest if to none yet."""
    known = await store.read(peppers())
    if known:
        return known
    digester = Digester(source.peppers)
    newest = digester.pepper_ids[0]
    pepper = Pepper(newest, digester.check_values()[newest], int(time.time() * 1000))
    return await store.write(tie_pepper(pepper))


def check_peppers(store: Store, source: Source, known: Sequence[Pepper]) -> None:
    """Raise PepperError, unless every pepper in use by the store is at hand."""
    missing = missing_peppers(known, source)
    if missing:
        raise PepperError(_what_is_missing(store, source, known, missing))


def missing_peppers(known: Sequence[Pepper], source: Source) -> list[str]:
    """Return the ids of the peppers in use by the store that are not at hand."""
    at_hand = Digester(source.peppers).check_values()
    return [
        pepper.id
        for pepper in known
        if pepper.retired_at is None and not secrets.compare_digest(at_hand.get(pepper.id, b""), pepper.check)
    ]


def ordered_digester(source: Source, known: Sequence[Pepper]) -> Digester:
    """Return the digester of the peppers at hand, as the store is used with them.

    The first comes first, unless the store knows a newer one: then somebody has put them in the wrong
    order. Other keys are derived from the oldest in use, which every gateway has during a rotation.
    """
    digester = Digester(source.peppers)
    by_id = dict(zip(digester.pepper_ids, source.peppers, strict=True))
    in_use = [pepper.id for pepper in known if pepper.retired_at is None and pepper.id in by_id]
    first = digester.pepper_ids[0]
    if in_use and first in {pepper.id for pepper in known}:
        first = in_use[-1]
    ids = [first, *(each for each in by_id if each != first)]
    return Digester([by_id[each] for each in ids], derives=in_use[0] if in_use else None)


def new_pepper() -> bytes:
    """Return a new pepper, of printable ASCII."""
    return secrets.token_urlsafe(_MADE_BYTES).encode()


def write_peppers(path: Path, lines: Sequence[bytes], *, owner: Path, replace: bool) -> None:
    """Put a file of peppers in place whole, mode 0600; under root it goes to whoever owns ``owner``.

    Without ``replace`` a file that is there already stays, and FileExistsError says so. Raises OSError.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    create_private(draft, b"".join(line + b"\n" for line in lines), owner=owner)
    try:
        if replace:
            os.replace(draft, path)
        else:
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)


def _no_place(store: Store) -> str:
    return f"the store {store.location} keeps no pepper of its own: name a pepper file"


async def _kept_beside(store: Store) -> None:
    """Make the store's own pepper now, if the store was never used with one."""
    path = store.pepper_path
    if path is None:
        raise PepperError(_no_place(store))
    # Asked first: who ties a store has put the pepper in its place before.
    tied = bool(await store.read(peppers()))
    if path.exists():
        return
    if tied:
        raise PepperError(
            f"the pepper of {store.location} is missing: put back {path} or name the file that holds it,"
            " since no key can be checked without it"
        )
    try:
        # Of several processes that make one at once one wins, for all.
        with contextlib.suppress(FileExistsError):
            write_peppers(path, [new_pepper()], owner=Path(store.location), replace=False)
    except OSError as error:
        raise PepperError(f"the pepper file {path} cannot be created: {error.strerror}") from None


def _what_is_missing(store: Store, source: Source, known: Sequence[Pepper], missing: Sequence[str]) -> str:
    in_use = [pepper.id for pepper in known if pepper.retired_at is None]
    if len(missing) == len(in_use):
        return (
            f"{source.name} is not the one that the keys in {store.location} were made with"
            f" (pepper {in_use[-1]})"
        )
    return (
        f"{source.name} lacks pepper {missing[0]}, which keys in {store.location} were made with:"
        " add its line"
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_SOURCE_BYTES + 1)
    except OSError as error:
        raise PepperError(f"the pepper file {path} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_SOURCE_BYTES:
        raise PepperError(f"the pepper file {path} is too large to hold peppers")
    return content


def _lines(content: bytes, source: str) -> tuple[bytes, ...]:
    lines = tuple(line for line in (line.strip() for line in content.splitlines()) if line)
    if not lines or any(len(line) < MINIMUM_PEPPER_BYTES for line in lines):
        which = f"line {_first_short(content)} of {source}" if len(lines) > 1 else source
        raise PepperError(
            f"{which} is too short: a pepper has at least {MINIMUM_PEPPER_BYTES} bytes on one line"
        )
    if len(lines) > MOST_PEPPERS:
        raise PepperError(f"{source} has {len(lines)} peppers: at most {MOST_PEPPERS} can be used")
    if len(set(lines)) < len(lines):
        raise PepperError(f"{source} has the same pepper twice: one a line, newest first")
    return lines


def _first_short(content: bytes) -> int:
    lines = [line.strip() for line in content.splitlines()]
    return next(n for n, line in enumerate(lines, 1) if line and len(line) < MINIMUM_PEPPER_BYTES)
