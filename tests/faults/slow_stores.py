"""Stores whose transactions stay open for as long as chance has it, so that they overlap in any order."""

from __future__ import annotations

import random
from typing import TypeVar

from gateway.store.postgres import PostgresStore
from gateway.store.steps import Query, Row, Steps

LONGEST_S = 0.012

R = TypeVar("R")
_chance = random.Random(16)


class SleepingStore(PostgresStore):
    """Sleeps between the statements of a write, the last one and the commit."""

    async def write(self, work: Steps[R], *, alone: bool = True) -> R:
        """Do a piece of work, slowly."""
        return await super().write(_sleeping(work), alone=alone)


class UnorderedStore(PostgresStore):
    """Sleeps too, and waits for no other writer before it must: when it takes its change's number."""

    async def write(self, work: Steps[R], *, alone: bool = True) -> R:
        """Do a piece of work, slowly, beside others."""
        return await super().write(_sleeping(work), alone=False)


def _sleeping(work: Steps[R]) -> Steps[R]:
    try:
        query = next(work)
        while True:
            rows: list[Row] = yield query
            yield Query(f"SELECT pg_sleep({LONGEST_S * _chance.random():.4f})", literal=True)
            query = work.send(rows)
    except StopIteration as end:
        return end.value
