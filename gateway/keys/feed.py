"""Keep the key table in step with the store: the table's single writer.

One task reads what changed and applies it on the event loop. Where the history is not known (at the
start, or after a restored backup) everything is read again by a second task, beside the changes.
When reading fails the table keeps what it has and ages; a decision computes that age itself. Imports
``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from gateway.core.model import KeyTable
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.keys.replica import Replica
from gateway.keys.restoring import Kept
from gateway.store.base import ANSWER_S, Follower, Reload, Store, StoreError

POLL_S = 2.0
GATHER_S = 0.02
"""How long changes may gather behind others: a thousand a second cost fifty reads, not a thousand."""
RETRY_S = 0.2
"""How long a failed read is not tried again, whatever is heard: cutting its connection is heard too, and a
server that refuses would be connected to a hundred times a second."""
SWEEP_INTERVAL_S = 3600.0
_LOADS_A_SYNC = 3

_log = logging.getLogger("gateway.keys")


class Feed:
    """Follows one store for one table.

    Attributes:
        synced: set once the first full load is whole.
        store_up: whether the last read succeeded; False before any.
        last_error: why it did not, one sentence; None while the store is up.
        from_kept: the table is one that was kept on disk, and nothing has been read since.
        failed_reads: how many reads failed so far.
    """

    def __init__(
        self,
        store: Store,
        table: KeyTable,
        digester: Digester,
        *,
        clock: Callable[[], float] = boot_clock,
        poll_s: float = POLL_S,
        answer_s: float = ANSWER_S,
        policy: KeyPolicy = DEFAULT_POLICY,
        propagated: Callable[[float], None] = lambda _: None,
        rekeyed: Callable[[], None] = lambda: None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        kept: Callable[[], Awaitable[Kept | None]] | None = None,
    ) -> None:
        """Take a migrated store; ``clock`` is the boot clock that ages are measured on.

        ``poll_s``: a silent store is asked after so many seconds; ``answer_s``: so long an answer may
        take. ``policy`` holds for tenants that set nothing of their own. ``prepare`` makes up for what
        could not be done to the store yet, and comes before any read; it raises StoreError. ``kept``
        returns a table that was kept on disk, if there is one to serve from while none has been read.
        ``propagated`` is told the seconds from each applied change's being written to its visibility
        here; ``rekeyed`` that the table's signing keys have been replaced, before anybody else runs.
        """
        self.store_up = False
        self.last_error: str | None = None
        self.from_kept = False
        self.failed_reads = 0
        self._prepare = prepare
        self._kept = kept
        self._store = store
        self._checks = digester.check_values()
        self._clock = clock
        self._poll_s = poll_s
        self.replica = self._replica = Replica(
            table, policy, pepper_ids=digester.pepper_ids, propagated=propagated, rekeyed=rekeyed
        )
        self.synced = self._replica.synced
        self._follower: Follower = store.follow(clock, answer_s)
        self._swept_at = clock()
        self._moved = False
        self._load: asyncio.Task[None] | None = None
        self._load_error: str | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def loads(self) -> int:
        """Return how many full loads were begun."""
        return self._replica.loads

    @property
    def loading(self) -> bool:
        """Tell whether everything is being read (again)."""
        return self._load is not None

    @property
    def canary_at(self) -> int:
        """Return when the newest canary that arrived was written (epoch ms, the store's clock); 0: none."""
        return self._replica.canary_at

    def start(self) -> None:
        """Begin to follow; ``synced`` tells when the table is whole."""
        self._task = asyncio.create_task(self._run(), name="key feed")

    def restore(self, kept: Kept) -> None:
        """Serve from a table that was kept on disk, until the store can be read; nothing was read yet."""
        self._replica.restore(kept.table, kept.dated)
        self.from_kept = True
        self._load_error = None  # from here on there is nothing to load
        age_s = self._clock() - kept.dated.synced_at
        _log.warning("serving from the kept table, %.0f s old, with %d keys", age_s, len(kept.table.keys))

    async def stop(self) -> None:
        """Stop following and close the connections; safe to call twice."""
        task, self._task = self._task, None
        await _ended(task)
        await self._end_load()
        with contextlib.suppress(StoreError):
            await self._follower.close()

    async def sync(self) -> None:
        """Read until everything that was committed before is in the table. Raises StoreError."""
        for _ in range(_LOADS_A_SYNC):
            await self._turn()
            if self._load is not None:
                await self._load
                if self._load_error is not None:
                    raise StoreError(self._load_error)
                if self._replica.position is not None:
                    continue  # what changed meanwhile may not have been read
            if self._replica.whole:
                return
        raise StoreError(f"the change log of the store {self._store.location} cannot be followed")

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
                await self._sweep_sometimes()
            except StoreError:
                pass  # told by the turn; the table ages meanwhile
            except Exception as error:
                self._failed(error)
            await self._wait()

    async def _wait(self) -> None:
        """Wait until there may be something to read."""
        try:
            if self._moved:
                await asyncio.sleep(GATHER_S)
            elif not self.store_up:
                await asyncio.sleep(RETRY_S)
            await self._follower.changed(self._poll_s)
        except Exception as error:
            self._failed(error)
            await asyncio.sleep(self._poll_s)

    async def _turn(self) -> None:
        """Apply what changed, and begin to read everything where that is due. Raises StoreError."""
        self._moved = False
        replica = self._replica
        if self._load_error is not None:
            await self._fall_back()
        try:
            await self._prepared()
            await self._catch_up()
            if self._load is None and not (replica.whole and replica.position is not None):
                await self._begin_load()
                await self._catch_up()
        except StoreError as error:
            self._went_down(str(error))
            await self._fall_back()
            raise
        if self._load_error is None:
            self._came_up()

    async def _prepared(self) -> None:
        if self._prepare is not None:
            await self._prepare()
            self._prepare = None

    async def _fall_back(self) -> None:
        """Take the table that was kept where none was ever read; that is tried once."""
        if self._load is not None:
            return  # it would mix with what is being read
        read, self._kept = self._kept, None
        if read is not None and not self.synced.is_set() and (kept := await read()) is not None:
            self.restore(kept)

    async def _catch_up(self) -> None:
        """Apply everything that follows the position that is known; with another history there is none."""
        replica, more = self._replica, True
        while more and (position := replica.position) is not None:
            started = self._clock()
            outcome = await self._follower.poll(position, replica.build)
            if isinstance(outcome, Reload):
                _log.warning("reading all keys again: %s", outcome.why)
                replica.lose()
                await self._end_load()
                return
            more = replica.apply(outcome, started, self._clock())
            self._moved = self._moved or replica.position != position

    async def _begin_load(self) -> None:
        """Open a snapshot of everything and take its head; a task of its own goes on with the keys.

        Nothing else is read meanwhile: changes that were read before are in the snapshot, and those
        that are read later are newer than all of it.
        """
        self._replica.count_load()
        started = self._clock()
        start = await self._follower.begin_load()
        # By the oldest in use every key is known that has a digest at all.
        if start.peppers and self._checks.get(start.peppers[0][0]) != start.peppers[0][1]:
            raise StoreError(f"the store {self._store.location} was made with another pepper")
        self._replica.begin_load(start, started)
        self._load = asyncio.create_task(self._read_keys(), name="key load")

    async def _read_keys(self) -> None:
        """Stream the snapshot's keys into the table."""
        try:
            async with contextlib.aclosing(self._follower.batches(self._replica.build)) as batches:
                async for batch in batches:
                    self._replica.apply_loaded(batch)
            await self._replica.end_load()
            self._load_error = None
            self._came_up()
        except StoreError as error:
            self._load_error = str(error)
            self._went_down(self._load_error)
        except Exception as error:
            self._failed(error)
            self._load_error = self.last_error
        finally:
            self._load = None

    async def _end_load(self) -> None:
        await _ended(self._load)
        self._load = None

    async def _sweep_sometimes(self) -> None:
        now = self._clock()
        if now - self._swept_at >= SWEEP_INTERVAL_S:
            self._swept_at = now
            await self._replica.sweep_ended(now)

    def _failed(self, error: Exception) -> None:
        # A fault of ours must not end the feed: that would close the gateway for good.
        _log.exception("the key feed failed and goes on")
        self._went_down(f"internal error: {type(error).__name__}")

    def _went_down(self, sentence: str) -> None:
        self.failed_reads += 1
        self._replica.miss()
        if self.store_up or self.last_error is None:
            _log.warning("the keys cannot be read, known ones are served meanwhile: %s", sentence)
        self.store_up = False
        self.last_error = sentence

    def _came_up(self) -> None:
        if self.last_error is not None:
            _log.warning("the keys can be read again")
        self.store_up = True
        self.from_kept = False
        self.last_error = None


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Cancel a task and wait for its end, without taking its cancellation for one's own."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
