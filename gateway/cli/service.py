"""Opens the store and the domain service for one command, and turns what they refuse into CLI errors."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.cli.common import CliError, store_url
from gateway.config.settings import Settings
from gateway.control.errors import Invalid, ServiceError
from gateway.control.passwords import Argon2Pool
from gateway.control.service import KeyService
from gateway.core.tokens import Digester
from gateway.keys.peppers import PepperError, open_digester
from gateway.store.base import Actor, Store, StoreError, StoreUrlError
from gateway.store.urls import open_store

T = TypeVar("T")


def with_service(settings: Settings, work: Callable[[KeyService], Awaitable[T]]) -> T:
    """Run ``work`` with the domain service on the settings' store; raises CliError."""

    async def run() -> T:
        async with opened_service(settings) as service:
            return await work(service)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def opened_service(settings: Settings) -> AsyncIterator[KeyService]:
    """Lend the domain service on the settings' store, which is created or migrated first."""
    async with opened_digester(settings) as (store, digester):
        hasher = Argon2Pool(threads=1)
        try:
            yield KeyService(store, digester, hasher, settings.roles, settings.key_policy)
        finally:
            hasher.close()


@contextlib.asynccontextmanager
async def opened_digester(settings: Settings) -> AsyncIterator[tuple[Store, Digester]]:
    """Lend the migrated store and the digester of its pepper."""
    secrets = settings.secrets
    async with opened_store(settings) as (store, _):
        digester = await open_digester(
            store,
            pepper=secrets.pepper.reveal if secrets.pepper else None,
            pepper_file=Path(secrets.pepper_file) if secrets.pepper_file else None,
        )
        yield store, digester


@contextlib.asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[tuple[Store, Sequence[str]]]:
    """Lend the migrated store, and the names of the migrations that were applied just now."""
    store = checked_store(settings)
    with _told():
        try:
            yield store, await store.migrate()
        finally:
            await store.close()


def checked_store(settings: Settings) -> Store:
    """Return the store that the settings name, untouched; raises CliError where the URL names none."""
    try:
        return open_store(store_url(settings))
    except StoreUrlError as error:
        raise CliError(str(error), 2) from None


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the planes refuse into CLI errors: a wrong value is wrong usage, the rest is refused."""
    try:
        yield
    except Invalid as error:
        raise CliError(str(error), 2) from None
    except (ServiceError, StoreError, PepperError) as error:
        raise CliError(str(error)) from None


def operator() -> Actor:
    """Return who runs this command, as the audit names it: ``cli:<os user>@<host>``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        user = "unknown"
    return Actor(name=f"cli:{user}@{socket.gethostname()}")
