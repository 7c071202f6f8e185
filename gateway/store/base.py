"""What every store remembers and promises: the records, the errors and the ``Store`` Protocol.

Engines (SQLite here) differ in how they wait, never in what they keep. Imports ``core`` only.

Promise: when a method that changes something returns, the change, its audit row and its number in
the change log are durable together; when it raises, none of them is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from gateway.core.model import Permission

DEFAULT_TENANT = "default"
DAY_MS = 86_400_000
KEPT_AFTER_END_MS = 30 * DAY_MS
"""How long a key that has ended can still be told from one that never was."""

T = TypeVar("T")
KeyStatus = Literal["active", "expired", "revoked"]
ChangeKind = Literal["key", "tenant", "environment"]


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


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key as stored; instants are epoch milliseconds, ``number`` is given by the store (1, 2, …).

    ``digest`` is HMAC-SHA-256(pepper ``pepper_id``, token), ``verifier`` the token's argon2id
    string, ``locator`` the leading part of the token that finds it. The token itself is nowhere.
    """

    id: str
    number: int = 0
    tenant_id: str
    environment_id: str | None = None
    subject_id: str
    sub_type: str = "apiKey"
    created_by: str
    created_by_key: str | None = None
    name: str
    description: str = ""
    role: str
    permission: Permission
    intended_use: str | None = None
    prefix: str
    last_four: str
    hash_algo: str = "argon2id"
    created_at: int
    updated_at: int
    expires_at: int
    revoked_at: int | None = None
    revoked_by: str | None = None
    replaces: str | None = None
    last_used_at: int | None = None
    digest: bytes | None
    pepper_id: str | None
    locator: str
    verifier: str

    def status(self, now_ms: int) -> KeyStatus:
        """Return what the key is at ``now_ms``: revoked, else expired, else active."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if now_ms >= self.expires_at else "active"

    def __repr__(self) -> str:
        return f"KeyRecord(id={self.id!r}, tenant_id={self.tenant_id!r}, number={self.number})"


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation and its settings; None leaves a setting to the gateway's own policy."""

    id: str
    name: str
    api_keys_enabled: bool | None = None
    max_keys_per_user: int | None = None
    max_api_key_expiry: str | None = None
    scim_client_expiry: str | None = None
    created_at: int
    updated_at: int


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a tenant whose tokens begin with ``prefix``."""

    id: str
    tenant_id: str
    prefix: str
    created_at: int
    updated_at: int


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who changes something, and from where (``cli:ann@host``, a subject's id)."""

    name: str
    source: str = "cli"
    request_id: str | None = None


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the audit: who did what to which entity, when, from where."""

    id: str
    at: int
    actor: str
    action: str
    kind: ChangeKind
    entity: str
    tenant_id: str | None
    source: str
    request_id: str | None = None
    detail: str | None = None


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
    """What the key table needs of one key."""

    digest: bytes
    id: str
    subject_id: str
    tenant_id: str
    environment_id: str | None
    role: str
    permission: str
    expires_at: int
    revoked_at: int | None


class Scopes(msgspec.Struct, frozen=True):
    """The small tables, whole: every tenant, and every prefix that environments give."""

    tenants: tuple[Tenant, ...]
    prefixes: tuple[str, ...]


class Unchanged(msgspec.Struct, frozen=True):
    """Nothing has changed since the position that was shown."""

    offset_s: float


class Delta(msgspec.Struct, Generic[T], frozen=True):
    """What followed a position: ``scopes`` is None when no tenant or environment changed.

    ``more`` says that further changes wait. ``latest_at`` is when the newest one was committed.
    """

    position: Position
    keys: list[T]
    scopes: Scopes | None
    more: bool
    latest_at: int
    offset_s: float


class Reload(msgspec.Struct, frozen=True):
    """The history is not the one that was shown: everything has to be read again."""

    why: str


class LoadStart(msgspec.Struct, frozen=True):
    """The head of a full load, read in the same snapshot as the keys that follow."""

    position: Position
    scopes: Scopes
    pepper_check: bytes | None
    offset_s: float


class Follower(Protocol):
    """Reads what a key table needs, on a connection of its own that never writes.

    ``offset_s`` in its results is the store's clock (epoch seconds) less the boot clock. Every
    method raises StoreError when the store could not be read.
    """

    async def poll(self, position: Position, build: Callable[[LiveRow], T]) -> Unchanged | Delta[T] | Reload:
        """Return what follows ``position``; ``build`` runs on each key, off the event loop."""
        ...

    async def begin_load(self) -> LoadStart:
        """Open a snapshot for a full load: of the keys that live or ended less than 30 days ago."""
        ...

    def batches(self, build: Callable[[LiveRow], T]) -> AsyncGenerator[list[T], None]:
        """Stream the keys of the snapshot that ``begin_load`` opened, and close it at the end."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


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

    async def migrate(self) -> Sequence[str]:
        """Create the store if missing, apply what is new, return the names of what was applied.

        Raises StoreError when it cannot be had, or is newer than this program.
        """
        ...

    async def pepper_check(self) -> bytes | None:
        """Return the check value of the pepper that the store is tied to; None when to none yet."""
        ...

    async def tie_pepper(self, check: bytes) -> bytes:
        """Tie the store to a pepper unless it is tied already; return the check value that holds."""
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

    async def update_tenant(self, tenant: Tenant, audit: AuditRow) -> None:
        """Keep a tenant's new name and settings. Raises UnknownEntityError."""
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

    async def audit(self, *, limit: int = 1000) -> list[AuditRow]:
        """Return the newest rows of the audit, newest first."""
        ...

    def follow(self, boot_clock: Callable[[], float]) -> Follower:
        """Return a reader for a key table; it opens the store at its first read."""
        ...

    async def close(self) -> None:
        """Let go of everything; safe to call twice."""
        ...
