"""Start, serve and stop one gateway."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence

from gateway.app.building import built_server, built_verifier, open_the_log, open_the_store
from gateway.app.control import control_url
from gateway.app.control_process import ControlProcess
from gateway.app.gateway import Gateway
from gateway.app.issuers import follow_issuers
from gateway.app.listening import Listeners, all_bound, bound_address, within_open_files
from gateway.app.loop import run_loop
from gateway.config.control import plaintext_note
from gateway.config.settings import Settings
from gateway.control.http.serving import serve
from gateway.core.model import KeyTable
from gateway.keys.clock import boot_clock
from gateway.keys.feed import Feed
from gateway.observe import Observer
from gateway.store.base import Store

# Collecting rarely is enough where nearly all is freed by its count, and each run walks the live objects.
_GC_THRESHOLDS = (50_000, 50, 100)
_log = logging.getLogger("gateway.app")


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
    if (note := plaintext_note(settings)) is not None:
        _log.warning(note)
    settings, notes = within_open_files(settings)
    tell = on_ready or _tell
    with contextlib.ExitStack() as stack:
        listeners = all_bound(settings, stack)
        return run_loop(_serve(settings, listeners, lambda served: tell([*served, *notes]), prepare))


def _tell(served: Sequence[str]) -> None:
    for line in served:
        sys.stderr.write(f"gateway: {line}\n")
    sys.stderr.flush()


async def _serve(
    settings: Settings,
    listeners: Listeners,
    on_ready: Callable[[Sequence[str]], None],
    prepare: Callable[[], Awaitable[None]] | None,
) -> int:
    async with contextlib.AsyncExitStack() as stack:
        store, digester = await open_the_store(settings, stack)
        table = KeyTable()
        observer = Observer(open_the_log(settings, stack))
        verifier = built_verifier(settings, table)
        stack.callback(verifier.close)
        follow_issuers(settings, verifier, stack)
        feed = Feed(
            store,
            table,
            digester,
            clock=boot_clock,
            policy=settings.key_policy,
            propagated=observer.propagated,
            rekeyed=verifier.rekey,
        )
        stack.push_async_callback(feed.stop)
        server = built_server(settings, table, digester, observer, verifier)
        stack.callback(server.close)
        if prepare is not None:
            await prepare()
        feed.start()
        gateway = Gateway(settings, server, feed, table)
        await server.start(listeners.data)
        runner = await serve(gateway.ops(observer), listeners.ops, "gateway.ops")
        stack.push_async_callback(runner.cleanup)
        if listeners.control is not None:
            control = ControlProcess(settings, listeners.control)
            stack.push_async_callback(control.stop)
            await control.start()
        gateway.started = True
        await gateway.first_sync()
        gc.set_threshold(*_GC_THRESHOLDS)
        on_ready(_served(settings, listeners, store))
        await gateway.serve_until_signal()
    for address in settings.listen:
        if address.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address.path)
    return 0


def _served(settings: Settings, listeners: Listeners, store: Store) -> list[str]:
    """Return where everything is, a line each."""
    lines = [f"listening on {bound_address(listener)}" for listener in listeners.data]
    lines.append(f"metrics and health on {bound_address(listeners.ops)}")
    if listeners.control is not None:
        lines.append(f"control API at {control_url(settings.control, listeners.control)}")
    return [*lines, f"keys in {store.location}"]
