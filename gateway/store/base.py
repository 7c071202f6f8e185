"""What every store promises: the errors and the ``Store`` Protocol, with the records it speaks of.

Engines (SQLite here) differ in how they wait, never in what they keep. Imports ``core`` only.

Promise: when a method that changes something returns, the change, its audit row and its number in
the change log are durable together; when it raises, none of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gateway.store.history import (
    ANSWER_S,
    Change,
    Delta,
    Follower,
    LiveRow,
    LoadStart,
    Position,
    Reload,
    Scopes,
    TokenFacts,
    Unchanged,
    Users,
)
from gateway.store.records import (
    DAY_MS,
    DEFAULT_TENANT,
    KEPT_AFTER_END_MS,
    Actor,
    AuditRow,
    ChangeKind,
    Environment,
    KeyRecord,
    KeyStatus,
    Membership,
    Person,
    SigningKey,
    Tenant,
    User,
)
from gateway.store.steps import Steps

R = TypeVar("R")

__all__ = [
    "ANSWER_S",
    "DAY_MS",
    "DEFAULT_TENANT",
    "KEPT_AFTER_END_MS",
    "Actor",
    "AuditRow",
    "CapError",
    "Change",
    "ChangeKind",
    "Delta",
    "DuplicateError",
    "EndedError",
    "Environment",
    "Follower",
    "KeyRecord",
    "KeyStatus",
    "LiveRow",
    "LoadStart",
    "MakerEndedError",
    "Membership",
    "Person",
    "Position",
    "Reload",
    "Scopes",
    "SigningKey",
    "Store",
    "StoreError",
    "StoreUrlError",
    "Tenant",
    "TokenFacts",
    "Unchanged",
    "UnknownEntityError",
    "User",
    "Users",
]


class StoreError(Exception):
    """The store could not be had or read: missing, locked, of another kind, newer than this program."""


class StoreUrlError(ValueError):
    """The store's URL does not name a store that this version can open."""


class UnknownEntityError(LookupError):
    """What a change refers to (a tenant, an environment, a key) is not in the store."""

    def __init__(self, kind: str, entity: str) -> None:
        super().__init__(f"no {kind} {entity!r}")
        self.kind = kind
        self.entity = entity


class DuplicateError(ValueError):
    """The entity is in the store already."""

    def __init__(self, kind: str, entity: str) -> None:
        super().__init__(f"{kind} {entity!r} exists already")
        self.kind = kind
        self.entity = entity


class CapError(ValueError):
    """The subject at the root of a key's lineage has as many active keys as she may."""

    def __init__(self, cap: int) -> None:
        super().__init__(f"no more than {cap} active keys are allowed: revoke one first")
        self.cap = cap


class MakerEndedError(ValueError):
    """Who makes a key has lost the right to meanwhile, or the user for whom it is to act has left."""

    def __init__(self) -> None:
        super().__init__("whoever makes the key has lost the right to meanwhile")


class EndedError(ValueError):
    """The key has ended, and what was asked for is for active keys only."""

    def __init__(self, key_id: str, status: KeyStatus) -> None:
        super().__init__(f"the key {key_id!r} is {status}")
        self.status = status


class Store(Protocol):
    """Remembers keys, tenants, environments, the audit and the change log."""

    @property
    def location(self) -> str:
        """Return where the store is, for people: a path or a URL without secrets."""
        ...

    @property
    def pepper_path(self) -> Path | None:
        """Return where this store keeps its own pepper; None when it cannot keep one."""
        ...

    @property
    def has_clock(self) -> bool:
        """Tell whether the store has a clock of its own; else time is this machine's."""
        ...

    async def migrate(self) -> Sequence[str]:
        """Create the store if missing, apply what is new, return the names of what was applied.

        Raises StoreError when it cannot be had, or is newer than this program.
        """
        ...

    async def write(self, work: Steps[R], *, alone: bool = True) -> R:
        """Do a piece of work in one transaction, which other writers wait for; return its result.

        What the work raises is raised here, and leaves nothing behind. Work that takes no number of the
        change log may do without being ``alone``: where the engine can have several writers, it holds
        up nobody but those who touch the same rows, and sees what they have committed meanwhile.
        """
        ...

    async def read(self, work: Steps[R]) -> R:
        """Do a piece of work that only reads, on one snapshot; return its result."""
        ...

    async def insert_key(self, record: KeyRecord, audit: AuditRow) -> KeyRecord:
        """Keep a new key and return it with its number.

        Raises UnknownEntityError for its tenant or environment, DuplicateError for a second of its
        kind.
        """
        ...

    async def bulk_insert(self, records: Iterable[KeyRecord], actor: Actor) -> int:
        """Keep many keys, in transactions of well under a second each; return how many."""
        ...

    async def revoke_key(self, key_id: str, at: int, by: str, audit: AuditRow) -> tuple[KeyRecord, bool]:
        """Revoke a key for good; return it, and whether this call did it. Raises UnknownEntityError."""
        ...

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return one key."""
        ...

    async def keys(self, *, tenant_id: str | None = None) -> list[KeyRecord]:
        """Return the keys by tenant and number."""
        ...

    async def insert_tenant(self, tenant: Tenant, audit: AuditRow) -> None:
        """Keep a new tenant. Raises DuplicateError."""
        ...

    async def change_tenant(
        self, tenant_id: str, changes: Mapping[str, Any], at: int, audit: AuditRow
    ) -> Tenant:
        """Change some of a tenant's fields and return it. Raises UnknownEntityError."""
        ...

    async def tenant(self, tenant_id: str) -> Tenant | None:
        """Return one tenant."""
        ...

    async def tenants(self) -> list[Tenant]:
        """Return the tenants by id."""
        ...

    async def insert_environment(self, environment: Environment, audit: AuditRow) -> None:
        """Keep a new environment. Raises UnknownEntityError for its tenant, DuplicateError."""
        ...

    async def environments(self, *, tenant_id: str | None = None) -> list[Environment]:
        """Return the environments by tenant and id."""
        ...

    def follow(self, boot_clock: Callable[[], float], answer_s: float = ANSWER_S) -> Follower:
        """Return a reader for a key table; it opens the store at its first read.

        A question about changes that a network swallows is given up after ``answer_s`` seconds.
        """
        ...

    async def close(self) -> None:
        """Let go of everything; safe to call twice."""
        ...
