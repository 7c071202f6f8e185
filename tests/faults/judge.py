"""The judge: which answers a gateway that keeps its promises may have given.

A gateway answers from a reading of the store that began at most ``bound`` before it decided
(``fresh``, where it calls a key unknown), and it decides after the request was sent and before it
was answered. So an answer is right if the record of truth has some instant in
``[sent - bound, answered]`` at which the key may have been what the answer says; a reading that
began after a revocation was acknowledged shows it, whatever the machine was busy with. There is no
slack, since none is needed: ``sent`` is noted before the first byte goes out, ``answered`` after the
last one came, and the clocks run at one speed. A slow machine widens the window, and so can excuse a
wrong answer, but cannot make a right one wrong.

Expiry is no matter of the table's age: it is judged by the store's clock as last seen, and may come
as much too early as the reading took that saw it, but never late.

A 503 says that the table is too old. That too is held against a reading: the gateway's own metric
says how old its table was when it was asked, and the table only grows newer. Where nothing keeps the
gateway from reading, no 503 is right at all, unless this machine had no time for it.
"""

from __future__ import annotations

import bisect
import itertools
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.truth import Truth, now

PULSE_S = 0.05
CLOCKS_DIFFER_S = 0.05
"""An expiry is an instant of the wall clock, to the millisecond; its note is one of another clock."""
STOOD_STILL_S = 0.3
"""A thread that wants to run every 50 ms and does not for so long tells of a machine that stands still."""
IDLE_AT_LEAST = 0.15
"""A machine whose processors idle less has others to run than a gateway that wants to read."""


@dataclass(frozen=True)
class Call:
    """One request: ``status`` 0 where no whole answer came; ``code`` is a refusal's.

    ``port`` is the caller's end of the connection, ``connected`` when that was there.
    """

    replica: int
    token: str
    sent: float
    answered: float
    status: int
    code: str = ""
    port: int = 0
    connected: float = 0.0


@dataclass(frozen=True)
class Sight:
    """What a gateway said of the age of its table, and between which instants it was asked."""

    asked: float
    answered: float
    age: float

    @property
    def read_at(self) -> float:
        """The instant at, or after, which the reading began that the table is from."""
        return self.asked - self.age


@dataclass
class Window:
    """A time in which a replica may do what it may not otherwise; open while ``until`` is infinite."""

    replica: int
    since: float
    until: float = math.inf

    def meets(self, replica: int, since: float, until: float) -> bool:
        return replica == self.replica and since <= self.until and until >= self.since


@dataclass
class Evidence:
    """All that was seen in one trial.

    ``unread``: a replica's readings fail or take long. ``down``: a replica is not there, or stands
    still. ``severed``: ends of connections that ended with their process.
    """

    calls: list[Call] = field(default_factory=list)
    sights: list[list[Sight]] = field(default_factory=list)
    unread: list[Window] = field(default_factory=list)
    down: list[Window] = field(default_factory=list)
    severed: set[int] = field(default_factory=set)
    pulse: Pulse | None = None

    def meets(self, windows: Iterable[Window], call: Call, before: float = 0.0) -> bool:
        return any(w.meets(call.replica, call.sent - before, call.answered) for w in windows)


