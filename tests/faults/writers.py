"""Those who make and revoke keys all the time, through the domain service, and note what was acknowledged."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import random
import secrets
import time
from collections.abc import Callable

from gateway.control.domain import DomainService
from gateway.core.tokens import Digester, make_token
from gateway.store.base import Actor, Store, StoreError
from tests.faults.truth import State, Truth, now

ACTOR = Actor(name="judge", source="test")
LIVE_AT_LEAST = 30
LIVE_AT_MOST = 90
DUE_S = 4.0


class QuickHasher:
    """Makes no argon2id string: what is judged here is found by its digest, and a core has better to do."""

    async def hash(self, secret: str) -> str:
        return f"$argon2id$made-up${secrets.token_hex(8)}"

    async def verify(self, encoded: str, secret: str) -> bool:
        return False


class Writers:
    """Makes and revokes keys of one store at random; ``chance`` decides what comes next."""

    def __init__(self, truth: Truth, chance: random.Random, *, count: int = 3, every_s: float = 0.12) -> None:
        self.faults = 0
        self.done = 0
        self._truth = truth
        self._chance = chance
        self._count = count
        self._every_s = every_s
        self._store: Store | None = None
        self._digester: Digester | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def use(self, store: Store, digester: Digester) -> None:
        """Write to this store from now on."""
        self._store, self._digester = store, digester
        self._service = DomainService(store, digester, QuickHasher(), {})

    def start(self) -> None:
        """Begin; on the stage."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._go_on()) for _ in range(self._count)]

    async def stop(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    def check(self) -> None:
        """Raise what ended a writer that should not have ended."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def settle(self, within_s: float = 15.0) -> None:
        """Revoke again what was revoked without an answer, until each has one."""
        deadline = now() + within_s
        while unsettled := self._truth.unsettled():
            for token in unsettled:
                await self.revoke(token)
            assert now() < deadline, f"{len(unsettled)} revocations get no answer"

    async def make(self, *, lives_s: float | None = None) -> str | None:
        """Make a key, which expires in ``lives_s`` seconds; None without an answer."""
        begun = now()
        ends = None if lives_s is None else dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lives_s)
        wish = {"permission": "viewer", "expires_at": ends and ends.isoformat(timespec="milliseconds")}
        try:
            made = await self._service.create_key(ACTOR, tenant="default", name="judged", **wish)
        except StoreError:
            self.faults += 1
            return None
        expires = math.inf if lives_s is None else made.record.expires_at / 1000 - time.time() + now()
        self._truth.created(made.token, made.record.id, begun, now(), expires)
        self.done += 1
        return made.token

    async def make_editor(self) -> str:
        """Make a key that may make keys; it is nobody's to revoke."""
        made = await self._service.create_key(ACTOR, tenant="default", name="maker", permission="editor")
        return made.token

    async def revoke(self, token: str) -> bool:
        """Revoke a key; False without an answer."""
        turn = self._truth.revoking(token, now())
        try:
            await self._service.revoke_key(ACTOR, self._truth.id_of(token))
        except StoreError:
            self.faults += 1
            return False
        turn.acked = now()
        self.done += 1
        return True

    async def found(self) -> dict[str, State]:
        """Return what the store holds, by key id."""
        assert self._store is not None
        keys = await self._store.keys()
        return {key.id: "live" if key.revoked_at is None else "revoked" for key in keys}

    async def _go_on(self) -> None:
        while self._tasks:
            await self._write_one()
            await asyncio.sleep(self._every_s * 2 * self._chance.random())

    async def _write_one(self) -> None:
        live = self._truth.live
        if len(live) < LIVE_AT_LEAST or (len(live) < LIVE_AT_MOST and self._chance.random() < 0.55):
            await self.make()
        else:
            await self.revoke(self._chance.choice(live))


def chooser(truth: Truth, chance: random.Random, bound: float) -> Callable[[], str]:
    """Return who picks the next call's key: of those that live, that ended, were just made, never were.

    Those whose end has just become the gateways' business, ``bound`` seconds after it, come often.
    """

    def choose() -> str:
        kind = chance.random()
        if truth.expiring and kind < 0.08:
            return chance.choice(truth.expiring)
        if kind < 0.40 and truth.live:
            return chance.choice(truth.live)
        if kind < 0.55 and truth.live:
            return chance.choice(truth.live[-6:])
        if kind < 0.66 and truth.ended:
            return chance.choice(truth.ended[-12:])
        if kind < 0.84 and (due := _due(truth, bound)):
            return chance.choice(due)
        if kind < 0.93 and truth.ended:
            return chance.choice(truth.ended)
        return make_token("gw_live_", chance.choice)

    return choose


def _due(truth: Truth, bound: float) -> list[str]:
    at = now()
    return [token for token, acked in truth.revocations() if bound < at - acked < bound + DUE_S]
