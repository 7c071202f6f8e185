"""The embedded store: one SQLite file, one thread that works on it.

A connection lives for one piece of work. That costs a millisecond beside the 20 that a key's
argon2id takes, and means that a file which was replaced or came back is simply the file at the
path, and that no forgotten connection holds the log of one that is gone.

Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from gateway.store import operations as ops
from gateway.store.base import (
    Actor,
    AuditRow,
    DuplicateError,
    Environment,
    KeyRecord,
    StoreError,
    Tenant,
)
from gateway.store.sqlite_files import close, connect, prepare, told_as_store_error, use_wal
from gateway.store.sqlite_follow import SqliteFollower
from gateway.store.sqlite_steps import drive, schema_version
from gateway.store.steps import Row, Steps
from gateway.store.texts import Migration, migrations

BULK_BATCH = 1000
BULK_LARGEST_BATCH = 20_000
BULK_TRANSACTION_S = 0.5
"""How long one transaction of an import may take, so that a revocation never waits long behind it."""

R = TypeVar("R")


class SqliteStore:
    """A ``Store`` in one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Take the path; nothing is opened before the first use."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._held: sqlite3.Connection | None = None

    @property
    def location(self) -> str:
        """Return the path of the database file."""
        return str(self._path)

    @property
    def pepper_path(self) -> Path | None:
        """Return the pepper's place beside the database file."""
        return self._path.with_name(self._path.name + ".pepper")

    async def migrate(self) -> Sequence[str]:
        """Create the file if missing and bring its schema up to date; return what was applied."""
        return await self._in_thread(self._migrate)

    async def pepper_check(self) -> bytes | None:
        """Return the check value of the pepper that the store is tied to."""
        rows = await self._read("fact", ops.PEPPER_CHECK)
        return bytes(rows[0][0]) if rows else None

    async def tie_pepper(self, check: bytes) -> bytes:
        """Tie the store to a pepper unless it is tied; return the check value that holds."""
        return await self.write(ops.tie_pepper(check))

    async def write(self, work: Steps[R]) -> R:
        """Do a piece of work in one transaction, behind those of all other writers."""
        return await self._in_thread(functools.partial(self._transaction, "BEGIN IMMEDIATE", work))

    async def read(self, work: Steps[R]) -> R:
        """Do a piece of work that only reads, on one snapshot."""
        return await self._in_thread(functools.partial(self._transaction, "BEGIN", work))

    async def insert_key(self, record: KeyRecord, audit: AuditRow) -> KeyRecord:
        """Keep a new key and return it with its number."""
        return await self.write(ops.insert_key(record, audit))

    async def bulk_insert(self, records: Iterable[KeyRecord], actor: Actor) -> int:
        """Keep many keys in short transactions; other work goes between them."""
        source = iter(records)
        total, size = 0, BULK_BATCH
        await self._in_thread(self._hold)
        try:
            while batch := list(itertools.islice(source, size)):
                began = time.monotonic()
                total += await self.write(ops.insert_keys(batch, actor))
                fitting = size * BULK_TRANSACTION_S / (time.monotonic() - began)
                size = max(BULK_BATCH, min(int(fitting), 2 * size, BULK_LARGEST_BATCH))
        finally:
            await self._in_thread(self._release)
        return total

    async def revoke_key(self, key_id: str, at: int, by: str, audit: AuditRow) -> tuple[KeyRecord, bool]:
        """Revoke a key for good; return it, and whether this call did it."""
        return await self.write(ops.revoke_key(key_id, at, by, audit))

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return one key."""
        rows = await self._read("key", key_id)
        return ops.key_of(rows[0]) if rows else None

    async def keys(self, *, tenant_id: str | None = None) -> list[KeyRecord]:
        """Return the keys by tenant and number."""
        rows = await (self._read("keys") if tenant_id is None else self._read("keys_of_tenant", tenant_id))
        return [ops.key_of(row) for row in rows]

    async def insert_tenant(self, tenant: Tenant, audit: AuditRow) -> None:
        """Keep a new tenant."""
        await self.write(ops.insert_tenant(tenant, audit))

    async def change_tenant(
        self, tenant_id: str, changes: Mapping[str, Any], at: int, audit: AuditRow
    ) -> Tenant:
        """Change some of a tenant's fields and return it."""
        return await self.write(ops.change_tenant(tenant_id, changes, at, audit))

    async def tenant(self, tenant_id: str) -> Tenant | None:
        """Return one tenant."""
        rows = await self._read("tenant", tenant_id)
        return ops.tenant_of(rows[0]) if rows else None

    async def tenants(self) -> list[Tenant]:
        """Return the tenants by id."""
        return [ops.tenant_of(row) for row in await self._read("tenants")]

    async def insert_environment(self, environment: Environment, audit: AuditRow) -> None:
        """Keep a new environment of a tenant."""
        await self.write(ops.insert_environment(environment, audit))

    async def environments(self, *, tenant_id: str | None = None) -> list[Environment]:
        """Return the environments by tenant and id."""
        rows = await (
            self._read("environments")
            if tenant_id is None
            else self._read("environments_of_tenant", tenant_id)
        )
        return [ops.environment_of(row) for row in rows]

    def follow(self, boot_clock: Callable[[], float]) -> SqliteFollower:
        """Return a reader for a key table, with a thread and a connection of its own."""
        return SqliteFollower(self._path, boot_clock)

    async def close(self) -> None:
        """Wait for what is under way and let the thread go."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        # Shielded: a caller who goes away does not undo what is being committed.
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError:
            raise StoreError(f"the store {self._path} has been closed") from None
        return await asyncio.shield(future)

    async def _read(self, name: str, *args: object) -> list[Row]:
        return await self.read(ops.read(name, *args))

    def _transaction(self, begin: str, steps: Steps[R]) -> R:
        with told_as_store_error(self._path), self._connection() as connection:
            try:
                return drive(connection, begin, steps)
            except sqlite3.IntegrityError as error:
                raise DuplicateError("record", str(error)) from None

    def _migrate(self) -> list[str]:
        prepare(self._path)
        with told_as_store_error(self._path), self._connection() as connection:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                use_wal(connection)
            if not self._pending(connection):
                return []
            connection.execute("BEGIN IMMEDIATE")
            try:
                applied = self._pending(connection)
                for migration in applied:
                    drive(connection, None, ops.migration(migration, int(time.time() * 1000)))
                connection.execute("COMMIT")
            except BaseException:
                connection.rollback()
                raise
            return [migration.name for migration in applied]

    def _pending(self, connection: sqlite3.Connection) -> tuple[Migration, ...]:
        known = migrations()
        found = schema_version(connection)
        if found is None:
            raise StoreError(f"the store {self._path} is the database of another program")
        if found > known[-1].version:
            raise StoreError(
                f"the store {self._path} has schema {found}, newer than this program's {known[-1].version}:"
                " use the newer program"
            )
        return known[found:]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._held is not None:
            yield self._held
            return
        connection = connect(self._path, writable=True)
        try:
            yield connection
        finally:
            close(connection)

    def _hold(self) -> None:
        """Keep one connection over several transactions: its page cache pays in bulk work."""
        with told_as_store_error(self._path):
            if self._held is None:
                self._held = connect(self._path, writable=True)
                self._held.execute("PRAGMA cache_size = -262144")
                self._held.execute("PRAGMA wal_autocheckpoint = 20000")

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            close(held)
