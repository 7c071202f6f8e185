"""Fill a PostgreSQL store with keys fast: by COPY, and with the indexes made afterwards.

Past the store's own door, which writes each key's change too and keeps every index at each of them.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import msgspec

from gateway.keys.opening import opened_store
from gateway.store.operations import values_of
from gateway.store.texts import queries
from tests.bench.store import records

_DROP_EACH = """
SELECT format('DROP INDEX %I', indexname), indexdef FROM pg_indexes
WHERE tablename = 'api_keys' AND schemaname = current_schema()
    AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""


async def fill_postgres(url: str, count: int, *, pepper: str, sample: int = 0) -> list[str]:
    """Put ``count`` viewer keys into the database that ``url`` names; return the tokens of ``sample``."""
    async with opened_store(url, pepper=pepper, pepper_file=None) as (_, digester):
        tokens: list[str] = []
        kept = set(random.sample(range(count), min(sample, count)))
        await _copied(url, _rows(records(digester, count, kept, tokens)))
        return tokens


def _rows(made: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
    for number, record in zip(itertools.count(1), made, strict=False):
        yield values_of(msgspec.structs.replace(record, number=number))


async def _copied(url: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Put rows into an empty table of keys."""
    columns = re.search(r"\(([^)]*)\)", queries("postgres")["insert_key"])
    assert columns is not None
    names = [name.strip() for name in columns[1].split(",")]
    connection = await asyncpg.connect(url)
    try:
        indexes = await connection.fetch(_DROP_EACH)
        for drop, _ in indexes:
            await connection.execute(drop)
        await connection.copy_records_to_table("api_keys", records=rows, columns=names, timeout=600)
        for _, make in indexes:
            await connection.execute(make, timeout=600)
        await connection.execute("UPDATE tenants SET last_number = (SELECT COUNT(*) FROM api_keys)")
        await connection.execute("VACUUM ANALYZE api_keys", timeout=600)
    finally:
        connection.terminate()
