"""Bring the schema of a PostgreSQL store up to date, however many gateways start at once.

Imports ``store`` only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import asyncpg

from gateway.store import operations as ops
from gateway.store.base import StoreError
from gateway.store.postgres_link import Link, drive
from gateway.store.texts import Migration, migrations, queries

MIGRATION_S = 600.0
"""How long a statement may take, and how long whoever comes second waits for the first."""


async def migrate(link: Link, location: str) -> list[str]:
    """Apply what is new, all of it or nothing; return its names. Raises StoreError."""
    texts = queries("postgres")
    await link.script(texts["begin_look"])
    # Asked first without the lock: nearly always there is nothing to do.
    pending = await _pending(link, location)
    await link.script("COMMIT")
    if not pending:
        return []
    await link.script(texts["begin_migration"], within_s=MIGRATION_S)
    pending = await _pending(link, location)
    try:
        for migration in pending:
            await drive(link, ops.migration(migration, int(time.time() * 1000)), within_s=MIGRATION_S)
    except asyncpg.DuplicateTableError:
        raise StoreError(
            f"the store {location} holds tables of another program that are called as the gateway's are:"
            " give the gateway a database or a schema of its own"
        ) from None
    await link.script("COMMIT")
    return [migration.name for migration in pending]


async def schema_version(link: Link, location: str) -> int:
    """Return the schema's number, 0 where there is none; a transaction must be open."""
    texts = queries("postgres")
    ((columns, ours),) = await link.rows(texts["schema_columns"])
    if not columns:
        return 0
    if ours != 3:
        raise StoreError(
            f"the store {location} has a table schema_migrations of another program:"
            " give the gateway a database or a schema of its own"
        )
    return int((await link.rows(texts["schema_version"]))[0][0])


async def check_schema(link: Link, location: str) -> None:
    """Raise StoreError unless the schema is this program's; a transaction must be open."""
    version = await schema_version(link, location)
    newest = migrations()[-1].version
    if not version:
        raise StoreError(f"the database {location} is no gateway store (yet)")
    if version != newest:
        word = "newer" if version > newest else "older"
        raise StoreError(f"the store {location} has schema {version}, {word} than this program's {newest}")


async def _pending(link: Link, location: str) -> Sequence[Migration]:
    found = await schema_version(link, location)
    known = migrations()
    if found > known[-1].version:
        raise StoreError(
            f"the store {location} has schema {found}, newer than this program's {known[-1].version}:"
            " use the newer program"
        )
    return [migration for migration in known if migration.version > found]
