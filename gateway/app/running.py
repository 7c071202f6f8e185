"""Start, serve and stop one gateway."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence

from gateway.app.alone import serve_alone
from gateway.app.cores import worker_count
from gateway.app.listening import all_bound, within_open_files
from gateway.app.loop import run_loop
from gateway.app.workers.serving import serve_with_workers
from gateway.config.control import plaintext_note
from gateway.config.settings import Settings

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
    for note in (plaintext_note(settings), _grace_note(settings)):
        if note is not None:
            _log.warning(note)
    workers = worker_count(settings.workers)
    settings, notes = within_open_files(settings, workers)
    tell = on_ready or _tell
    with contextlib.ExitStack() as stack:
        listeners = all_bound(settings, workers, stack)

        def on_serving(served: Sequence[str]) -> None:
            tell([*served, *notes])

        if workers == 1:
            return run_loop(serve_alone(settings, listeners, on_serving, prepare))
        return run_loop(serve_with_workers(settings, workers, listeners, on_serving, prepare))


def _grace_note(settings: Settings) -> str | None:
    """Return what must be said loudly at start where an outage may be outlived."""
    grace_s = settings.propagation.outage_grace_s
    if not grace_s:
        return None
    return (
        f"while its store is out, this gateway serves known keys for {grace_s:g} s longer than"
        " propagation.bound, though they may have been revoked (propagation.outage_grace)"
    )


def _tell(served: Sequence[str]) -> None:
    for line in served:
        sys.stderr.write(f"gateway: {line}\n")
    sys.stderr.flush()
