"""Whose turn it is to be proven by argon2id, and who waits: a flood of guesses keeps nobody out.

What may wait is bounded for each key and for all together; what a key's wrong tokens may cost is a
rate. Of what waits, the key that was guessed at least has its turn first, so that a flood on one keeps
no other's owner out; of keys that are equal in this, and of one key's tokens, that of the address whose
last turn lies the furthest back, so that the owner of a flooded key, or of any while thousands are
flooded, gets in from another address at the next turn. From the
same address (callers behind one proxy have one) chance decides: of a thousand guesses a second four
have their turn, so that an owner who asks a few times a second is in within a minute or so, and then
for good. Pure but for that chance: time is an argument. Imports ``core`` only.
"""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable

from gateway.core.cold import VerifyKey
from gateway.core.rate import Rate, judge
from gateway.core.refusals import Reason

FAILURES = Rate(quota=20, window_s=5.0)
"""Wrong tokens of one cold key that argon2id is asked about: so many at once, and four a second."""
WAITING_MAX = 256
WAITING_A_KEY = 8
WAIT_S = 4.5
"""Somewhat less than a request waits: nobody asks for the result of a later proof."""
_SOURCES_MAX = 64
_ALL_SOURCES_MAX = 1024
_STEP_S = FAILURES.window_s / FAILURES.quota

Done = Callable[[Reason | None], None]


class Try:
    """One token that somebody at ``source`` says is a cold key's, and who wants to know."""

    __slots__ = ("dones", "since", "source", "wanted")

    def __init__(self, wanted: VerifyKey, source: str, since: float) -> None:
        self.wanted = wanted
        self.source = source
        self.since = since
        self.dones: list[Done] = []


class _Turns(OrderedDict[str, int]):
    """Address → number of its last turn, the latest last; of as many addresses as are remembered."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def of(self, source: str) -> int:
        """Return the number of an address's last turn; it comes before all others without one."""
        return self.get(source, -1)

    def note(self, source: str) -> None:
        """Note that it is an address's turn."""
        self[source] = next(reversed(self.values()), 0) + 1
        self.move_to_end(source)
        if len(self) > self._most:
            self.popitem(last=False)


