"""Write down when keys were last used: behind, in batches, and at nobody's expense.

What a process has seen is collected every few seconds and written about once a minute, each key at
most once in five; so what is shown of a key in steady use may be some six minutes old, and what is
kept of one that is used no more is right to about a minute. A store that cannot be written costs no
request anything: as much is remembered as there is room for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from gateway.store.base import Store, StoreError
from gateway.store.usage import note_uses

COLLECT_S = 5.0
"""How exactly the instant of a use is known."""
WRITE_S = 60.0
"""From one round of writing to the next, give or take a fifth: gateways need not come all at once."""
REST_S = 300.0
"""How long a key that was written is not written again."""
BATCH = 200
"""Keys in one transaction, some milliseconds, so that no revocation waits long behind it."""
REMEMBERED_MAX = 100_000
"""Keys whose use has yet to be written, some ten megabytes; that of further ones is given up."""
LAST_S = 1.0
"""How long the end of the process waits for what is left to be written."""

_log = logging.getLogger("gateway.app")


class UsageWriter:
    """Writes the uses of keys that one process sees to the store.

    Attributes:
        given_up: how many uses found no room.
    """

    def __init__(
        self,
        store: Store,
        take: Callable[[], Iterable[str]],
        now_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        """Take what tells the ids of keys used since it was last asked, and two clocks.

        ``now_ms`` is the store's clock in epoch milliseconds; ``clock`` counts seconds and is never set.
        """
        self.given_up = 0
        self._store = store
        self._take = take
        self._now_ms = now_ms
        self._clock = clock
        self._unwritten: dict[str, int] = {}
        self._rests_until: dict[str, float] = {}
        self._due_at = clock() + _about(WRITE_S)
        self._out = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to collect and write."""
        self._task = asyncio.create_task(self._run(), name="usage")

    async def stop(self) -> None:
        """Write what is left, for a second at most; safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.collect()
        self._rests_until.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.write()

    def collect(self) -> None:
        """Remember what was used since the last time."""
        now_ms, unwritten = self._now_ms(), self._unwritten
        for key_id in self._take():
            if key_id in unwritten or len(unwritten) < REMEMBERED_MAX:
                unwritten[key_id] = now_ms
            else:
                self._give_up(key_id)

    async def write(self) -> None:
        """Write what has not been written lately; what fails is left for the next time."""
        now = self._clock()
        self._rests_until = {key_id: until for key_id, until in self._rests_until.items() if until > now}
        due = iter([item for item in self._unwritten.items() if item[0] not in self._rests_until])
        try:
            while batch := list(islice(due, BATCH)):
                await self._store.write(note_uses(batch), alone=False)
                self._written(batch, now + REST_S)
        except StoreError as error:
            self._went_out(str(error))
        except Exception as error:
            # A fault of ours must not end the writing for good, nor the process.
            _log.exception("writing down when keys were used failed")
            self._went_out(type(error).__name__)
        else:
            self._out = False

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(COLLECT_S)
            self.collect()
            if self._clock() >= self._due_at:
                await self.write()
                self._due_at = self._clock() + _about(WRITE_S)

    def _written(self, batch: Sequence[tuple[str, int]], rests_until: float) -> None:
        for key_id, _ in batch:
            del self._unwritten[key_id]
            # Without room it is written oftener than need be, no more.
            if len(self._rests_until) < REMEMBERED_MAX:
                self._rests_until[key_id] = rests_until

    def _give_up(self, key_id: str) -> None:
        if not self.given_up:
            _log.warning("when %s and further keys were last used is given up: too many wait", key_id)
        self.given_up += 1

    def _went_out(self, sentence: str) -> None:
        if not self._out:
            _log.warning("when keys were last used cannot be written, and is kept for later: %s", sentence)
        self._out = True


def _about(seconds: float) -> float:
    return seconds * (0.8 + secrets.randbelow(401) / 1000)
