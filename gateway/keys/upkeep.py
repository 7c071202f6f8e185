"""Have the fleet's canary written, and the change log trimmed with it, by whichever gateway comes first.

Each gateway sees in its feed when the last one was written, and tries when it is time for the next;
the store lets one of them. Imports ``store`` and its own plane.

Promise: whatever fails here fails nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from gateway.core.model import MILLISECONDS
from gateway.keys.feed import Feed
from gateway.keys.watch import Watch
from gateway.store.base import Store, StoreError
from gateway.store.upkeep import CANARY_EVERY_MS, keep_up

_log = logging.getLogger("gateway.keys")


class Upkeep:
    """One gateway's part in keeping the store's change log alive and small."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        watch: Watch,
        *,
        may: Callable[[], bool] = lambda: True,
        every_s: float = CANARY_EVERY_MS / MILLISECONDS,
    ) -> None:
        """Take what is kept up.

        ``may`` tells whether this gateway still takes part (one that drains does not), ``every_s`` how
        often the fleet writes a canary.
        """
        self._store = store
        self._feed = feed
        self._watch = watch
        self._may = may
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    @property
    def canary_age_s(self) -> float | None:
        """Return the seconds since the newest canary that arrived here was written; None before any."""
        now_s, at = self._watch.store_now_s, self._feed.canary_at
        return None if now_s is None or not at else max(0.0, now_s - at / MILLISECONDS)

    def start(self) -> None:
        """Begin to take part, once the keys are loaded."""
        self._task = asyncio.create_task(self._run(), name="upkeep")

    async def stop(self) -> None:
        """Take part no more; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        await self._feed.synced.wait()
        while True:
            age_s = self.canary_age_s
            due_s = 0.0 if age_s is None else max(0.0, self._every_s - age_s)
            # Not all at once: the first one writes it, and the others see it in time.
            spread_s = random.uniform(0.0, self._every_s / 10)  # noqa: S311  no secret
            await asyncio.sleep(min(due_s, self._every_s) + spread_s)
            age_s = self.canary_age_s
            if age_s is None or age_s >= self._every_s:
                await self._try()
                # Its arrival is due well before; where it does not come, trying is cheap, but not free.
                await asyncio.sleep(self._every_s / 2)

    async def _try(self) -> None:
        if not (self._feed.store_up and self._may()):
            return
        try:
            await self._store.write(keep_up(int(self._every_s * MILLISECONDS)))
        except StoreError:
            pass  # the feed tells of outages, and the canary's age of what keeps the store from being written
        except Exception:
            _log.exception("the upkeep of the change log failed and goes on")
