"""One running gateway: how it stands, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.config.settings import Settings
from gateway.control.ops import Status, make_ops
from gateway.core.model import KeyTable
from gateway.dataplane.server import Server
from gateway.keys.clock import boot_clock
from gateway.keys.feed import Feed
from gateway.observe import Gauges, Observer, make_registry

# How long the start waits for the first load before it says that it serves, in seconds.
FIRST_SYNC_S = 10.0
_log = logging.getLogger("gateway.app")


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
        return None if synced_at is None else boot_clock() - synced_at

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
