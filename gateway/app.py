"""The composition root: the only module that knows every plane. Build, wire, start, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.config.settings import Address, Settings
from gateway.control.ops import Status, make_ops, serve_ops
from gateway.core.decision import Snapshot
from gateway.core.model import KeyTable
from gateway.core.routes import Router
from gateway.core.tokens import Digester
from gateway.dataplane.listeners import bind_tcp, bind_unix, connection_room
from gateway.dataplane.server import Server
from gateway.keys.clock import boot_clock
from gateway.keys.feed import Feed
from gateway.keys.opening import opened_store
from gateway.keys.peppers import PepperError
from gateway.observe import AccessLog, Gauges, Observer, make_registry, open_access_log
from gateway.store.base import Store, StoreError, StoreUrlError
from gateway.store.urls import default_store_url

# How long the start waits for the first load before it says that it serves, in seconds.
FIRST_SYNC_S = 10.0
# Collecting rarely is enough where nearly all is freed by its count, and each run walks the live objects.
_GC_THRESHOLDS = (50_000, 50, 100)
_log = logging.getLogger("gateway.app")
_boot_clock: Callable[[], float] = boot_clock


class StartError(Exception):
    """The gateway cannot start; the text is one sentence for the operator (exit code 1)."""


class PortTakenError(StartError):
    """Somebody else listens there."""


def run(
    settings: Settings,
    on_ready: Callable[[Sequence[str]], None] | None = None,
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Serve until a signal ends it; return the exit code.

    ``on_ready`` is called with the addresses that are served, once they are bound and the keys are
    loaded (or ten seconds have passed). ``prepare`` runs before that, when everything is bound and
    the store is open, but no key has been loaded. Raises StartError.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="gateway: %(message)s")
    settings, notes = _within_open_files(settings)
    tell = on_ready or _tell
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(_bound(address)) for address in settings.listen]
        ops_listener = stack.enter_context(_bound(settings.ops_listen))
        return _run_loop(
            _serve(settings, listeners, ops_listener, lambda served: tell([*served, *notes]), prepare)
        )


def _within_open_files(settings: Settings) -> tuple[Settings, list[str]]:
    """Return the settings with no more connections than files can be open, and a note where these bind."""
    room, wanted = connection_room(), settings.limits.connections
    if wanted <= room:
        return settings, []
    limits = msgspec.structs.replace(settings.limits, connections=room)
    note = f"at most {room} connections at once, not {wanted}: the limit of open files is low"
    return msgspec.structs.replace(settings, limits=limits), [note]


def _run_loop(main: Coroutine[Any, Any, int]) -> int:
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


def _bound(address: Address) -> socket.socket:
    try:
        return bind_unix(address.path) if address.path is not None else bind_tcp(address.host, address.port)
    except OSError as error:
        kind = PortTakenError if error.errno == errno.EADDRINUSE else StartError
        raise kind(f"cannot listen on {address}: {error.strerror or error}") from None


def _tell(served: Sequence[str]) -> None:
    for line in served:
        sys.stderr.write(f"gateway: {line}\n")
    sys.stderr.flush()


async def _serve(
    settings: Settings,
    listeners: list[socket.socket],
    ops_listener: socket.socket,
    on_ready: Callable[[Sequence[str]], None],
    prepare: Callable[[], Awaitable[None]] | None,
) -> int:
    async with contextlib.AsyncExitStack() as stack:
        store, digester = await _opened_store(settings, stack)
        table = KeyTable()
        observer = Observer(_opened_log(settings, stack))
        feed = Feed(
            store,
            table,
            digester,
            clock=_boot_clock,
            policy=settings.key_policy,
            propagated=observer.propagated,
        )
        stack.push_async_callback(feed.stop)
        server = _built_server(settings, table, digester, observer)
        stack.callback(server.close)
        if prepare is not None:
            await prepare()
        feed.start()
        gateway = Gateway(settings, server, feed, table)
        served = [f"listening on {_address(listener)}" for listener in listeners]
        served += [f"metrics and health on {_address(ops_listener)}", f"keys in {store.location}"]
        await server.start(listeners)
        runner = await serve_ops(gateway.ops(observer), ops_listener)
        stack.push_async_callback(runner.cleanup)
        gateway.started = True
        await gateway.first_sync()
        gc.set_threshold(*_GC_THRESHOLDS)
        on_ready(served)
        await gateway.serve_until_signal()
    for address in settings.listen:
        if address.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.path)
    return 0


async def _opened_store(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[Store, Digester]:
    pepper, pepper_file = settings.secrets.pepper, settings.secrets.pepper_file
    url = settings.store_url or default_store_url(os.environ)
    lent = opened_store(url, pepper=pepper.reveal if pepper else None, pepper_file=pepper_file)
    try:
        return await stack.enter_async_context(lent)
    except (StoreUrlError, StoreError, PepperError) as error:
        raise StartError(str(error)) from None


def _opened_log(settings: Settings, stack: contextlib.AsyncExitStack) -> AccessLog | None:
    try:
        log = open_access_log(settings.access_log)
    except OSError as error:
        raise StartError(
            f"cannot open the access log {settings.access_log}: {os.strerror(error.errno or 0)}"
        ) from None
    if log is not None:
        log.start(asyncio.get_running_loop())
        stack.callback(log.close)
    return log


def _built_server(settings: Settings, table: KeyTable, digester: Digester, observer: Observer) -> Server:
    observer.configured((route.name for route in settings.routes), settings.upstreams, time.time())
    return Server(
        snapshot=Snapshot(
            router=Router(settings.routes),
            roles=settings.roles,
            keys=table,
            digester=digester,
            freshness=settings.freshness,
        ),
        limits=settings.limits,
        timeouts=settings.timeouts,
        targets={
            name: (upstream.targets[0].host, upstream.targets[0].port)
            for name, upstream in settings.upstreams.items()
        },
        observer=observer,
        clock=_boot_clock,
        report=_log.warning,
    )


def _address(listener: socket.socket) -> Address:
    """Return where a socket really listens."""
    name = listener.getsockname()
    return Address(host=name[0], port=name[1]) if isinstance(name, tuple) else Address(path=name)


class Gateway:
    """One running gateway: how it stands, and how it ends."""

    def __init__(self, settings: Settings, server: Server, feed: Feed, table: KeyTable) -> None:
        self.started = False
        self._settings = settings
        self._server = server
        self._feed = feed
        self._table = table
        self._asked_to_end = asyncio.Event()
        self._asked_again = asyncio.Event()
        self._delay_s = settings.timeouts.drain_delay
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self) -> None:
        """Take SIGHUP for what it is: the end of a terminal, or somebody's wish for a reload."""
        if sys.stderr.isatty() or sys.stdin.isatty():
            self._on_signal(signal.SIGINT)
        else:
            _log.warning("SIGHUP changes nothing: start anew to read the configuration again")

    def _on_signal(self, number: signal.Signals) -> None:
        """Take a signal to end: SIGINT skips the delay, the second one ends at once."""
        if self._asked_to_end.is_set():
            self._asked_again.set()
        elif number == signal.SIGINT:
            self._delay_s = 0.0
        self._asked_to_end.set()

    def ops(self, observer: Observer) -> web.Application:
        """Return the application of the ops listener."""
        gauges = Gauges(
            downstream_connections=lambda: len(self._server.connections),
            upstream_connections=self._upstream_connections,
            key_table_keys=lambda: len(self._table.by_digest),
            key_table_age_s=self._age_s,
            store_up=lambda: self._feed.store_up,
        )
        status = Status(started=self._is_started, ready=self._is_ready)
        return make_ops(make_registry(observer, gauges, __version__), status)

    def _upstream_connections(self) -> list[tuple[str, str, int]]:
        rows = []
        for name, pool in self._server.pools.items():
            rows.append((name, "active", len(pool.open) - pool.idle_count))
            rows.append((name, "idle", pool.idle_count))
        return rows

    def _age_s(self) -> float | None:
        synced_at = self._table.synced_at
        return None if synced_at is None else _boot_clock() - synced_at

    def _is_started(self) -> tuple[bool, str]:
        return self.started, "Started." if self.started else "The listeners are not bound yet."

    def _is_ready(self) -> tuple[bool, str]:
        age = self._age_s()
        bound = self._settings.freshness.bound_s
        if self._server.draining:
            return False, "Draining: send new requests elsewhere."
        if age is None:
            return False, f"The key table has not been loaded yet.{self._outage()}"
        if age > bound:
            return False, f"The key table is {age:.0f} s old, which is more than {bound:g} s.{self._outage()}"
        return True, f"Ready.{self._outage()}"

    def _outage(self) -> str:
        error = self._feed.last_error
        return f" The store is out: {error}." if error else ""

    async def first_sync(self) -> None:
        """Wait until the keys are loaded, ten seconds have passed, or the operator has changed her mind."""
        await _either(self._feed.synced.wait(), self._asked_to_end.wait(), within_s=FIRST_SYNC_S)

    async def serve_until_signal(self) -> None:
        """Serve; then drain as the first signal asks, or stop at once at the second."""
        await self._asked_to_end.wait()
        await _either(self._drain(), self._asked_again.wait())

    async def _drain(self) -> None:
        # SIGTERM comes before traffic stops: Kubernetes takes seconds to take an endpoint out.
        self._server.draining = True
        await asyncio.sleep(self._delay_s)
        await self._server.stop_accepting()
        await self._server.finish(self._settings.timeouts.drain)


async def _either(*waits: Coroutine[Any, Any, object], within_s: float | None = None) -> None:
    """Wait until one of these is done, or ``within_s`` seconds have passed; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
