"""A thread with an event loop of its own, for work that would hold up the caller's.

Imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class ThreadEndedError(Exception):
    """The thread has been closed, and takes no more work."""


class LoopThread:
    """Runs coroutines of other loops on its own; the thread begins with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._closed = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` returns; it is cancelled with its caller.

        Raises ThreadEndedError, and OSError where there are no descriptors left to begin with.
        """
        if self._closed:
            work.close()
            raise ThreadEndedError
        try:
            loop = self._started()
        except BaseException:
            work.close()
            raise
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    async def close(self) -> None:
        """Cancel what runs and end the thread; safe to call twice."""
        self._closed = True
        if self._loop is None or self._stop is None or self._thread is None:
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            ready: Future[asyncio.AbstractEventLoop] = Future()
            # A daemon: whoever forgets to close it can still end.
            self._thread = threading.Thread(target=self._run, args=(ready,), name=self._name, daemon=True)
            self._thread.start()
            self._loop = ready.result()
        return self._loop

    def _run(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._main(ready))
        except BaseException as error:
            if ready.done():
                raise
            # Whoever started the thread waits for this, and nothing else goes on meanwhile.
            ready.set_exception(error)

    async def _main(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        self._stop = asyncio.Event()
        ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
