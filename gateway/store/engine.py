"""What the engines have in common: every method of a ``Store`` that is a piece of work to be run.

An engine says how work is written and read; what the work is, is the same for all. Imports ``core``
and ``store`` only.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gateway.store import operations as ops
from gateway.store.base import Actor, AuditRow, Environment, KeyRecord, Tenant
from gateway.store.steps import Row, Steps

BULK_BATCH = 1000
BULK_LARGEST_BATCH = 20_000
BULK_TRANSACTION_S = 0.5
"""How long one transaction of an import may take, so that a revocation never waits long behind it."""

R = TypeVar("R")


class Engine(ABC):
    """The part of a ``Store`` that rests on ``write`` and ``read``."""

    @abstractmethod
    async def write(self, work: Steps[R], *, alone: bool = True) -> R:
        """Do a piece of work in one transaction; return its result."""

    @abstractmethod
    async def read(self, work: Steps[R]) -> R:
        """Do a piece of work that only reads, on one snapshot; return its result."""

    def bulk(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Prepare for many transactions in a row."""
        return contextlib.nullcontext()

    async def insert_key(self, record: KeyRecord, audit: AuditRow) -> KeyRecord:
        """Keep a new key and return it with its number."""
        return await self.write(ops.insert_key(record, audit))

    async def bulk_insert(self, records: Iterable[KeyRecord], actor: Actor) -> int:
        """Keep many keys in short transactions; other work goes between them."""
        source = iter(records)
        total, size = 0, BULK_BATCH
        async with self.bulk():
            while batch := list(itertools.islice(source, size)):
                began = time.monotonic()
                total += await self.write(ops.insert_keys(batch, actor))
                fitting = size * BULK_TRANSACTION_S / (time.monotonic() - began)
                size = max(BULK_BATCH, min(int(fitting), 2 * size, BULK_LARGEST_BATCH))
        return total

    async def revoke_key(self, key_id: str, at: int, by: str, audit: AuditRow) -> tuple[KeyRecord, bool]:
        """Revoke a key for good; return it, and whether this call did it."""
        return await self.write(ops.revoke_key(key_id, at, by, audit))

    async def key(self, key_id: str) -> KeyRecord | None:
        """Return one key."""
        rows = await self._rows("key", key_id)
        return ops.key_of(rows[0]) if rows else None

    async def keys(self, *, tenant_id: str | None = None) -> list[KeyRecord]:
        """Return the keys by tenant and number."""
        rows = await (self._rows("keys") if tenant_id is None else self._rows("keys_of_tenant", tenant_id))
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
        rows = await self._rows("tenant", tenant_id)
        return ops.tenant_of(rows[0]) if rows else None

    async def tenants(self) -> list[Tenant]:
        """Return the tenants by id."""
        return [ops.tenant_of(row) for row in await self._rows("tenants")]

    async def insert_environment(self, environment: Environment, audit: AuditRow) -> None:
        """Keep a new environment of a tenant."""
        await self.write(ops.insert_environment(environment, audit))

    async def environments(self, *, tenant_id: str | None = None) -> list[Environment]:
        """Return the environments by tenant and id."""
        rows = await (
            self._rows("environments")
            if tenant_id is None
            else self._rows("environments_of_tenant", tenant_id)
        )
        return [ops.environment_of(row) for row in rows]

    async def _rows(self, name: str, *args: object) -> list[Row]:
        return await self.read(ops.read(name, *args))
