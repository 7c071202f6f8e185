"""Fill a store with keys fast, through the store's own door for bulk work."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from gateway.core.model import Permission
from gateway.core.tokens import DEFAULT_PREFIX, Digester, locator_of, make_token
from gateway.core.uuid7 import uuid7
from gateway.keys.peppers import open_digester
from gateway.store.base import Actor, KeyRecord
from gateway.store.urls import open_store

_YEAR_MS = 365 * 86_400_000
# Nobody proves these keys by argon2: their digests are there. A real hash would cost 50 ms a key.
_VERIFIER = "$argon2id$v=19$m=19456,t=2,p=1$YmVuY2htYXJrLXNhbHQ$" + "A" * 43


async def fill(path: Path, count: int, *, sample: int = 0) -> list[str]:
    """Put ``count`` viewer keys into the store at ``path``; return the tokens of ``sample`` of them."""
    store = open_store(f"sqlite://{path}")
    try:
        await store.migrate()
        digester = await open_digester(store)
        tokens: list[str] = []
        kept = set(random.sample(range(count), min(sample, count)))
        await store.bulk_insert(records(digester, count, kept, tokens), Actor(name="bench"))
        return tokens
    finally:
        await store.close()


def records(digester: Digester, count: int, kept: set[int], tokens: list[str]) -> Iterator[KeyRecord]:
    """Make ``count`` viewer keys; the tokens of those whose places are ``kept`` go to ``tokens``."""
    now = int(time.time() * 1000)
    choose = random.Random(secrets.randbits(64)).choice
    for number in range(count):
        token = make_token(DEFAULT_PREFIX, choose)
        if number in kept:
            tokens.append(token)
        entropy = random.randbytes(20)
        yield KeyRecord(
            id="apk_" + uuid7(now, entropy[:10]),
            tenant_id="default",
            subject_id="subject_" + uuid7(now, entropy[10:]),
            created_by="bench",
            name=f"bench {number}",
            role="viewer",
            permission=Permission.VIEWER,
            prefix=token[: len(DEFAULT_PREFIX) + 4],
            last_four=token[-4:],
            created_at=now,
            updated_at=now,
            expires_at=now + _YEAR_MS,
            digest=digester.digest(token.encode()),
            pepper_id=digester.pepper_ids[0],
            locator=locator_of(token, DEFAULT_PREFIX),
            verifier=_VERIFIER,
        )
