"""The change log as its readers see it: positions, what followed them, and the one who reads.

Each change takes the next number of one counter in the transaction that makes it and carries a
random id, so numbers become visible in order and without gaps, and a reader who shows the id it
knows finds out when the history is no longer the one that it followed. Imports ``store`` only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.store.records import ChangeKind, Tenant

T = TypeVar("T")

ANSWER_S = 3.0
"""How long the answer to a question about changes may take, unless said otherwise."""


class Change(msgspec.Struct, frozen=True):
    """One entry of the change log: the next number of one counter, and a random id of its own."""

    number: int
    id: str
    kind: ChangeKind
    entity: str
    at: int


class Position(msgspec.Struct, frozen=True):
    """How far a reader has followed the change log: the last number and the id it knows for it."""

    number: int
    id: str


class LiveRow(msgspec.Struct, frozen=True, gc=False):
    """What the key table needs of one key.

    ``verifier`` is there for a cold key alone, whose digests count no more; ``locator`` then too, and
    for every key that changed.
    """

    digest: bytes | None
    id: str
    subject_id: str
    tenant_id: str
    environment_id: str | None
    role: str
    permission: str
    expires_at: int
    revoked_at: int | None
    sub_type: str = "apiKey"
    pepper_id: str | None = None
    older_digest: bytes | None = None
    older_pepper_id: str | None = None
    locator: str | None = None
    verifier: str | None = None


class Scopes(msgspec.Struct, frozen=True):
    """The small tables, whole: every tenant, and every prefix that environments give."""

    tenants: tuple[Tenant, ...]
    prefixes: tuple[str, ...]


Standing = tuple[str, str, str]
"""What an active user is in one tenant: her id, the tenant's, the role's word."""


class Users(msgspec.Struct, frozen=True):
    """What was read of users: those of ``ids`` (None: all), with the standing of those who have any.

    Whoever is disabled, removed or a member of nothing has none.
    """

    ids: frozenset[str] | None
    standings: list[Standing]


class TokenFacts(msgspec.Struct, frozen=True):
    """What was read of login tokens: the keys that sign them, and those that were logged out.

    Attributes:
        signing_keys: (kid, public PEM, retired at or None) of all, oldest first; None: unchanged.
        ended: (``jti``, when it would have ended by itself) of those that were logged out.
        whole: ``ended`` has all there are, and not only what was added.
    """

    signing_keys: tuple[tuple[str, str, int | None], ...] | None
    ended: list[tuple[str, int]]
    whole: bool = False


class Unchanged(msgspec.Struct, frozen=True):
    """Nothing has changed since the position that was shown."""

    offset_s: float


class Delta(msgspec.Struct, Generic[T], frozen=True):
    """What followed a position: ``scopes`` is None when no tenant or environment
    changed, ``users`` when no user did, ``tokens`` when nothing about login tokens did.

    ``more`` says that further changes wait. ``committed_at`` has when each change was written and
    ``canary_at`` when the newest canary among them was, if any, on the store's clock.
    """

    position: Position
    keys: list[T]
    scopes: Scopes | None
    users: Users | None
    tokens: TokenFacts | None
    more: bool
    committed_at: list[int]
    canary_at: int | None
    offset_s: float


class Reload(msgspec.Struct, frozen=True):
    """The history is not the one that was shown: everything has to be read again."""

    why: str


class LoadStart(msgspec.Struct, frozen=True):
    """The head of a full load, read in the same snapshot as the keys that follow.

    ``peppers`` are those in use, oldest first: id and check value. ``canary_at`` is when the newest
    canary was written, on the store's clock; 0 before any.
    """

    position: Position
    scopes: Scopes
    users: Users
    tokens: TokenFacts
    peppers: tuple[tuple[str, bytes], ...]
    canary_at: int
    offset_s: float


class Follower(Protocol):
    """Reads what a key table needs, on connections of its own that never write.

    One load and one ``poll`` may be under way at the same time, on a connection each. ``offset_s`` in
    their results is the store's clock (epoch seconds) less the boot clock. Unless said otherwise a
    method raises StoreError when the store could not be read.
    """

    async def changed(self, within_s: float) -> None:
        """Return when something may have changed, at the latest after ``within_s`` seconds.

        It is a hint that saves waiting and proves nothing; a store that is out is no error here.
        """
        ...

    async def poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        """Return what follows ``position``; ``build`` runs on each key, off the event loop."""
        ...

    async def begin_load(self) -> LoadStart:
        """Open a snapshot for a full load: of the keys that live or ended less than 30 days ago.

        One that was opened before and not read to its end is closed.
        """
        ...

    def batches(self, build: Callable[[LiveRow], T]) -> AsyncGenerator[list[T], None]:
        """Stream the keys of the snapshot that ``begin_load`` opened, and close it at the end."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...
