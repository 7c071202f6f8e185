"""The record of truth: what each key may have been, and when. Nothing of it is asked of a gateway.

An operation begins at one instant and is acknowledged at a later one; somewhere in between it
happened. If it failed without an answer it may have happened then, or later, or never. So a key has
*turns*: from the first instant at which it may have been something, until the first at which the
next turn is certain. Instants are those of the monotonic clock in this process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

KEPT_IN_MIND = 150
State = Literal["absent", "live", "revoked"]


def now() -> float:
    """Return the instant, on the clock of the record."""
    return time.monotonic()


@dataclass
class Turn:
    """From ``begun`` on the key may have been ``state``; by ``acked`` it was (None: nobody knows)."""

    state: State
    begun: float
    acked: float | None = None


@dataclass
class Life:
    """What is on record of one key, which was absent at first.

    ``expires`` is when it ends by itself, by the store's clock.
    """

    token: str
    key_id: str = ""
    expires: float = math.inf
    turns: list[Turn] = field(default_factory=lambda: [Turn("absent", -math.inf, -math.inf)])

    def may_be(self, state: State, since: float, until: float) -> bool:
        """Tell whether there is an instant of the window at which the key may have been ``state``."""
        return any(
            turn.state == state and turn.begun <= until and self._end(place) >= since
            for place, turn in enumerate(self.turns)
        )

    def is_only(self, state: State, since: float, until: float) -> bool:
        """Tell whether the key was ``state`` in the whole window, for certain."""
        others: set[State] = {"absent", "live", "revoked"}
        return not any(self.may_be(other, since, until) for other in others - {state})

    def _end(self, place: int) -> float:
        """Return when turn ``place`` was over for certain."""
        acked = [turn.acked for turn in self.turns[place + 1 :] if turn.acked is not None]
        return min(acked, default=math.inf)

    def __str__(self) -> str:
        return " → ".join(f"{t.state} [{t.begun:.3f}…{t.acked and f'{t.acked:.3f}'}]" for t in self.turns[1:])


class Truth:
    """The lives of all keys."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.live: list[str] = []
        self.ended: list[str] = []
        self.expiring: list[str] = []

    def life(self, token: str) -> Life:
        """Return what is on record of a token; one that was never made is absent throughout."""
        return self.lives.get(token) or Life(token)

    def id_of(self, token: str) -> str:
        """Return the id of a key that was made."""
        return self.lives[token].key_id

    def created(self, token: str, key_id: str, begun: float, acked: float, expires: float = math.inf) -> None:
        """Note a key whose making was acknowledged."""
        self.lives[token] = life = Life(token, key_id, expires)
        life.turns.append(Turn("live", begun, acked))
        (self.live if expires == math.inf else self.expiring).append(token)

    def revoking(self, token: str, begun: float) -> Turn:
        """Note that a key is being revoked; the acknowledgement goes into what is returned."""
        turn = Turn("revoked", begun)
        self.lives[token].turns.append(turn)
        self.keep(token)
        if token not in self.ended:
            self.ended.append(token)
        return turn

    def keep(self, token: str) -> None:
        """Have nobody call or revoke a key at random any more, who takes it from those that live."""
        if token in self.live:
            self.live.remove(token)

    def revocations(self) -> Iterator[tuple[str, float]]:
        """Yield the newest keys that were revoked, and when that was acknowledged."""
        for token in self.ended[-KEPT_IN_MIND:]:
            turn = self.lives[token].turns[-1]
            if turn.state == "revoked" and turn.acked is not None:
                yield token, turn.acked

    def unsettled(self) -> list[str]:
        """Return the keys whose last revocation nobody has acknowledged."""
        return [token for token, life in self.lives.items() if life.turns[-1].acked is None]

    def replaced(self, found: Mapping[str, State], begun: float, acked: float) -> list[str]:
        """Take what a restored store holds, by key id, for the truth; return the tokens that it changed.

        It may have been so from ``begun`` on, and was so by ``acked``.
        """
        changed = []
        for token, life in self.lives.items():
            state = found.get(life.key_id, "absent")
            if state != life.turns[-1].state or life.turns[-1].acked is None:
                changed.append(token)
            life.turns.append(Turn(state, begun, acked))
        states = {token: life.turns[-1].state for token, life in self.lives.items()}
        self.live = [t for t, state in states.items() if state == "live" and t not in self.expiring]
        self.ended = [t for t, state in states.items() if state == "revoked"]
        return changed

    def differences(self, found: Mapping[str, State]) -> list[str]:
        """Return how a store differs from what was acknowledged, a sentence each; ``found`` by key id."""
        return [
            f"{life.key_id} is {found.get(life.key_id, 'absent')} in the store: {life}"
            for life in self.lives.values()
            if life.turns[-1].acked is not None and found.get(life.key_id, "absent") != life.turns[-1].state
        ]
