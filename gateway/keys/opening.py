"""Open a store together with the pepper of its digests. Imports ``core`` and ``store``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.core.tokens import Digester
from gateway.keys.peppers import open_digester
from gateway.store.base import Store
from gateway.store.urls import open_store


@contextlib.asynccontextmanager
async def opened_store(
    url: str, *, pepper: str | None, pepper_file: str | None, migrate: bool = True
) -> AsyncIterator[tuple[Store, Digester]]:
    """Lend the migrated store and the digester of its pepper; the store is closed at the end.

    Without ``migrate`` somebody else has seen to that, and a store that is missing is not made.
    Raises StoreUrlError, StoreError and PepperError, each one sentence.
    """
    store = open_store(url)
    try:
        if migrate:
            await store.migrate()
        file = Path(pepper_file) if pepper_file else None
        yield store, await open_digester(store, pepper=pepper, pepper_file=file)
    finally:
        await store.close()