class _Suspect:
    """A cold key that tokens are tried for.

    Attributes:
        waiting: the tries that wait, by the digest of their token.
        proving: the one whose turn it is.
        arrival: the number that ``core.rate`` keeps of the failures.
        turns: of the addresses that ask for this key.
    """

    __slots__ = ("arrival", "proving", "turns", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[bytes, Try] = {}
        self.proving: Try | None = None
        self.arrival = 0.0
        self.turns = _Turns(_SOURCES_MAX)

    def known(self, wanted: VerifyKey) -> Try | None:
        """Return the try of this very token, if there is one."""
        if self.proving is not None and self.proving.wanted.digest == wanted.digest:
            return self.proving
        return self.waiting.get(wanted.digest)

    def crowd(self) -> tuple[str, int]:
        """Return the address that most of the waiting tries come from, and how many."""
        return Counter(each.source for each in self.waiting.values()).most_common(1)[0]

    def has_from(self, source: str) -> bool:
        """Tell whether one that waits comes from an address."""
        return any(each.source == source for each in self.waiting.values())

    def displace(self, source: str) -> Try:
        """Take one of those out that come from an address."""
        chosen = secrets.choice([each for each in self.waiting.values() if each.source == source])
        return self.waiting.pop(chosen.wanted.digest)

    def begin(self) -> Try:
        """Give the next try its turn."""
        turns = [(self.turns.of(each.source), each) for each in self.waiting.values()]
        first = min(turn for turn, _ in turns)
        chosen = secrets.choice([each for turn, each in turns if turn == first])
        self.proving = self.waiting.pop(chosen.wanted.digest)
        self.turns.note(chosen.source)
        return chosen


class Suspects:
    """The cold keys that tokens are tried for now, by their locators."""

    def __init__(self) -> None:
        self._by_locator: dict[bytes, _Suspect] = {}
        self._waiting = 0
        self._turns = _Turns(_ALL_SOURCES_MAX)

    def admit(self, wanted: VerifyKey, source: str, now: float, given_up: list[Try]) -> Try | None:
        """Return the try that waits for a token, None without room; ``given_up`` gets whom it displaced."""
        locator = wanted.cold.locator
        suspect = self._by_locator.get(locator) or _Suspect()
        found = suspect.known(wanted)
        if found is not None:
            found.since = now
            return found
        if not self._make_room(suspect, source, given_up):
            return None
        self._by_locator[locator] = suspect
        found = suspect.waiting[wanted.digest] = Try(wanted, source, now)
        self._waiting += 1
        return found

    def begin(self, now: float, given_up: list[Try]) -> Try | None:
        """Give the next try its turn if one may have it; ``given_up`` gets those that waited too long."""
        while (suspect := self._next(now)) is not None and judge(FAILURES, suspect.arrival, now).admitted:
            for late in [each for each in suspect.waiting.values() if now - each.since > WAIT_S]:
                given_up.append(suspect.waiting.pop(late.wanted.digest))
                self._waiting -= 1
            if suspect.waiting:
                self._waiting -= 1
                chosen = suspect.begin()
                self._turns.note(chosen.source)
                return chosen
        return None

    def due_s(self, now: float) -> float | None:
        """Return in how many seconds one of those that wait may have its turn; None: none waits for time."""
        suspect = self._next(now)
        return None if suspect is None else max(0.0, suspect.arrival + _STEP_S - FAILURES.window_s - now)

    def end(self, tried: Try, now: float, *, failed: bool) -> None:
        """End a try's turn; a failure counts against the key's rate."""
        suspect = self._by_locator.get(tried.wanted.cold.locator)
        if suspect is not None:
            suspect.proving = None
            if failed:
                suspect.arrival = judge(FAILURES, suspect.arrival, now).arrival
        for locator in [
            locator
            for locator, each in self._by_locator.items()
            if not each.waiting and each.proving is None and each.arrival <= now
        ]:
            del self._by_locator[locator]

    def clear(self) -> None:
        """Forget them all."""
        self._by_locator.clear()
        self._waiting = 0

    def _next(self, now: float) -> _Suspect | None:
        """Return the key whose turn is next: the least guessed at, of equals that of the next address.

        Of one address it is the one that waits longest.
        """
        due = (each for each in self._by_locator.values() if each.waiting and each.proving is None)
        return min(
            due,
            key=lambda each: (
                max(each.arrival, now),
                min(self._turns.of(tried.source) for tried in each.waiting.values()),
                next(iter(each.waiting.values())).since,
            ),
            default=None,
        )

    def _make_room(self, suspect: _Suspect, source: str, given_up: list[Try]) -> bool:
        """Make room for one more try of a key, at the expense of whoever takes more of it."""
        crowded = suspect
        if len(suspect.waiting) >= WAITING_A_KEY:
            crowd, count = suspect.crowd()
            room = count > sum(each.source == source for each in suspect.waiting.values()) + 1
        elif self._waiting >= WAITING_MAX:
            crowded = max(self._by_locator.values(), key=lambda each: len(each.waiting))
            crowd, _ = crowded.crowd()
            room = len(crowded.waiting) > len(suspect.waiting) + 1
            if not room:
                crowd, room = self._crowd_beside(source)
                crowded = next(each for each in self._by_locator.values() if each.has_from(crowd))
        else:
            return True
        if room:
            given_up.append(crowded.displace(crowd))
            self._waiting -= 1
        return room

    def _crowd_beside(self, source: str) -> tuple[str, bool]:
        """Return the address that most of all tries come from, and whether another should have one."""
        counts = Counter(each.source for key in self._by_locator.values() for each in key.waiting.values())
        crowd, count = counts.most_common(1)[0]
        return crowd, count > counts[source] + 1
