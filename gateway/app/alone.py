"""Serve with one worker: the data path and the ops listener in this process."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Awaitable, Callable, Sequence

from gateway.app.building import built_gateway
from gateway.app.control_process import ControlProcess
from gateway.app.ending import Ending
from gateway.app.listening import Listeners, served_at
from gateway.app.waiting import either
from gateway.config.settings import Settings
from gateway.control.http.serving import serve
from gateway.control.ops import Status, make_ops

FIRST_SYNC_S = 10.0
"""How long the start waits for the first load before it says that it serves."""
# Collecting rarely is enough where nearly all is freed by its count, and each run walks the live objects.
GC_THRESHOLDS = (50_000, 50, 100)


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
        await gateway.server.start(listeners.data)
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
            await control.start()
        started = True
        await either(gateway.feed.synced.wait(), ending.asked.wait(), within_s=FIRST_SYNC_S)
        gc.set_threshold(*GC_THRESHOLDS)
        on_ready(served_at(settings, listeners, gateway.store))
        await ending.asked.wait()
        await either(gateway.drain(ending.delay_s), ending.asked_again.wait())
    return 0
