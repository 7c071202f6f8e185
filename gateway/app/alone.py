"""Serve with one worker: the data path and the ops listener in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from gateway.app.building import built_gateway
from gateway.app.control_process import ControlProcess
from gateway.app.ending import Ending
from gateway.app.gateway import Gateway
from gateway.app.listening import Listeners, served_at
from gateway.app.loop import collect_rarely
from gateway.app.waiting import FIRST_SYNC_S, either
from gateway.config.settings import Settings
from gateway.control.http.serving import serve
from gateway.control.ops import Status, make_ops


async def serve_alone(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[Sequence[str]], None],
    prepare: Callable[[], Awaitable[None]] | None,
) -> int:
    """Serve until a signal ends it; return the exit code. Raises StartError."""
    async with contextlib.AsyncExitStack() as stack:
        gateway = await built_gateway(settings, stack)
        if prepare is not None:
            await prepare()
        gateway.feed.start()
        ending = Ending(settings.timeouts.drain_delay)
        await gateway.server.start([listener for shares in listeners.data for listener in shares])
        started = False
        status = Status(
            started=lambda: (started, "Started." if started else "The listeners are not bound yet."),
            ready=gateway.ready,
        )
        runner = await serve(make_ops(gateway.registry(), status), listeners.ops, "gateway.ops")
        stack.push_async_callback(runner.cleanup)
        if listeners.control is not None:
            control = ControlProcess(settings, listeners.control)
            stack.push_async_callback(control.stop)
            await control.start(patient=gateway.feed.from_kept)
        started = True
        await either(gateway.feed.synced.wait(), ending.asked.wait(), within_s=FIRST_SYNC_S)
        collect_rarely()
        on_ready(served_at(settings, listeners, gateway.store.location))
        await ending.asked.wait()
        await either(_drain(gateway, listeners, ending.delay_s), ending.asked_again.wait())
    return 0


async def _drain(gateway: Gateway, listeners: Listeners, delay_s: float) -> None:
    """Accept connections for ``delay_s`` seconds more, then finish what runs."""
    # SIGTERM comes before traffic stops: Kubernetes takes seconds to take an endpoint out.
    gateway.server.draining = True
    await asyncio.sleep(delay_s)
    listeners.remove_paths()
    await gateway.server.stop_accepting()
    await gateway.finish()
