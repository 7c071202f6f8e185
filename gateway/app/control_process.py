"""The control listener's process: started, watched, started again, ended.

Whoever logs in or makes keys costs CPU time and memory in a process of its own, so that callers do
not wait behind it on one event loop, and no fault there touches the data path. The listening socket
stays open here: while the process is started anew, connections wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import socket
from asyncio.subprocess import PIPE, Process

from gateway.app.children import program
from gateway.app.errors import StartError
from gateway.config.settings import Settings

READY = b"ready"
START_S = 30.0
"""A process that has said nothing for so long will not."""
END_S = 10.0
"""More than the process takes to answer what it has begun."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
_log = logging.getLogger("gateway.app")


class ControlProcess:
    """Keeps one control process running on a listening socket."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, *, patient: bool = False) -> None:
        """Start it and wait until it serves. Raises StartError with the reason that it gives.

        One that ends without a reason is started again, as at any later time; with one too, if ``patient``.
        """
        process, refusal = await self._started()
        if refusal and not patient:
            raise StartError(refusal)
        if refusal:
            _log.warning("the control API cannot be served: %s", refusal)
        self._watch = asyncio.create_task(self._keep_running(process), name="control process")

    async def stop(self) -> None:
        """Let it finish what it does, for some seconds; safe to call twice."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
        process, self._process = self._process, None
        if process is not None:
            await _ended(process)

    async def _keep_running(self, process: Process) -> None:
        pause = FIRST_PAUSE_S
        while True:
            code = await process.wait()
            _log.warning("the control API ended with code %d and is started again", code)
            await asyncio.sleep(pause)
            process, refusal = await self._started()
            if refusal:
                _log.warning("the control API cannot be served: %s", refusal)
            pause = FIRST_PAUSE_S if refusal is None else min(2 * pause, LONGEST_PAUSE_S)

    async def _started(self) -> tuple[Process, str | None]:
        """Start a process; return it, and why it does not serve ("": it did not say), None if it does."""
        descriptor = self._listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *program("gateway.app.control_main", str(descriptor)),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(descriptor,),
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        # By a pipe: they hold the pepper. It stays open, and its end tells the process that we are gone.
        settings = pickle.dumps(self._settings)
        try:
            process.stdin.write(len(settings).to_bytes(8, "big") + settings)
            await process.stdin.drain()
            line = (await asyncio.wait_for(process.stdout.readline(), START_S)).strip()
        except (TimeoutError, ConnectionError):
            line = b""
        if line == READY:
            return process, None
        await _ended(process)
        return process, line.decode()


async def _ended(process: Process) -> None:
    """End a process: gently, then not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), END_S)
    except TimeoutError:
        process.kill()
        await process.wait()