class Judge:
    """Judges what was seen against the record of truth; ``bound`` and ``fresh`` in seconds."""

    def __init__(self, truth: Truth, evidence: Evidence, *, bound: float, fresh: float) -> None:
        self._truth = truth
        self._evidence = evidence
        self._bound = bound
        self._fresh = fresh

    def wrong(self) -> list[str]:
        """Return what was wrong, a sentence each, in the order of time."""
        found = []
        for call in sorted(self._evidence.calls, key=lambda call: call.sent):
            if why := self.verdict(call):
                found.append(f"gateway {call.replica} {why}: {call}; {self._truth.life(call.token)}")
        return found

    def verdict(self, call: Call) -> str:
        """Return why an answer is wrong; "" when it is right."""
        life = self._truth.life(call.token)
        oldest = call.sent - self._bound
        match call.status, call.code:
            case 200, "" if call.sent > life.expires + CLOCKS_DIFFER_S:
                return "served a key that has expired"
            case 200, "":
                return "" if life.may_be("live", oldest, call.answered) else "served a key that is not live"
            case 401, "key_expired":
                return "" if call.answered > life.expires - self._bound else "called a live key expired"
            case 401, "key_revoked":
                right = life.may_be("revoked", oldest, call.answered)
                return "" if right else "called a live key revoked"
            case 401, "key_unknown":
                right = life.may_be("absent", call.sent - self._fresh, call.answered)
                return "" if right else "called a key unknown that was made before"
            case 503, "key_table_stale":
                return self._stale(call)
            case 503, "not_ready":
                return "" if self._evidence.meets(self._evidence.down, call) else "had no table"
            case 0, _:
                return self._unanswered(call)
        return "answered what nobody can explain"

    def _stale(self, call: Call) -> str:
        """Tell whether a table that was too old cannot have been."""
        evidence = self._evidence
        seen = self._newest_sight(call)
        if seen is not None:
            age = call.answered - seen.read_at
            if age <= self._fresh:
                return f"refused by a table that was at most {age:.3f} s old"
            known = not self._truth.life(call.token).may_be("absent", seen.read_at, call.answered)
            if known and age <= self._bound:
                return f"refused a known key by a table that was at most {age:.3f} s old"
        if evidence.meets(evidence.unread, call, before=self._bound):
            return ""
        if evidence.meets(evidence.down, call, before=self._bound):
            return ""
        if evidence.pulse is None or evidence.pulse.was_short(call.sent - self._bound, call.answered):
            return ""
        return "refused by an old table though nothing kept it from reading"

    def _newest_sight(self, call: Call) -> Sight | None:
        """Return the newest reading that the replica is known to have made when it was asked."""
        sights = self._evidence.sights[call.replica] if self._evidence.sights else []
        seen = [sight for sight in _before(sights, call.sent) if not self._restarted(call, sight)]
        return max(seen, key=lambda sight: sight.read_at, default=None)

    def _restarted(self, call: Call, sight: Sight) -> bool:
        """Tell whether the replica may be another process than the one that was asked."""
        return any(w.meets(call.replica, sight.asked, call.answered) for w in self._evidence.down)

    def _unanswered(self, call: Call) -> str:
        if self._evidence.meets(self._evidence.down, call) or call.port in self._evidence.severed:
            return ""
        return "did not answer"


def _before(sights: Sequence[Sight], instant: float) -> Sequence[Sight]:
    """Return the last few sights that were whole before an instant."""
    end = bisect.bisect_right(sights, instant, key=lambda sight: sight.answered)
    return sights[max(0, end - 8) : end]


class Pulse:
    """Notes when this machine stood still or had nothing left to give: a thread that looks at its clocks."""

    def __init__(self) -> None:
        self._beats: list[Beat] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(PULSE_S):
            self._beats.append(Beat.now())

    def was_short(self, since: float, until: float) -> bool:
        """Tell whether somebody who wanted to run in the window may have had to wait for long."""
        first = bisect.bisect_right(self._beats, since, key=lambda beat: beat.at)
        last = bisect.bisect_left(self._beats, until, key=lambda beat: beat.at)
        return is_short(self._beats[max(0, first - 1) : last + 1])

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@dataclass(frozen=True)
class Beat:
    """What the machine's processors had done by an instant, in ticks since it started."""

    at: float
    idle: int
    all: int

    @classmethod
    def now(cls) -> Beat:
        with Path("/proc/stat").open() as stat:
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        return cls(now(), ticks[3], sum(ticks))


def is_short(beats: Sequence[Beat]) -> bool:
    """Tell whether a machine with these beats stood still, or was busy all the time."""
    if len(beats) < 2:
        return True
    first, last = beats[0], beats[-1]
    stood_still = any(later.at - sooner.at > STOOD_STILL_S for sooner, later in itertools.pairwise(beats))
    return stood_still or last.idle - first.idle < IDLE_AT_LEAST * (last.all - first.all)


def tally(calls: Iterable[Call], truth: Truth) -> Counter[str]:
    """Return how many calls there were of each kind of key and answer."""
    found: Counter[str] = Counter()
    for call in calls:
        kind = next(
            (
                str(state)
                for state in ("absent", "live", "revoked")
                if truth.life(call.token).is_only(state, call.sent, call.answered)  # type: ignore[arg-type]
            ),
            "changing",
        )
        found[f"{kind}: {call.code or call.status or 'no answer'}"] += 1
    return found
