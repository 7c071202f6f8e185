"""Gateways over one store, callers, writers, and the record of them; a trial is a part of their life."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.tokens import make_token
from gateway.keys.peppers import open_digester
from gateway.store.base import Store
from gateway.store.urls import open_store
from tests.faults.callers import Backend, Caller
from tests.faults.judge import Call, Evidence, Judge, Pulse, Window, tally
from tests.faults.replica import PEPPER, Replica
from tests.faults.stage import Stage
from tests.faults.truth import Truth, now
from tests.faults.writers import Writers, chooser

BOUND, POLL, FRESH = 3.0, 0.3, 1.5
"""The promise, scaled from 300 s, 2 s and 5 s: as small as leaves a loaded machine some turns in each."""
SEED = int(os.environ.get("FAULTS_SEED", "5"))
LONGER = float(os.environ.get("FAULTS_SECONDS", "0"))
"""So many seconds does each fault last longer, and the calm before it: for a soak."""
CALLS_A_SECOND = 50
STARTED_S = 30.0
AGREED_S = 20.0
FIRST_KEYS = 60


def settings(bound: float = BOUND) -> dict[str, Any]:
    """Return the settings of a gateway that keeps the scaled promise."""
    return {"propagation": {"bound": f"{bound}s", "poll": f"{POLL}s", "fresh": f"{FRESH}s"}}


@dataclass
class Result:
    """What one trial came to."""

    wrong: list[str]
    counts: dict[str, int]
    agreed_after_s: float


class World:
    """Everything that runs in a trial; ``replicas`` have been started, and read the store at ``url``."""

    def __init__(
        self, stage: Stage, backend: Backend, replicas: Sequence[Replica], url: str, bound: float = BOUND
    ) -> None:
        self.bound = bound
        self.stage = stage
        self.replicas = list(replicas)
        self.truth = Truth()
        self.evidence = Evidence()
        self.chance = random.Random(SEED)
        self.writers = Writers(self.truth, random.Random(SEED + 1))
        self.pulse = Pulse()
        self._backend = backend
        self._store: Store | None = None
        self.write_to(url)
        choose = chooser(self.truth, self.chance, bound)
        every_s = 1 / CALLS_A_SECOND
        self.callers = [
            Caller(number, replica.port, replica.ops_port, choose, self.evidence, every_s)
            for number, replica in enumerate(self.replicas)
        ]

    def write_to(self, url: str) -> None:
        """Have the writers write to this store from now on."""
        self.stage.run(self._write_to(url))

    async def _write_to(self, url: str) -> None:
        if self._store is not None:
            await self._store.close()
        self._store = open_store(url)
        await self._store.migrate()
        self.digester = await open_digester(self._store, pepper=PEPPER)
        self.writers.use(self._store, self.digester)

    def populate(self) -> None:
        """Make the first keys, some of which are revoked."""

        async def make() -> None:
            for _ in range(FIRST_KEYS):
                token = await self.writers.make()
                assert token is not None, "the store is out before anything was done to it"
            for token in self.truth.live[: FIRST_KEYS // 4]:
                assert await self.writers.revoke(token)

        self.stage.run(make())

    @contextlib.contextmanager
    def trial(self) -> Iterator[list[Result]]:
        """Call and write all the time; at the end compare, judge, and fail with whatever was wrong.

        The result is in the list once that is done.
        """
        results: list[Result] = []
        self._begin()
        try:
            self.calm()
            yield results
            self.calm()
            self.stage.run(self._quieten_writers())
            agreed_after_s = self._agree()
        except BaseException as error:
            error.add_note(_report(self._wrong()))
            raise
        finally:
            self.stage.run(self._end())
        differences = self.truth.differences(self.stage.run(self.writers.found()))
        wrong = self._wrong()
        results.append(Result(wrong, dict(tally(self.evidence.calls, self.truth)), agreed_after_s))
        assert not differences, f"what was acknowledged is lost:\n{_report(differences)}"
        assert not wrong, _report(wrong)

    def _wrong(self) -> list[str]:
        """Return what was wrong so far."""
        self._close_windows()
        return Judge(self.truth, self.evidence, bound=self.bound, fresh=FRESH).wrong()

    def _begin(self) -> None:
        self.evidence = Evidence(sights=[[] for _ in self.replicas], pulse=self.pulse)
        for caller in self.callers:
            caller.evidence = self.evidence
            self.stage.call(caller.start)
        self.stage.call(self.writers.start)

    async def _quieten_writers(self) -> None:
        await self.writers.stop()
        await self.writers.settle()

    async def _end(self) -> None:
        await self.writers.stop()
        await asyncio.gather(*(caller.stop() for caller in self.callers))

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
        known = {token for token in self.truth.live if self.truth.made_before(token, since - FRESH)}
        for number in numbers or range(len(self.replicas)):
            self.until(
                lambda number=number: self._refusals(number, known, since) >= 10,
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

    def make_expiring(self, lives_s: float) -> str:
        """Make a key that ends by itself, and return its token."""
        token = self.stage.run(self.writers.make(lives_s=lives_s))
        assert token is not None
        return token

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

    def revoke_some(self, count: int) -> list[str]:
        """Revoke so many keys, and return their tokens once that is acknowledged."""

        async def revoke() -> list[str]:
            tokens = self.truth.live[:count]
            for token in tokens:
                assert await self.writers.revoke(token)
            return tokens

        return self.stage.run(revoke())

    @contextlib.contextmanager
    def sent_meanwhile(self, number: int, tokens: Sequence[str]) -> Iterator[list[Call]]:
        """Send a request for each token, on connections of their own; at the end take the answers."""
        answers: list[Call] = []
        caller = self.callers[number]

        async def begin() -> list[asyncio.Task[Call]]:
            caller.forget()
            tasks = [asyncio.create_task(caller.call(token)) for token in tokens]
            while any(not caller.is_sent(token) for token in tokens):
                await asyncio.sleep(0.01)
            return tasks

        async def end(tasks: list[asyncio.Task[Call]]) -> list[Call]:
            return [await task for task in tasks]

        tasks = self.stage.run(begin())
        yield answers
        answers += self.stage.run(end(tasks))

    @contextlib.contextmanager
    def writers_pause(self) -> Iterator[None]:
        """Have nothing written meanwhile."""
        self.stage.run(self.writers.stop())
        yield
        self.stage.call(self.writers.start)

    def take_store_for_truth(self, since: float) -> list[str]:
        """Take what the store holds for the truth; it may have been so from ``since`` on."""
        found = self.stage.run(self.writers.found())
        return self.stage.call(self.truth.replaced, found, since, now())

    def _agree(self) -> float:
        """Ask every gateway about every key until all say what is true; return how long that took."""
        began = now()
        self.stage.run(self._all_agree(), within=2 * AGREED_S + 30)
        return now() - began

    async def _all_agree(self) -> None:
        tokens = self.truth.live[-60:] + self.truth.ended[-60:]
        tokens += [token for token, life in self.truth.lives.items() if life.turns[-1].state == "absent"][
            -30:
        ]
        tokens += [make_token("gw_live_", self.chance.choice) for _ in range(3)]
        expected = {token: self._true_answer(token) for token in tokens}
        deadline = now() + AGREED_S
        for caller in self.callers:
            waiting = tokens
            while waiting:
                calls = [await caller.call(token) for token in waiting]
                late = [call for call in calls if (call.status, call.code) != expected[call.token]]
                assert now() < deadline, f"gateway {caller.replica} is not in step again: {late[:5]}"
                waiting = [call.token for call in late]

    def _true_answer(self, token: str) -> tuple[int, str]:
        """Return how a call is answered while nothing changes."""
        answers = {"live": (200, ""), "revoked": (401, "key_revoked"), "absent": (401, "key_unknown")}
        life = self.truth.life(token)
        return (401, "key_expired") if now() > life.expires else answers[life.turns[-1].state]

    def _close_windows(self) -> None:
        """Prolong each time without readings until the first that began after it."""
        for window in self.evidence.unread:
            sights = self.evidence.sights[window.replica]
            window.until = next((s.answered for s in sights if s.read_at >= window.until), float("inf"))

    def close(self) -> None:
        """Stop everything, and hold the gateways to a clean end."""
        faults = self.stop_replicas()
        self.close_rest()
        assert not faults, "\n".join(faults)

    def stop_replicas(self) -> list[str]:
        """Stop the gateways; return what was wrong with how they ended."""
        faults = []
        for replica in self.replicas:
            try:
                replica.stop()
            except AssertionError as error:
                faults.append(str(error))
        return faults

    def close_rest(self) -> None:
        """Let go of all else."""
        self.pulse.close()
        if self._store is not None:
            self.stage.run(self._store.close())
        self._backend.close()
        self.stage.close()


def _report(sentences: Sequence[str]) -> str:
    return "\n".join([f"{len(sentences)} things were wrong with seed {SEED}", *sentences[:10]])
