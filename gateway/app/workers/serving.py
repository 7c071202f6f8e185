"""Serve with several workers: the supervisor's process, which has the ops listener too."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from gateway.app.building import open_the_store
from gateway.app.control_process import ControlProcess
from gateway.app.ending import Ending
from gateway.app.errors import StoreOutError
from gateway.app.keeping import named_store
from gateway.app.listening import Listeners, served_at
from gateway.app.waiting import FIRST_SYNC_S, either
from gateway.app.workers.messages import Brief
from gateway.app.workers.standing import Standings
from gateway.app.workers.supervisor import Supervisor
from gateway.config.settings import Settings
from gateway.control.http.serving import serve
from gateway.control.ops import Status, make_ops
from gateway.dataplane.server import new_pseudonym
from gateway.observe import families_of, registry_of

_SUPERVISOR = -1
"""Its place among the numbers."""


async def serve_with_workers(
    settings: Settings,
    count: int,
    listeners: Listeners,
    on_ready: Callable[[Sequence[str]], None],
    prepare: Callable[[], Awaitable[None]] | None,
) -> int:
    """Serve with ``count`` workers until a signal ends it; return the exit code. Raises StartError."""
    location, migrated = await _prepared_store(settings, prepare)
    ending = Ending(settings.timeouts.drain_delay)
    async with contextlib.AsyncExitStack() as stack:
        sockets = [listener for shares in listeners.data for listener in shares]
        brief = _brief(settings, count, sockets, stack, migrated=migrated)
        supervisor = Supervisor(count, brief, _shares(listeners))
        stack.push_async_callback(supervisor.stop)
        runner = await serve(_ops(supervisor), listeners.ops, "gateway.ops")
        stack.push_async_callback(runner.cleanup)
        await either(supervisor.start(), ending.asked.wait())
        if listeners.control is not None:
            control = ControlProcess(settings, listeners.control)
            stack.push_async_callback(control.stop)
            await control.start(patient=not migrated)
        await either(supervisor.all_synced(), ending.asked.wait(), within_s=FIRST_SYNC_S)
        on_ready(served_at(settings, listeners, location))
        await ending.asked.wait()
        await either(_drain(supervisor, settings, listeners, ending.delay_s), ending.asked_again.wait())
    return 0


async def _prepared_store(
    settings: Settings, prepare: Callable[[], Awaitable[None]] | None
) -> tuple[str, bool]:
    """Bring the store up to date, once for all workers, and find its pepper; return where it is.

    Where it is out, but a table is kept, the workers are left to see what can be done: False.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            store, _ = await open_the_store(settings, stack)
        except StoreOutError:
            if settings.propagation.kept_table is None:
                raise
            return named_store(settings).location, False
        if prepare is not None:
            await prepare()
        return store.location, True


def _brief(
    settings: Settings,
    count: int,
    sockets: Sequence[socket.socket],
    stack: contextlib.AsyncExitStack,
    *,
    migrated: bool,
) -> Brief:
    """Return what each worker is told."""
    share = math.ceil(settings.limits.connections / count)
    limits = msgspec.structs.replace(settings.limits, connections=share)
    lock = _anonymous_file()
    stack.callback(os.close, lock)
    return Brief(
        settings=msgspec.structs.replace(settings, limits=limits),
        sockets=tuple(listener.fileno() for listener in sockets),
        log_lock=lock,
        pseudonym=new_pseudonym(),
        migrated=migrated,
    )


def _anonymous_file() -> int:
    if sys.platform == "linux":  # where it takes no directory that can be written
        return os.memfd_create("gateway-access-log")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _shares(listeners: Listeners) -> list[range]:
    """Return, for each address, the places of its sockets among all sockets."""
    shares: list[range] = []
    for sockets in listeners.data:
        first = shares[-1].stop if shares else 0
        shares.append(range(first, first + len(sockets)))
    return shares


def _ops(supervisor: Supervisor) -> web.Application:
    """Return the application of the ops listener."""
    standings = Standings(supervisor)
    own, shown = registry_of(), CollectorRegistry(auto_describe=False)
    shown.register(supervisor.totals)
    shown.register(standings)

    async def refresh() -> None:
        supervisor.totals.tell(_SUPERVISOR, families_of(own))
        await standings.refresh()

    return make_ops(shown, Status(started=standings.started, ready=standings.ready), refresh)


async def _drain(supervisor: Supervisor, settings: Settings, listeners: Listeners, delay_s: float) -> None:
    await supervisor.drain(delay_s, listeners.turn_away)
    for shares in listeners.data:
        for listener in shares:
            listener.close()
    await supervisor.finish(settings.timeouts.drain)
