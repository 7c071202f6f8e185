"""Gateways over one store, callers, writers, and the record of them; a trial is a part of their life."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway.core.tokens import make_token
from gateway.keys.peppers import open_digester
from gateway.store.base import Store
from gateway.store.urls import open_store
from tests.faults.callers import Backend, Caller
from tests.faults.judge import Call, Evidence, Judge, Pulse, tally
from tests.faults.replica import PEPPER, Replica
from tests.faults.stage import Stage
from tests.faults.truth import now
from tests.faults.watching import AGREED_S, BOUND, FRESH, POLL, Watching
from tests.faults.wholeness import IMPORTED
from tests.faults.writers import ACTOR, Writers, chooser
from tests.store.samples import a_key

W = TypeVar("W", bound="World")

SEED = int(os.environ.get("FAULTS_SEED", "5"))
CALLS_A_SECOND = 50
STARTED_S = 30.0
FIRST_KEYS = 60
NOBODYS_KEYS = 1500
"""So many that a full load comes in pieces, between which there are changes."""


def settings(bound: float = BOUND) -> dict[str, Any]:
    """Return the settings of a gateway that keeps the scaled promise."""
    return {"propagation": {"bound": f"{bound}s", "poll": f"{POLL}s", "fresh": f"{FRESH}s"}}


@dataclass
class Result:
    """What one trial came to."""

    wrong: list[str]
    counts: dict[str, int]
    agreed_after_s: float


class World(Watching):
    """Everything that runs in a trial; ``replicas`` have been started, and read the store at ``url``."""

    def __init__(
        self, stage: Stage, backend: Backend, replicas: Sequence[Replica], url: str, bound: float = BOUND
    ) -> None:
        super().__init__(replicas, bound)
        self.stage = stage
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
            assert self._store is not None
            (pepper, *_) = self.digester.pepper_ids
            nobodys = [a_key(name=IMPORTED, pepper_id=pepper) for _ in range(NOBODYS_KEYS)]
            await self._store.bulk_insert(nobodys, ACTOR)
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
        self.close_windows()
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

    def make_expiring(self, lives_s: float) -> str:
        """Make a key that ends by itself, and return its token."""
        token = self.stage.run(self.writers.make(lives_s=lives_s))
        assert token is not None
        return token

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
        lost = [token for token, life in self.truth.lives.items() if life.turns[-1].state == "absent"]
        never = [make_token("gw_live_", self.chance.choice) for _ in range(3)]
        tokens = [*self.truth.live[-60:], *self.truth.ended[-60:], *lost[-30:], *never]
        expected = {token: self._true_answer(token) for token in tokens}
        deadline = now() + AGREED_S
        for caller in self.callers:
            waiting = tokens
            while waiting:
                calls = [await caller.call(token) for token in waiting]
                late = [call for call in calls if (call.status, call.code) != expected[call.token]]
                assert now() < deadline, f"gateway {caller.replica} is not in step again: {late[:5]}"
                waiting = [call.token for call in late]
                await asyncio.sleep(0.05 if waiting else 0)

    def _true_answer(self, token: str) -> tuple[int, str]:
        """Return how a call is answered while nothing changes."""
        answers = {"live": (200, ""), "revoked": (401, "key_revoked"), "absent": (401, "key_unknown")}
        life = self.truth.life(token)
        return (401, "key_expired") if now() > life.expires else answers[life.turns[-1].state]

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


@contextlib.contextmanager
def running(world: W) -> Iterator[W]:
    """Wait until a world's gateways serve, lend it, and hold it to a clean end."""
    try:
        for replica in world.replicas:
            replica.wait_ready(STARTED_S)
        world.populate()
        yield world
        world.close()
    finally:
        for replica in world.replicas:
            replica.kill()
