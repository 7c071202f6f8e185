"""The store's clock, for who judges and makes keys here without a key table.

Keys expire on that clock (design: propagation), wherever they are shown: what this machine's is set to
changes nothing. An embedded store alone has no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from gateway.core.model import MILLISECONDS
from gateway.keys.clock import boot_clock
from gateway.store import operations as ops
from gateway.store.base import Store, StoreError

READ_EVERY_S = 10.0
LONGEST_READ_S = 1.0
"""By as much may a reading be wrong: one that took longer (the machine was busy, or slept) is passed over."""
_log = logging.getLogger("gateway.app")


async def clock_of(store: Store, stack: contextlib.AsyncExitStack) -> Callable[[], float]:
    """Return what tells epoch seconds as ``store`` does, until ``stack`` ends. Raises StoreError."""
    if not store.has_clock:
        return time.time
    clock = StoreClock(store)
    await clock.read()
    clock.start(stack)
    return clock


class StoreClock:
    """Tells epoch seconds as the store does, carried on by the boot clock while that is out."""

    def __init__(self, store: Store, clock: Callable[[], float] = boot_clock) -> None:
        """Take a store, and what counts seconds; until the store is read this machine's clock holds."""
        self._store = store
        self._clock = clock
        self._offset_s = time.time() - clock()

    def __call__(self) -> float:
        """Return epoch seconds."""
        return self._offset_s + self._clock()

    async def read(self) -> None:
        """Read the store's clock. Raises StoreError."""
        before = self._clock()
        ((now_ms,),) = await self._store.read(ops.read("store_now"))
        if self._clock() - before <= LONGEST_READ_S:
            # It was true later than that, if anything: a key may end that little early, but never late.
            self._offset_s = now_ms / MILLISECONDS - before

    def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Read it again and again until ``stack`` ends."""
        task = asyncio.create_task(self._run(), name="store clock")

        async def stop() -> None:
            task.cancel()
            await asyncio.wait([task])

        stack.push_async_callback(stop)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            try:
                await self.read()
            except StoreError:
                pass  # whoever is asked for something tells
            except Exception:
                _log.exception("reading the store's clock failed and goes on")
