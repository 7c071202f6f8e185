"""The writer's side of cold keys: those of the key table that are found by their locators.

Kept apart from the others, so that a table without any costs nothing for it. Imports ``core`` only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

from gateway.core.model import ColdKey, KeyTable, LiveKey

SLICE = 4000
"""Entries looked at before other work gets its turn: about a millisecond."""


class Touched:
    """Where in the key table something was changed since somebody began to write it down."""

    __slots__ = ("digests", "locators", "users")

    def __init__(self) -> None:
        self.digests: set[bytes] = set()
        self.locators: set[bytes] = set()
        self.users: set[str] = set()


class ColdWriter:
    """Applies what the feed reads of cold keys; used on the event loop alone."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._lengths: Counter[int] = Counter()
        self._load = 0
        # While a full load is under way: whose keys are cold no more since its snapshot.
        self._thawed: set[bytes] | None = None
        self.touched: Touched | None = None

    def restore(self, cold: Iterable[ColdKey]) -> None:
        """Put these in the place of whatever is there."""
        self._table.cold = {}
        self._lengths.clear()
        self._count()
        self.end_load()
        for each in cold:
            self.put(each)

    def begin_load(self, load: int) -> None:
        """Take note that ``put_loaded`` brings the cold keys of the full load ``load`` from here on."""
        self._load = load
        self._thawed = set()

    def end_load(self) -> None:
        """Take note that the full load is over."""
        self._thawed = None

    def put(self, cold: ColdKey) -> None:
        """Put a cold key in the place of its predecessor; one that has no verifier nobody can prove."""
        if not cold.verifier:
            self._remove(cold.locator)
            return
        if self.touched is not None:
            self.touched.locators.add(cold.locator)
        if cold.locator not in self._table.cold and _leads(cold):
            self._lengths[len(cold.locator)] += 1
            self._count()
        self._table.cold[cold.locator] = cold

    def put_loaded(self, cold: ColdKey) -> None:
        """Put a cold key of the full load in place, unless a change has overtaken it."""
        known = self._table.cold.get(cold.locator)
        if (known is None or known.key.load != self._load) and cold.locator not in (self._thawed or ()):
            self.put(cold)

    def drop(self, locator: bytes) -> None:
        """Take note that a key is not cold; a full load that is under way does not make it so again."""
        self._remove(locator)
        if self._thawed is not None:
            self._thawed.add(locator)

    async def sweep(self, goes: Callable[[LiveKey], bool]) -> int:
        """Drop the cold keys of which ``goes`` is true; return how many."""
        cold = self._table.cold
        locators = list(cold)
        dropped = 0
        for start in range(0, len(locators), SLICE):
            # Others write between two slices, so that one may be gone by its turn.
            found = ((locator, cold.get(locator)) for locator in locators[start : start + SLICE])
            gone = [locator for locator, each in found if each is not None and goes(each.key)]
            for locator in gone:
                self.drop(locator)
            if gone:
                # Before anybody else runs: what was concluded from the table with them holds no more.
                self._table.version += 1
                dropped += len(gone)
            await asyncio.sleep(0)
        return dropped

    def _remove(self, locator: bytes) -> None:
        if self.touched is not None:
            self.touched.locators.add(locator)
        cold = self._table.cold.pop(locator, None)
        if cold is not None and _leads(cold):
            self._lengths[len(locator)] -= 1
            if not self._lengths[len(locator)]:
                self._count()

    def _count(self) -> None:
        # The longest first: it says the most about a token.
        self._table.cold_lengths = tuple(sorted((+self._lengths), reverse=True))


def _leads(cold: ColdKey) -> bool:
    """Tell whether the locator stands at the beginning of the token; a signed one's is the key's id."""
    return cold.locator.decode() != cold.key.key_id
