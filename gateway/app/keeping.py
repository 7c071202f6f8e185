"""The kept table of a gateway: started from while the store is out, and written while it is not.

Of several workers one writes it, and all of them can start from it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from gateway.app.errors import StoreOutError
from gateway.config.settings import Settings
from gateway.core.tokens import Digester
from gateway.keys.feed import Feed
from gateway.keys.keeper import Keeper
from gateway.keys.peppers import PepperError, open_digester, ordered_digester, peppers_at_hand
from gateway.keys.restoring import Kept, KeptPlace
from gateway.store import operations as ops
from gateway.store.base import Store, StoreError
from gateway.store.peppers import Pepper
from gateway.store.urls import default_store_url, open_store

_log = logging.getLogger("gateway.app")


class Opened(NamedTuple):
    """A store and the digester of its peppers, and where the store is out, what stands in for it.

    ``prepare`` then makes up for what has to be done to the store before it is used.
    """

    store: Store
    digester: Digester
    kept: Kept | None = None
    prepare: Callable[[], Awaitable[None]] | None = None


def kept_place(settings: Settings, digester: Digester) -> KeptPlace | None:
    """Return where the table is kept; None where that is not wished for."""
    path = settings.propagation.kept_table
    if path is None:
        return None
    return KeptPlace(Path(path).absolute(), digester, settings.freshness, settings.key_policy)


def named_store(settings: Settings) -> Store:
    """Return the store that the settings name, untouched. Raises StoreUrlError."""
    return open_store(settings.store_url or default_store_url(os.environ))


async def without_the_store(
    settings: Settings, stack: contextlib.AsyncExitStack, why: StoreOutError
) -> Opened:
    """Return what there is while the store is out, until ``stack`` ends; raises ``why`` for nothing."""
    if settings.propagation.kept_table is None:
        raise why
    store = named_store(settings)
    stack.push_async_callback(store.close)
    pepper, file = settings.secrets.pepper, settings.secrets.pepper_file
    text, pepper_file = pepper.reveal if pepper else None, Path(file) if file else None
    try:
        source = peppers_at_hand(store, pepper=text, pepper_file=pepper_file)
    except PepperError as error:
        _log.warning("the kept table is not used: %s", error)
        raise why from None
    place = kept_place(settings, Digester(source.peppers))
    kept = await place.usable() if place is not None else None
    if kept is None:
        raise why
    _log.warning("started without the store: %s", why)
    known = [Pepper(id, check, 0) for id, check in kept.table.facts.peppers]
    prepare = functools.partial(_make_up, store, pepper=text, pepper_file=pepper_file)
    return Opened(store, ordered_digester(source, known), kept, prepare)


async def _make_up(store: Store, *, pepper: str | None, pepper_file: Path | None) -> None:
    """Do what a start does to a store, now that it may be back. Raises StoreError."""
    # One that is not there must come back, and not be made anew by the migrations.
    await store.read(ops.read("change_head"))
    await store.migrate()
    try:
        await open_digester(store, pepper=pepper, pepper_file=pepper_file)
    except PepperError as error:
        raise StoreError(str(error)) from None


def keep(place: KeptPlace, feed: Feed, stack: contextlib.AsyncExitStack) -> None:
    """Keep the table on disk until ``stack`` ends."""
    keeper = Keeper(place, feed.replica)
    keeper.start()
    stack.push_async_callback(keeper.stop)
