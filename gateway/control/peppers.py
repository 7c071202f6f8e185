"""Rotation of peppers: from one to a newer one without a new key for anybody.

A newer pepper is put where the older one is, as a further line, and every gateway is restarted with
both; nothing changes by that. Then the rotation begins: new digests are written under the newer
pepper as well as under the older, and keys that are seen go along. At its end the older one is
retired; keys that were never seen meanwhile are cold, and argon2id proves them when they are. In
that order a gateway that is updated late goes on finding every key. Imports ``core``, ``store`` and
its own plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import msgspec

from gateway.control.audit import AuditService
from gateway.control.errors import Conflict
from gateway.control.signing import Signing
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import Digester
from gateway.store.base import Actor, KeyRecord, Store
from gateway.store.peppers import (
    Pepper,
    UnfinishedError,
    begin_rotation,
    end_rotation,
    forget_digests,
    keys_only_under,
    peppers,
)

KEYS_AT_A_TIME = 5000
"""Keys whose digests are forgotten in one transaction: some milliseconds."""


class Standing(msgspec.Struct, frozen=True):
    """Where the rotation stands: the peppers in use, oldest first, and the newest at hand."""

    in_use: tuple[str, ...]
    at_hand: str

    @property
    def prepared(self) -> bool:
        """Tell whether there is a newer pepper that a rotation may begin with."""
        return self.at_hand not in self.in_use

    @property
    def begun(self) -> bool:
        """Tell whether a rotation has begun and is not finished."""
        return len(self.in_use) > 1


class RotationService(AuditService):
    """Begins and finishes the rotation of a store's peppers; ``digester`` has those at hand."""

    def __init__(
        self,
        store: Store,
        digester: Digester,
        signing: Signing,
        policy: KeyPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store, policy, clock)
        self._digester = digester
        self._signing = signing

    async def standing(self) -> Standing:
        """Return where the rotation stands."""
        known = await self._store.read(peppers())
        return Standing(
            in_use=tuple(pepper.id for pepper in known if pepper.retired_at is None),
            at_hand=self._digester.pepper_ids[0],
        )

    async def begin(self, actor: Actor, *, replacing: bool = False) -> str:
        """Put the newest pepper at hand in use, and seal the signing keys under it; return its id.

        Raises Conflict: there is none that is not in use already, or the last rotation is not finished,
        unless it is ``replacing`` one that was lost.
        """
        standing = await self.standing()
        if standing.begun and not replacing:
            raise Conflict(_unfinished(standing))
        if not standing.prepared:
            raise Conflict(f"pepper {standing.at_hand} is in use already, and no newer one is at hand")
        newest = standing.at_hand
        check = self._digester.check_values()[newest]
        audit = self._audit(actor, "pepper.rotate", "pepper", newest, None)
        try:
            await self._store.write(
                begin_rotation(
                    Pepper(newest, check, self.now_ms()),
                    lambda key: self._signing.resealed(key, newest),
                    audit,
                    replacing=replacing,
                )
            )
        except UnfinishedError:
            raise Conflict(_unfinished(await self.standing())) from None
        return newest

    async def unseen(self, retiring: Collection[str]) -> list[KeyRecord]:
        """Return the active keys that are cold once these peppers are retired."""
        return await self._store.read(keys_only_under(tuple(retiring), self.now_ms()))

    async def finish(self, actor: Actor, retiring: Collection[str]) -> None:
        """Retire peppers, but never the last in use; what is only known under them is cold from now on.

        Raises Conflict.
        """
        standing = await self.standing()
        if not set(standing.in_use) - set(retiring):
            raise Conflict("the only pepper in use cannot be retired: begin a rotation first")
        for pepper_id in retiring:
            detail = {"coldKeys": len(await self.unseen([pepper_id]))}
            audit = self._audit(actor, "pepper.finish", "pepper", pepper_id, None, detail=detail)
            await self._store.write(end_rotation([pepper_id], self.now_ms(), audit))
        await self.forget(retiring)

    async def forget(self, retired: Collection[str]) -> None:
        """Remove what is left of digests under retired peppers; again, where that was interrupted."""
        for pepper_id in retired:
            await self._forget(pepper_id)

    async def _forget(self, pepper_id: str) -> None:
        """Remove the digests under a retired pepper, which say nothing any more, should it be interrupted."""
        after: str | None = ""
        while after is not None:
            after = await self._store.write(forget_digests(pepper_id, after, KEYS_AT_A_TIME), alone=False)


def _unfinished(standing: Standing) -> str:
    older, newer = standing.in_use[0], standing.in_use[-1]
    return (
        f"the rotation from pepper {older} to {newer} is not finished: run `gateway pepper rotate --finish`"
    )
