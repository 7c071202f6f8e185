"""What the table knows of login tokens follows the store: signing keys, and tokens that were logged out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.control.signing import Signing
from gateway.core.model import KeyTable, VerifyingKey
from gateway.keys.feed import Feed
from gateway.keys.table import TableWriter
from gateway.store.base import Store, TokenFacts
from gateway.store.login import end_token
from tests.keys.test_feed import DIGESTER, added, made, until
from tests.store.samples import ACTOR, audit, now_ms

HOUR_MS = 3_600_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await made(tmp_path / "gateway.db")
    yield store
    await store.close()


@pytest.fixture
def table() -> KeyTable:
    return KeyTable()


@pytest.fixture
def rekeyed() -> list[set[str]]:
    """Return the key ids that the table had each time its signing keys were said to be replaced."""
    return []


@pytest.fixture
async def feed(store: Store, table: KeyTable, rekeyed: list[set[str]]) -> AsyncIterator[Feed]:
    feed = Feed(store, table, DIGESTER, rekeyed=lambda: rekeyed.append(set(table.signing_keys)))
    yield feed
    await feed.stop()


async def ended(store: Store, jti: str, expires_at: int | None = None) -> None:
    until_ms = now_ms() + HOUR_MS if expires_at is None else expires_at
    change = audit("login.end", "ended_token", jti)
    assert await store.write(end_token(jti, "subject_ann", until_ms, now_ms(), change))


async def test_the_first_load_brings_signing_keys_and_every_token_that_was_logged_out(
    store: Store, table: KeyTable, feed: Feed, rekeyed: list[set[str]]
) -> None:
    """One that seems to have ended would live again, should the clock have been ahead and be set right."""
    signing = Signing(store, DIGESTER)
    first = await signing.ensure(ACTOR)
    await ended(store, "tok_1")
    await ended(store, "seems to have ended", now_ms() - 1000)
    await feed.sync()
    assert table.signing_keys == {first.kid: VerifyingKey(first.public_pem)}
    assert set(table.ended_tokens) == {"tok_1", "seems to have ended"}
    assert rekeyed == [{first.kid}]


async def test_changes_are_seen_within_a_second_and_each_moves_the_version(
    store: Store, table: KeyTable, feed: Feed, rekeyed: list[set[str]]
) -> None:
    feed.start()
    await until(feed.synced.is_set)
    version = table.version
    await ended(store, "tok_1")
    await until(lambda: "tok_1" in table.ended_tokens)
    assert table.version > version
    assert rekeyed == [set()], "the signing keys were not touched"
    signing = Signing(store, DIGESTER)
    first = await signing.ensure(ACTOR)
    await until(lambda: set(table.signing_keys) == {first.kid})
    version = table.version
    second = await signing.rotate(ACTOR)
    await until(lambda: set(table.signing_keys) == {first.kid, second.kid})
    assert table.version > version
    assert table.signing_keys[first.kid].retired_at == second.created_at
    assert table.signing_keys[second.kid].retired_at is None
    assert rekeyed[-1] == {first.kid, second.kid}
    assert "tok_1" in table.ended_tokens


async def test_other_changes_leave_them_alone(
    store: Store, table: KeyTable, feed: Feed, rekeyed: list[set[str]]
) -> None:
    await feed.sync()
    keys = table.signing_keys
    await added(store)
    await feed.sync()
    assert table.signing_keys is keys
    assert len(rekeyed) == 1


async def test_ended_tokens_are_forgotten_once_they_would_have_ended_themselves(
    store: Store, table: KeyTable
) -> None:
    now_s = [1000.0]
    feed = Feed(store, table, DIGESTER, clock=lambda: now_s[0])
    try:
        await ended(store, "soon", now_ms() + 60_000)
        await ended(store, "later", now_ms() + 3 * HOUR_MS)
        await feed.sync()
        assert set(table.ended_tokens) == {"soon", "later"}
        TableWriter(table).drop_ended_tokens(int(time.time() * 1000) + 120_000)
        assert set(table.ended_tokens) == {"later"}
    finally:
        await feed.stop()


def test_a_whole_load_replaces_and_a_change_adds() -> None:
    table = KeyTable()
    writer = TableWriter(table)
    writer.apply_tokens(TokenFacts((("k", "pem", None),), [("a", 1)], whole=True))
    writer.apply_tokens(TokenFacts(None, [("b", 2)]))
    assert set(table.signing_keys) == {"k"}
    assert table.ended_tokens == {"a": 1, "b": 2}
    writer.apply_tokens(TokenFacts((), [("c", 3)], whole=True))
    assert table.signing_keys == {}
    assert table.ended_tokens == {"c": 3}
