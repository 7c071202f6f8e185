"""How long it takes from the commit of a change to its effect at every gateway."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tests.faults.callers import Caller
from tests.faults.truth import now
from tests.faults.world import World

LONGEST_S = 30.0
PAUSE_S = 0.002
"""Between two questions: who asks without a pause takes the time of those whom he asks."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "at most": 1.0}


@dataclass
class Effects:
    """Seconds from an acknowledgement to the first answer that shows it, one for each gateway and change.

    That answer's own time is part of it.
    """

    made: list[float] = field(default_factory=list)
    revoked: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{name} {1000 * quantile(self.all, part):.0f} ms" for name, part in QUANTILES.items()]
        return f"from commit to effect, {len(self.all)} times: {', '.join(parts)}"

    @property
    def all(self) -> list[float]:
        return self.made + self.revoked


def measured(world: World, changes: int) -> Effects:
    """Make and revoke so many keys, one after the other, and ask every gateway until it shows."""
    return world.stage.run(_measured(world, changes), within=60 + 2 * changes * LONGEST_S)


def quantile(samples: list[float], part: float) -> float:
    """Return the sample below or at which this part of all lies (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * round(part * 1000) // 1000) - 1)]


async def _measured(world: World, changes: int) -> Effects:
    found = Effects()
    for _ in range(changes):
        token = await world.writers.make()
        assert token is not None, "the store is out"
        world.truth.keep(
            token
        )  # before the next turn of the loop: whoever else revokes it hides its being made
        found.made += await _shown(world, token, 200)
        assert await world.writers.revoke(token), "the store is out"
        found.revoked += await _shown(world, token, 401)
    return found


async def _shown(world: World, token: str, status: int) -> list[float]:
    acked = now()
    return await asyncio.gather(*(_until(caller, token, status, acked) for caller in world.callers))


async def _until(caller: Caller, token: str, status: int, acked: float) -> float:
    while True:
        call = await caller.call(token)
        if call.status == status:
            return call.answered - acked
        assert call.answered - acked < LONGEST_S, f"gateway {caller.replica} does not show it: {call}"
        await asyncio.sleep(PAUSE_S)
