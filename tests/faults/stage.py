"""An event loop in a thread of its own, on which everything that runs beside a test runs.

A test of a fault stops databases and freezes processes, and waits for that; proxies, callers and
writers go on meanwhile.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stage:
    """One running event loop; ``close`` ends whatever still runs on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="stage", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], within: float = 60.0) -> T:
        """Run a coroutine there and return what it returns."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(within)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a plain function there and return what it returns."""

        async def called() -> T:
            return function(*arguments)

        return self.run(called())

    def close(self) -> None:
        """End what runs, and the loop."""
        self.run(_end_the_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _end_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    for task in others:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
    await asyncio.get_running_loop().shutdown_default_executor()
    for _ in range(3):
        await asyncio.sleep(0)  # what was closed is gone a turn or two later
