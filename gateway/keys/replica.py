"""What was read of the store, put into the key table in the right order.

A full load is a snapshot that arrives in pieces while changes go on arriving: changes are applied at
once, and what the load brings that is older than they are is passed over. Runs on the event loop
alone. Imports ``core`` and ``store`` only.

Promise: the table is stamped with a read only if everything in it was true when that read began.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable

from gateway.core.model import MILLISECONDS, KeyTable
from gateway.core.policy import KeyPolicy
from gateway.keys.cold_table import Touched
from gateway.keys.kept import KeptTable, Sync, encode_facts
from gateway.keys.restoring import Dated
from gateway.keys.table import Entry, EntryBuilder, TableWriter
from gateway.store.base import KEPT_AFTER_END_MS, Delta, LoadStart, Position, TokenFacts, Unchanged

SLEW = 0.5
"""How much slower than it is time passes here until a store's clock that lies behind has caught up: 5 s,
which a slow read may be wrong by, take 10 s; two hours, by which a clock may have been ahead, take four."""


class Replica:
    """One table's copy of one store.

    Attributes:
        build: makes the entries that are applied here.
        position: how far the changes have been applied; None: the history is not known.
        whole: nothing is missing, and nothing is left of another history.
        loads: the number of the newest full load; its keys and all newer ones are marked with it.
        synced: set once the first full load is whole.
        canary_at: when the newest canary that arrived was written (epoch ms, the store's clock); 0: none.
        table: the copy.
        peppers: those in use by the store at the last full load, oldest first: id and check value.
    """

    def __init__(
        self,
        table: KeyTable,
        policy: KeyPolicy,
        *,
        pepper_ids: Iterable[str] = (),
        propagated: Callable[[float], None],
        rekeyed: Callable[[], None],
    ) -> None:
        self.build = EntryBuilder(pepper_ids)
        self.position: Position | None = None
        self.whole = False
        self.loads = 0
        self.synced = asyncio.Event()
        self.canary_at = 0
        self.table = table
        self.peppers: tuple[tuple[str, bytes], ...] = ()
        self._policy = policy
        self._writer = TableWriter(table, policy)
        self._propagated = propagated
        self._rekeyed = rekeyed
        self._proven = (0.0, 0.0)
        self._offset_guessed = False

    def count_load(self) -> None:
        """Mark what is built from here on with a new load's number; call it while nothing is being read."""
        self.loads += 1
        self.build.load = self.loads

    def begin_load(self, start: LoadStart, started: float) -> None:
        """Take the head of a full load that was read from ``started`` on; what changes follows it."""
        self.whole = False
        # Without its newest row a log cannot be followed: then everything is read, again and again.
        self.position = start.position if start.position.id else None
        self.canary_at = start.canary_at
        self.peppers = start.peppers
        self._proven = (started, start.offset_s)
        self._writer.begin_load(self.loads)
        self._writer.apply_scopes(start.scopes)
        self._writer.apply_users(start.users)
        self._apply_tokens(start.tokens)

    def apply_loaded(self, batch: list[Entry]) -> None:
        """Take keys of the load."""
        self._writer.apply_loaded(batch)

    async def end_load(self) -> None:
        """Drop what the load did not see. The table is whole then, and as young as the last read is."""
        await self._writer.sweep_unseen(self.loads)
        self.whole = True
        self._stamp()

    def restore(self, kept: KeptTable, dated: Dated) -> None:
        """Fill the table, which nobody was served from yet, with what was kept of it."""
        table, sync = self.table, kept.facts.sync
        self._writer.restore(kept)
        self.position, self.canary_at, self.whole = sync.position, sync.canary_at, True
        self.peppers = tuple(kept.facts.peppers)
        table.synced_at, table.store_offset_s, table.outage = dated.synced_at, dated.offset_s, True
        self._offset_guessed = dated.guessed
        self._rekeyed()
        self._first()

    def sync(self, boot: str | None) -> Sync | None:
        """Return what dates the table, on the boot clock that ``boot`` names; None while nothing does."""
        position, synced_at = self.position, self.table.synced_at
        if position is None or synced_at is None or not self.whole:
            return None
        offset_s = self.table.store_offset_s
        return Sync(position.number, position.id, synced_at, offset_s, boot, self.canary_at)

    def facts(self, sync: Sync) -> bytes:
        """Return the last frame of a file that holds the table as it is now."""
        return encode_facts(self.table, sync, self.peppers, enabled=self._policy.api_keys_enabled)

    def note(self, touched: Touched | None) -> None:
        """Have ``touched`` tell where changes are made from here on, but for those of a full load."""
        self._writer.note(touched)

    def lose(self) -> None:
        """Take note that the history is another: nothing follows it, and everything has to be loaded."""
        self.position, self.whole = None, False

    def miss(self) -> None:
        """Take note that a read has failed: what is in the table goes on by its age."""
        self.table.outage = True

    def apply(self, outcome: Unchanged | Delta[Entry], started: float, now: float) -> bool:
        """Apply what a read found that began at ``started``; tell whether more waits."""
        if isinstance(outcome, Delta):
            self._apply_delta(outcome, now)
            if outcome.more:
                return True
        self._proven = (started, outcome.offset_s)
        if self.whole:
            self._stamp()
        return False

    def _apply_delta(self, delta: Delta[Entry], now: float) -> None:
        if delta.scopes is not None:
            self._writer.apply_scopes(delta.scopes)
        if delta.users is not None:
            self._writer.apply_users(delta.users)
        if delta.tokens is not None:
            self._apply_tokens(delta.tokens)
        self._writer.apply_keys(delta.keys)
        now_ms = (now + delta.offset_s) * MILLISECONDS
        for at in delta.committed_at:
            self._propagated(max(0.0, now_ms - at) / MILLISECONDS)
        if delta.canary_at is not None:
            self.canary_at = delta.canary_at
        self.position = delta.position

    def _apply_tokens(self, tokens: TokenFacts) -> None:
        self._writer.apply_tokens(tokens)
        if tokens.signing_keys is not None:
            self._rekeyed()

    def _stamp(self) -> None:
        """Date the table by the last read that found nothing more to apply."""
        table, (started, offset_s) = self.table, self._proven
        before = table.synced_at
        if before is not None and not self._offset_guessed:
            # A clock that is set back must not bring an expired key to life again: ours only goes slower.
            offset_s = max(offset_s, table.store_offset_s - SLEW * (started - before))
        table.store_offset_s = offset_s
        table.synced_at = started
        table.outage = False
        self._offset_guessed = False
        if before is None:
            self._first()

    def _first(self) -> None:
        # What was loaded lives long: out of the collector's sight.
        gc.collect()
        gc.freeze()
        self.synced.set()

    async def sweep_ended(self, now: float) -> None:
        """Forget what has ended so long ago that nobody asks for it any more."""
        now_ms = int((now + self.table.store_offset_s) * MILLISECONDS)
        self._writer.drop_ended_tokens(now_ms)
        await self._writer.sweep_ended(now_ms - KEPT_AFTER_END_MS)
