"""Opens the store and the domain service for one command, and turns what they refuse into CLI errors."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from gateway.cli.common import CliError, store_url
from gateway.config.settings import Settings
from gateway.control.errors import Invalid, ServiceError
from gateway.control.passwords import Argon2Pool
from gateway.control.service import KeyService
from gateway.control.signing import Signing
from gateway.core.tokens import Digester
from gateway.keys import opening
from gateway.keys.peppers import PepperError
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
        signing = Signing(store, digester, settings.key_policy, issuer=settings.control.issuer)
        try:
            yield KeyService(store, digester, hasher, settings.roles, settings.key_policy, signing=signing)
        finally:
            hasher.close()


@contextlib.asynccontextmanager
async def opened_digester(settings: Settings) -> AsyncIterator[tuple[Store, Digester]]:
    """Lend the migrated store and the digester of its pepper."""
    pepper, pepper_file = settings.secrets.pepper, settings.secrets.pepper_file
    text = pepper.reveal if pepper else None
    with _told():
        async with opening.opened_store(store_url(settings), pepper=text, pepper_file=pepper_file) as lent:
            yield lent


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
    except (Invalid, StoreUrlError) as error:
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
