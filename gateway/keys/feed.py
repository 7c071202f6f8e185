"""Keep the key table in step with the store: the table's single writer.

One task reads what changed, applies it on the event loop in slices, and stamps the table with the
time at which the read *began*. When reading fails the table keeps what it has and ages; a decision
computes that age itself. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable

from gateway.core.model import KeyTable
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.keys.table import Entry, EntryBuilder, TableWriter
from gateway.store.base import (
    KEPT_AFTER_END_MS,
    Delta,
    Follower,
    Position,
    Reload,
    Store,
    StoreError,
    TokenFacts,
    Unchanged,
)

POLL_INTERVAL_S = 0.2
SWEEP_INTERVAL_S = 3600.0

_log = logging.getLogger("gateway.keys")


class Feed:
    """Follows one store for one table.

    Attributes:
        synced: set once the first full load is whole.
        store_up: whether the last read succeeded; False before any.
        last_error: why it did not, one sentence; None while the store is up.
        failed_reads: how many reads failed so far.
        loads: how many full loads were begun.
    """

    def __init__(
        self,
        store: Store,
        table: KeyTable,
        digester: Digester,
        *,
        clock: Callable[[], float] = boot_clock,
        interval_s: float = POLL_INTERVAL_S,
        policy: KeyPolicy = DEFAULT_POLICY,
        propagated: Callable[[float], None] = lambda _: None,
        rekeyed: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a migrated store; ``clock`` is the boot clock that ages are measured on.

        ``policy`` holds for tenants that set nothing of their own. ``propagated`` is told the seconds
        from the newest applied change's commit to its visibility here; ``rekeyed`` that the table's
        signing keys have been replaced, before anybody else runs.
        """
        self.synced = asyncio.Event()
        self.store_up = False
        self.last_error: str | None = None
        self.failed_reads = 0
        self.loads = 0
        self._propagated = propagated
        self._rekeyed = rekeyed
        self._store = store
        self._table = table
        self._writer = TableWriter(table, policy)
        self._pepper_check = digester.check_value()
        self._clock = clock
        self._interval_s = interval_s
        self._build = EntryBuilder()
        self._follower: Follower = store.follow(clock)
        self._position: Position | None = None
        self._swept_at = clock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow; ``synced`` tells when the table is whole."""
        self._task = asyncio.create_task(self._run(), name="key feed")

    async def stop(self) -> None:
        """Stop following and close the connection; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(StoreError):
            await self._follower.close()

    async def sync(self) -> None:
        """Read once and apply everything that was committed before. Raises StoreError."""
        try:
            await self._sync()
        except StoreError as error:
            self._went_down(str(error))
            raise
        self._came_up()

    async def _run(self) -> None:
        while True:
            try:
                await self.sync()
                await self._sweep_sometimes()
            except StoreError:
                pass  # told by ``sync``; the table ages meanwhile
            except Exception as error:
                # A fault of ours must not end the feed: that would close the gateway for good.
                _log.exception("the key feed failed and goes on")
                self._went_down(f"internal error: {type(error).__name__}")
            await asyncio.sleep(self._interval_s)

    async def _sync(self) -> None:
        while True:
            started = self._clock()
            if self._position is None:
                offset_s = await self._load()
            else:
                outcome = await self._follower.poll(self._position, self._build)
                if isinstance(outcome, Reload):
                    _log.warning("reading all keys again: %s", outcome.why)
                    self._position = None
                    continue
                offset_s = outcome.offset_s
                if self._apply(outcome):
                    continue
            self._stamp(started, offset_s)
            return

    async def _load(self) -> float:
        """Read everything: upsert in place, marked with the load's number, then drop what it lacked."""
        self.loads += 1
        self._build.load = self.loads
        start = await self._follower.begin_load()
        if start.pepper_check is not None and start.pepper_check != self._pepper_check:
            raise StoreError(f"the store {self._store.location} was made with another pepper")
        async with contextlib.aclosing(self._follower.batches(self._build)) as batches:
            self._writer.apply_scopes(start.scopes)
            self._writer.apply_users(start.users)
            self._apply_tokens(start.tokens)
            async for batch in batches:
                self._writer.apply_keys(batch)
        await self._writer.sweep_unseen(self.loads)
        self._position = start.position
        return start.offset_s

    def _apply(self, outcome: Unchanged | Delta[Entry]) -> bool:
        """Apply what was read; tell whether more waits."""
        if isinstance(outcome, Unchanged):
            return False
        if outcome.scopes is not None:
            self._writer.apply_scopes(outcome.scopes)
        if outcome.users is not None:
            self._writer.apply_users(outcome.users)
        if outcome.tokens is not None:
            self._apply_tokens(outcome.tokens)
        self._writer.apply_keys(outcome.keys)
        if outcome.position != self._position:
            now_s = self._clock() + outcome.offset_s
            self._propagated(max(0.0, now_s - outcome.latest_at / 1000))
            self._position = outcome.position
        return outcome.more

    def _apply_tokens(self, tokens: TokenFacts) -> None:
        self._writer.apply_tokens(tokens)
        if tokens.signing_keys is not None:
            self._rekeyed()

    def _stamp(self, started: float, offset_s: float) -> None:
        first = self._table.synced_at is None
        # Never back: a clock that is set back must not bring an expired key to life again.
        self._table.store_offset_s = offset_s if first else max(offset_s, self._table.store_offset_s)
        self._table.synced_at = started
        if first:
            # What was loaded lives long: out of the collector's sight.
            gc.collect()
            gc.freeze()
            self.synced.set()

    async def _sweep_sometimes(self) -> None:
        now = self._clock()
        if now - self._swept_at >= SWEEP_INTERVAL_S:
            self._swept_at = now
            now_ms = int((now + self._table.store_offset_s) * 1000)
            self._writer.drop_ended_tokens(now_ms)
            await self._writer.sweep_ended(now_ms - KEPT_AFTER_END_MS)

    def _went_down(self, sentence: str) -> None:
        self.failed_reads += 1
        if self.store_up or self.last_error is None:
            _log.warning("the keys cannot be read, known ones are served meanwhile: %s", sentence)
        self.store_up = False
        self.last_error = sentence

    def _came_up(self) -> None:
        if self.last_error is not None:
            _log.warning("the keys can be read again")
        self.store_up = True
        self.last_error = None
