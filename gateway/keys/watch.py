"""Watch how the key table stands, and tell people of each change.

A decision computes the table's age by itself; what is told here decides nothing, so it may be told
half a second late. Imports ``core`` only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.core.model import Freshness, KeyTable, TableState
from gateway.keys.clock import boot_clock

LOOK_EVERY_S = 0.5

_log = logging.getLogger("gateway.keys")
_TOLD = {
    TableState.FRESH: "the key table is up to date again",
    TableState.AGING: "the key table is {age:.1f} s old: keys that it does not know get 503 instead of 401",
    TableState.GRACE: "the key table is {age:.1f} s old, more than its bound of {bound:g} s: known keys go on"
    " by propagation.outage_grace, and so may those that were revoked meanwhile",
    TableState.STALE: "the key table is {age:.1f} s old: every key is refused until it can be read",
}


class Watch:
    """How one key table stands."""

    def __init__(
        self, table: KeyTable, freshness: Freshness, *, clock: Callable[[], float] = boot_clock
    ) -> None:
        """Take the age rule; ``clock`` is the one that the table is stamped by."""
        self._table = table
        self._freshness = freshness
        self._clock = clock
        self._told = TableState.LOADING
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> TableState:
        """Return what the table is now."""
        return self._freshness.state(self._table, self._clock())

    @property
    def age_s(self) -> float | None:
        """Return the seconds since the read that the table is dated by began; None before any."""
        synced_at = self._table.synced_at
        return None if synced_at is None else self._clock() - synced_at

    @property
    def store_now_s(self) -> float | None:
        """Return the store's clock as decisions read it (epoch seconds); None before any read."""
        return None if self._table.synced_at is None else self._table.store_offset_s + self._clock()

    @property
    def skew_s(self) -> float | None:
        """Return the store's clock less this machine's, in seconds; None before any read."""
        now_s = self.store_now_s
        return None if now_s is None else now_s - time.time()

    def start(self) -> None:
        """Log each change from here on, one line each."""
        self._task = asyncio.create_task(self._run(), name="key watch")

    async def stop(self) -> None:
        """Log no more; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def look(self) -> None:
        """Tell how the table stands, if it stands otherwise than was last told."""
        state, before = self.state, self._told
        if state is before:
            return
        self._told = state
        if before is not TableState.LOADING or state is not TableState.FRESH:
            _log.warning(_TOLD[state].format(age=self.age_s, bound=self._freshness.bound_s))

    async def _run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)
