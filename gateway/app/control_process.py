"""The control listener's process: started, watched, started again, ended.

Whoever logs in or makes keys costs CPU time and memory in a process of its own, so that callers do
not wait behind it on one event loop, and no fault there touches the data path. The listening socket
stays open here: while the process is started anew, connections wait for it. One that is stuck is
ended, and started anew too: it is asked to answer now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import socket
from asyncio.subprocess import PIPE, Process
from typing import Any

from gateway.app.children import end_stuck, program, start
from gateway.app.errors import StartError
from gateway.config.settings import Settings

READY = b"ready"
HERE = b"here"
STORE_OUT_CODE = 75
"""What it ends with when it cannot have the store (EX_TEMPFAIL of sysexits(3))."""
START_S = 30.0
"""A process that has said nothing for so long will not."""
END_S = 10.0
"""More than the process takes to answer what it has begun."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
ASK_S = 5.0
"""How often a process that serves is asked whether it answers."""
ASKED_MAX = 6
"""So many times that long it may take: it goes behind whoever calls backends, on a core that they fill."""
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

        One that ends without a reason is started again, as at any later time; with one too, if ``patient``
        or when the store is out: the gateway had it a moment ago, and may serve callers by now.
        """
        refusal = await self._started()
        store_is_out = self._process is not None and self._process.returncode == STORE_OUT_CODE
        if refusal and not (patient or store_is_out):
            raise StartError(refusal)
        _warn(refusal)
        self._watch = asyncio.create_task(self._keep_running(), name="control process")

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

    async def _keep_running(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            if self._process is not None:
                code = await _watched(self._process)
                _log.warning("the control API ended with code %d and is started again", code)
            await asyncio.sleep(pause)
            refusal = await self._started()
            _warn(refusal)
            pause = FIRST_PAUSE_S if refusal is None else min(2 * pause, LONGEST_PAUSE_S)

    async def _started(self) -> str | None:
        """Start a process; return why it does not serve ("": it did not say), None if it does."""
        self._process = None
        try:
            process = self._process = await self._begun()
            return await self._first_word(process)
        except OSError as error:  # no process can be made now
            return f"its process cannot be started: {error.strerror or error}"

    async def _begun(self) -> Process:
        descriptor = self._listener.fileno()
        return await start(
            program("gateway.app.control_main", str(descriptor)),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(descriptor,),
        )

    async def _first_word(self, process: Process) -> str | None:
        """Tell a process what it needs to know; return why it ended instead of serving, as `_started`."""
        assert process.stdin is not None
        assert process.stdout is not None
        # By a pipe: they hold the pepper. It stays open, and its end tells the process that we are gone.
        settings = pickle.dumps(self._settings)
        try:
            process.stdin.write(len(settings).to_bytes(8, "big") + settings)
            await process.stdin.drain()
            async with asyncio.timeout(START_S):
                line = (await process.stdout.readline()).strip()
        except (TimeoutError, ConnectionError):
            line = b""
        if line == READY:
            return None
        await _ended(process)
        return line.decode()


def _warn(refusal: str | None) -> None:
    if refusal:
        _log.warning("the control API cannot be served: %s", refusal)


async def _watched(process: Process) -> int:
    """Wait until a process has ended, and end it if it does not answer; return its exit code."""
    ended = asyncio.ensure_future(process.wait())
    try:
        while not await _happens(ended):
            if not await _answers(process, ended):
                _log.warning("the control API has not answered for %g s", ASKED_MAX * ASK_S)
                await end_stuck(process)
                break
        return await ended
    finally:
        ended.cancel()


async def _answers(process: Process, ended: asyncio.Future[int]) -> bool:
    """Ask a process whether it is there; True also where it ends meanwhile."""
    assert process.stdin is not None
    assert process.stdout is not None
    if process.stdin.is_closing():
        return await _happens(ended)
    process.stdin.write(b"\n")
    heard = asyncio.ensure_future(process.stdout.readline())
    try:
        # Not one long wait: where everything was stopped and goes on, one of these is over at once.
        for _ in range(ASKED_MAX):
            if await _happens(heard, ended):
                return True
        return False
    finally:
        heard.cancel()


async def _happens(*awaited: asyncio.Future[Any]) -> bool:
    done, _ = await asyncio.wait(awaited, timeout=ASK_S, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def _ended(process: Process) -> None:
    """End a process: gently, then not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
