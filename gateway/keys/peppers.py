"""The pepper of the digests: where it comes from, and that it is the one the store was made with.

Imports ``core`` and ``store`` only. Nothing here shows a pepper, not even in part.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from gateway.core.tokens import MINIMUM_PEPPER_BYTES, Digester
from gateway.store.base import Store
from gateway.store.sqlite_files import create_private, sync_directory

LARGEST_SOURCE_BYTES = 65536
_MADE_BYTES = 48


class PepperError(Exception):
    """There is no pepper that can be used with this store; the message is one sentence."""


async def open_digester(
    store: Store, *, pepper: str | None = None, pepper_file: Path | None = None
) -> Digester:
    """Return the digester for a migrated store, and tie the store to its pepper at the first use.

    ``pepper`` (the text itself) comes before ``pepper_file``; without either the store keeps its own
    beside itself. Raises PepperError (missing, malformed, or not the one that the store is tied
    to) and StoreError.
    """
    if pepper is not None:
        found, source = pepper.encode(), "the pepper that was given"
    elif pepper_file is not None:
        found, source = _read(pepper_file), f"the pepper file {pepper_file}"
    else:
        path = await _kept_beside(store)
        found, source = _read(path), f"the pepper file {path}"
    digester = Digester([_one_pepper(found, source)])
    if not secrets.compare_digest(await store.tie_pepper(digester.check_value()), digester.check_value()):
        raise PepperError(f"{source} is not the one that the keys in {store.location} were made with")
    return digester


async def _kept_beside(store: Store) -> Path:
    """Return the path of the store's own pepper, made now if the store was never used with one."""
    path = store.pepper_path
    if path is None:
        raise PepperError(f"the store {store.location} keeps no pepper of its own: name a pepper file")
    # Asked first: who ties a store has put the pepper in its place before.
    tied = await store.pepper_check() is not None
    if path.exists():
        return path
    if tied:
        raise PepperError(
            f"the pepper of {store.location} is missing: put back {path} or name the file that holds it,"
            " since no key can be checked without it"
        )
    try:
        _make(path, owner=Path(store.location))
    except OSError as error:
        raise PepperError(f"the pepper file {path} cannot be created: {error.strerror}") from None
    return path


def _make(path: Path, *, owner: Path) -> None:
    """Put a new pepper in place whole; of several processes that do so at once one wins, for all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    create_private(draft, secrets.token_urlsafe(_MADE_BYTES).encode() + b"\n", owner=owner)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    sync_directory(path.parent)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_SOURCE_BYTES + 1)
    except OSError as error:
        raise PepperError(f"the pepper file {path} cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_SOURCE_BYTES:
        raise PepperError(f"the pepper file {path} is too large to hold a pepper")
    return content


def _one_pepper(content: bytes, source: str) -> bytes:
    lines = [line for line in (line.strip() for line in content.splitlines()) if line]
    if len(lines) > 1:
        raise PepperError(
            f"{source} has {len(lines)} lines: several peppers are not supported by this version"
        )
    if not lines or len(lines[0]) < MINIMUM_PEPPER_BYTES:
        raise PepperError(
            f"{source} is too short: at least {MINIMUM_PEPPER_BYTES} bytes are needed on one line"
        )
    return lines[0]
