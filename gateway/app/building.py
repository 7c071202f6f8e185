"""Build the data path of one process from the settings: its parts, and what they are told of one another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time

from gateway.app.errors import StartError, StoreOutError
from gateway.app.gateway import Gateway
from gateway.app.issuers import follow_issuers
from gateway.app.keeping import Opened, keep, kept_place, without_the_store
from gateway.app.proving import Proving
from gateway.app.usage import UsageWriter
from gateway.config.settings import Settings
from gateway.core.decision import Snapshot
from gateway.core.model import MILLISECONDS, KeyTable
from gateway.core.routes import Router
from gateway.core.tokens import Digester
from gateway.dataplane.server import Server
from gateway.keys.clock import boot_clock
from gateway.keys.feed import Feed
from gateway.keys.opening import opened_store
from gateway.keys.peppers import PepperError
from gateway.keys.upkeep import Upkeep
from gateway.keys.verifier import Verifier
from gateway.keys.watch import Watch
from gateway.observe import AccessLog, Observer, open_access_log
from gateway.store.base import Store, StoreError, StoreUrlError
from gateway.store.urls import default_store_url

_log = logging.getLogger("gateway.app")


async def built_gateway(
    settings: Settings,
    stack: contextlib.AsyncExitStack,
    *,
    migrate: bool = True,
    log_lock: int | None = None,
    pseudonym: bytes | None = None,
    keeps: bool = True,
) -> Gateway:
    """Return a data path that has yet to be started, open until ``stack`` ends. Raises StartError.

    Several processes of one gateway share the store, which was migrated before they began; the access
    log, by the file ``log_lock``; the ``pseudonym``; and the kept table, which one of them ``keeps``.
    """
    try:
        opened = Opened(*await open_the_store(settings, stack, migrate=migrate))
    except StoreOutError as error:
        opened = await without_the_store(settings, stack, error)
    store, digester = opened.store, opened.digester
    table = KeyTable()
    observer = Observer(open_the_log(settings, stack, log_lock))
    verifier = built_verifier(settings, table)
    proving = Proving(verifier, store, digester, table, observer)
    proving.start(stack)
    follow_issuers(settings, verifier, stack)
    feed = _built_feed(settings, opened, table, observer, verifier, stack, keeps=keeps)
    server = built_server(settings, table, digester, observer, proving, pseudonym)
    stack.callback(server.close)
    _write_uses(store, server, table, stack)
    watch = Watch(table, settings.freshness, clock=boot_clock)
    watch.start()
    stack.push_async_callback(watch.stop)
    upkeep = Upkeep(store, feed, watch, may=lambda: not server.draining)
    upkeep.start()
    stack.push_async_callback(upkeep.stop)
    return Gateway(
        settings,
        store=store,
        table=table,
        observer=observer,
        feed=feed,
        watch=watch,
        upkeep=upkeep,
        server=server,
    )


def _built_feed(
    settings: Settings,
    opened: Opened,
    table: KeyTable,
    observer: Observer,
    verifier: Verifier,
    stack: contextlib.AsyncExitStack,
    *,
    keeps: bool,
) -> Feed:
    """Return what keeps the table in step, with what it begins with where the store is out."""
    place = kept_place(settings, opened.digester)
    feed = Feed(
        opened.store,
        table,
        opened.digester,
        clock=boot_clock,
        poll_s=settings.propagation.poll_s,
        answer_s=settings.propagation.answer_s,
        policy=settings.key_policy,
        propagated=observer.propagated,
        rekeyed=verifier.rekey,
        prepare=opened.prepare,
        kept=place.usable if place is not None else None,
    )
    stack.push_async_callback(feed.stop)
    if opened.kept is not None:
        feed.restore(opened.kept)
    if place is not None and keeps:
        keep(place, feed, stack)
    return feed


def _write_uses(store: Store, server: Server, table: KeyTable, stack: contextlib.AsyncExitStack) -> None:
    """Have the uses of keys written behind until ``stack`` ends, at the store's time."""
    usage = UsageWriter(
        store,
        server.take_used,
        now_ms=lambda: int((boot_clock() + table.store_offset_s) * MILLISECONDS),
        clock=boot_clock,
    )
    usage.start()
    stack.push_async_callback(usage.stop)


async def open_the_store(
    settings: Settings, stack: contextlib.AsyncExitStack, *, migrate: bool = True
) -> tuple[Store, Digester]:
    """Open the store and the digester of its pepper until ``stack`` ends. Raises StartError.

    Without ``migrate`` another process has done that: a store that has gone meanwhile must come back,
    and not be begun anew by whoever starts then.
    """
    pepper, pepper_file = settings.secrets.pepper, settings.secrets.pepper_file
    url = settings.store_url or default_store_url(os.environ)
    text = pepper.reveal if pepper else None
    lent = opened_store(url, pepper=text, pepper_file=pepper_file, migrate=migrate)
    try:
        return await stack.enter_async_context(lent)
    except StoreError as error:
        raise StoreOutError(str(error)) from None
    except (StoreUrlError, PepperError) as error:
        raise StartError(str(error)) from None


def open_the_log(
    settings: Settings, stack: contextlib.AsyncExitStack, lock: int | None = None
) -> AccessLog | None:
    """Open the access log, if there is to be one, until ``stack`` ends. Raises StartError."""
    try:
        log = open_access_log(settings.access_log, lock)
    except OSError as error:
        raise StartError(
            f"cannot open the access log {settings.access_log}: {os.strerror(error.errno or 0)}"
        ) from None
    if log is not None:
        log.start(asyncio.get_running_loop())
        stack.callback(log.close)
    return log


def built_verifier(settings: Settings, table: KeyTable) -> Verifier:
    """Return the verifier of login tokens: ours, and those of the issuers that it will be told of."""
    return Verifier(
        table, issuer=settings.control.issuer, token_ttl_ms=int(settings.login.token_ttl_s * MILLISECONDS)
    )


def built_server(
    settings: Settings,
    table: KeyTable,
    digester: Digester,
    observer: Observer,
    proving: Proving,
    pseudonym: bytes | None = None,
) -> Server:
    """Return the data plane's server, which has yet to be started."""
    observer.configured((route.name for route in settings.routes), settings.upstreams, time.time())
    return Server(
        snapshot=Snapshot(
            router=Router(settings.routes),
            roles=settings.roles,
            keys=table,
            digester=digester,
            freshness=settings.freshness,
            sessions=proving.verifier.sessions,
            cold=proving.prover.proofs,
            found_older=proving.digests.found_older,
        ),
        limits=settings.limits,
        timeouts=settings.timeouts,
        targets={
            name: (upstream.targets[0].host, upstream.targets[0].port)
            for name, upstream in settings.upstreams.items()
        },
        observer=observer,
        clock=boot_clock,
        report=_log.warning,
        verify=proving.verify,
        pseudonym=pseudonym,
    )
