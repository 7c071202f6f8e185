"""What is seen of gateways while something befalls them, and the waiting for it.

A trial waits for what has been seen, never for a time: a fault lasts until it has shown.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence

from tests.faults.callers import Caller
from tests.faults.judge import Call, Evidence, Window
from tests.faults.replica import Replica
from tests.faults.truth import Truth, now
from tests.faults.writers import Writers

BOUND, POLL, FRESH = 3.0, 0.3, 1.5
"""The promise, scaled from 300 s, 2 s and 5 s: as small as leaves a loaded machine some turns in each."""
LONGER = float(os.environ.get("FAULTS_SECONDS", "0"))
"""So many seconds does each fault last longer, and the calm before it: for a soak."""
AGREED_S = 20.0


class Watching:
    """A world as it is watched.

    Attributes:
        evidence: what was seen in this trial.
        bound: how old a table may be, in seconds.
    """

    def __init__(self, replicas: Sequence[Replica], bound: float) -> None:
        self.replicas = list(replicas)
        self.bound = bound
        self.truth = Truth()
        self.evidence = Evidence()
        self.callers: list[Caller] = []
        self.writers: Writers

    def calm(self, calls: int = 25) -> None:
        """Wait until every gateway has served and has refused a revoked key some times more."""
        since = now()

        def reached() -> bool:
            return all(
                self.count(number, status, since=since) >= calls // 5
                and sum(1 for c in self.evidence.calls if c.replica == number and c.sent >= since) >= calls
                for number in range(len(self.replicas))
                for status in (200, 401)
            )

        self.until(reached, "the gateways do not serve", within=AGREED_S)
        self.pause(LONGER / 2)

    def count(self, replica: int, status: int, code: str = "", *, since: float = 0.0) -> int:
        """Return how many such answers there were to calls sent since an instant."""
        return sum(
            call.replica == replica
            and call.status == status
            and code in ("", call.code)
            and call.sent >= since
            for call in self.evidence.calls
        )

    def until(self, condition: Callable[[], object], why: str, *, within: float = 30.0) -> None:
        """Wait for a condition; fail with ``why`` if it does not come true in time."""
        deadline = now() + within
        while not condition():
            for worker in (*self.callers, self.writers):
                worker.check()
            assert now() < deadline, why
            self.pause(0.02)

    @staticmethod
    def pause(seconds: float) -> None:
        """Let time pass: not for something to happen, but because the fault is that it lasts."""
        time.sleep(seconds)

    @contextlib.contextmanager
    def unread(self, *numbers: int) -> Iterator[float]:
        """Note that these gateways (none: all) may be kept from reading, until they have read again."""
        windows = [Window(number, now()) for number in numbers or range(len(self.replicas))]
        self.evidence.unread += windows
        yield windows[0].since
        for window in windows:
            window.until = now()

    @contextlib.contextmanager
    def down(self, number: int) -> Iterator[float]:
        """Note that a gateway may not answer meanwhile."""
        window = Window(number, now())
        self.evidence.down.append(window)
        yield window.since
        window.until = now()

    def wait_stale(self, *numbers: int, revoking: bool = True) -> None:
        """Wait until these gateways (none: all) have been tried beyond the bound, and refuse what they knew.

        If anybody can revoke keys meanwhile, they have been asked about those too; the judge will see.
        """
        since = now()
        for number in numbers or range(len(self.replicas)):
            known = {call.token for call in self.asked(number, since=0.0) if call.status == 200}
            self.until(
                lambda number=number, known=known: self._refusals(number, known, since) >= 10,
                f"gateway {number} goes on though it cannot read",
            )
        if revoking:
            self.wait_tried(since, *numbers)
        self.pause(LONGER / 2)

    def wait_tried(self, since: float, *numbers: int) -> None:
        """Wait until these gateways (none: all) were asked about keys whose end they ought to know by now.

        These were revoked after ``since``, and are asked about when the bound is over.
        """
        for number in numbers or range(len(self.replicas)):
            self.until(
                lambda number=number: self._trials(number, since) >= 10,
                f"nobody asks gateway {number} about keys that were revoked meanwhile",
            )

    def _refusals(self, number: int, known: Container[str], since: float) -> int:
        """Return how often a gateway has refused keys that it knew because its table is too old."""
        return sum(
            call.code == "key_table_stale" and call.token in known for call in self.asked(number, since=since)
        )

    def _trials(self, number: int, since: float) -> int:
        """Return how often a gateway was asked about keys that were revoked later, but before the bound."""
        revoked = {token: acked for token, acked in self.truth.revocations() if acked > since}
        calls = self.asked(number, since=since + self.bound)
        return sum(call.sent > revoked.get(call.token, math.inf) + self.bound for call in calls)

    def answered(self, number: int, token: str, code: str) -> int:
        """Return how often a gateway has answered a key with a code; "" counts those who were served."""
        return sum(
            call.token == token and call.replica == number and call.code == code and call.status != 0
            for call in self.evidence.calls
        )

    def is_fresh(self, number: int, since: float) -> bool:
        """Tell whether a gateway is known to have read the store after an instant."""
        return any(sight.read_at > since for sight in self.evidence.sights[number][-4:])

    def readings(self, number: int, *, since: float) -> int:
        """Return how many different readings, begun since an instant, a gateway has told of."""
        seen = [s.read_at for s in self.evidence.sights[number] if s.read_at >= since]
        return sum(later - sooner > POLL / 2 for sooner, later in itertools.pairwise([since, *seen]))

    def asked(self, number: int, *, since: float) -> list[Call]:
        """Return the calls at one gateway that were sent since an instant."""
        return [call for call in self.evidence.calls if call.replica == number and call.sent >= since]

    def close_windows(self) -> None:
        """Prolong each time without readings until the first that began after it."""
        for window in self.evidence.unread:
            sights = self.evidence.sights[window.replica]
            window.until = next((s.answered for s in sights if s.read_at >= window.until), float("inf"))
