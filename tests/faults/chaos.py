"""Faults in any order, several at once, as chance has it."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from tests.faults.fleet import Fleet
from tests.faults.judge import Window
from tests.faults.replica import Replica
from tests.faults.truth import now
from tests.faults.watching import BOUND

STEPS = int(os.environ.get("FAULTS_STEPS", "10"))
"""How many faults begin or end in a trial; more of them, and another ``FAULTS_SEED``, make a soak."""


class Chaos:
    """Begins faults and ends them some steps later; ``calm`` ends all that there are."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self._fleet = fleet
        self._chance = chance
        self._open: dict[str, Callable[[], object]] = {}
        self._coming: list[tuple[Replica, Window]] = []
        self.told: list[str] = []

    def step(self) -> None:
        """Begin a fault, or end one."""
        self._come_back()
        if self._open and self._chance.random() < 0.4:
            self._end(self._chance.choice(list(self._open)))
            return
        number = self._chance.randrange(len(self._fleet.replicas))
        kinds = {
            f"line {number}": self._spoil_line,
            f"gateway {number}": self._spoil_gateway,
            "database": self._spoil_database,
        }
        if self._fleet.pooler is not None:
            kinds["pooler"] = self._spoil_pooler
        if any(replica is self._fleet.replicas[number] for replica, _ in self._coming):
            del kinds[f"gateway {number}"]
        what = self._chance.choice([what for what in kinds if what not in self._open] or [""])
        if what:
            self.told.append(f"spoil {what}")
            self._open[what] = kinds[what](number)

    def calm(self) -> None:
        """End every fault."""
        while self._open:
            self._end(next(iter(self._open)))
        self._fleet.until(self._come_back, "gateways do not come back")

    def _come_back(self) -> bool:
        """Start whoever was killed, again if it ended for want of its database; tell whether all serve."""
        for replica, window in list(self._coming):
            if replica.is_ready_or_begins_anew():
                window.until = now()
                self._coming.remove((replica, window))
        return not self._coming

    def _end(self, what: str) -> None:
        self.told.append(f"mend {what}")
        self._open.pop(what)()

    def _spoil_line(self, number: int) -> Callable[[], object]:
        proxy = self._fleet.proxies[number]
        match self._chance.randrange(5):
            case 0:
                proxy.hold()
                return proxy.release
            case 1:
                proxy.hold_present()
                return proxy.release
            case 2:
                proxy.drop_notifications(True)
                return lambda: proxy.drop_notifications(False)
            case 3:
                proxy.delay_answers(BOUND * self._chance.random() / 5)
                return lambda: proxy.delay_answers(0)
            case _:
                proxy.cut()
                return lambda: None

    def _spoil_gateway(self, number: int) -> Callable[[], object]:
        replica, window = self._fleet.replicas[number], Window(number, now())
        self._fleet.evidence.down.append(window)
        if self._chance.random() < 0.6:
            replica.freeze()

            def thaw() -> None:
                replica.thaw()
                window.until = now()

            return thaw
        replica.kill()
        return lambda: self._coming.append((replica, window))

    def _spoil_database(self, number: int) -> Callable[[], object]:
        server = self._fleet.server
        match self._chance.randrange(3):
            case 0:
                server.stop()
                return server.start
            case 1:
                server.freeze()
                return server.thaw
            case _:
                server.sql(
                    "DELETE FROM changes WHERE number < (SELECT number FROM change_counter)",
                    self._fleet.database,
                )
                return lambda: None

    def _spoil_pooler(self, number: int) -> Callable[[], object]:
        pooler = self._fleet.pooler
        assert pooler is not None
        if self._chance.random() < 0.5:
            pooler.freeze()
            return pooler.thaw
        pooler.kill()
        return pooler.start
