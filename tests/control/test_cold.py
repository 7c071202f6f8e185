"""Cold keys at the control API: proven once, warm from then on, and guessed at seldom."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest

from gateway.control.cold import FAILURES, ColdKeys, cold_pool
from gateway.control.domain import DomainService
from gateway.control.errors import Busy, Unauthenticated
from gateway.control.passwords import Argon2Pool
from gateway.control.service import KeyService
from gateway.core.tokens import Digester, make_token
from gateway.store.base import KeyRecord, Store
from gateway.store.peppers import end_rotation, tie_pepper
from gateway.store.urls import open_store
from tests.control.test_importing import Hasher
from tests.store.samples import ACTOR, a_key, audit, audit_of, now_ms, pepper_of

DIGESTER = Digester([b"o" * 40])
QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
TOKEN = "pk_12345.a-token-of-another-system"


class Counting(Argon2Pool):
    """The real pool, which counts."""

    def __init__(self) -> None:
        super().__init__(1, waiting_per_thread=8)
        self.verified = 0

    async def verify(self, encoded: str, secret: str) -> bool:
        self.verified += 1
        return await super().verify(encoded, secret)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    await store.write(tie_pepper(pepper_of(DIGESTER)))
    yield store
    await store.close()


class Case:
    def __init__(self, store: Store) -> None:
        self.now = 1000.0
        self.pool = Counting()
        self.service = DomainService(store, DIGESTER, Hasher(), {})
        self.service.cold = ColdKeys(store, DIGESTER, self.pool, lambda: self.now)


@pytest.fixture
def case(store: Store):  # type: ignore[no-untyped-def]
    case = Case(store)
    yield case
    case.pool.close()


async def kept_cold(store: Store, token: str = TOKEN, **fields: object) -> KeyRecord:
    values = {"digest": None, "pepper_id": None, "verifier": QUICK.hash(token), "locator": token[:9]}
    record = a_key(**(values | fields))
    return await store.insert_key(record, audit_of(record))


async def test_a_cold_key_is_proven_once_and_found_by_its_digest_then(store: Store, case: Case) -> None:
    record = await kept_cold(store)
    for _ in range(3):
        assert (await case.service.principal_of_key(TOKEN.encode())).key_id == record.id
    assert case.pool.verified == 1
    kept = await store.key(record.id)
    assert kept is not None
    assert kept.digest == DIGESTER.digest(TOKEN.encode())


async def test_what_has_ended_is_told_to_whoever_has_the_token_alone(store: Store, case: Case) -> None:
    await kept_cold(store, revoked_at=now_ms(), revoked_by="x")
    with pytest.raises(Unauthenticated, match="key_unknown"):
        await case.service.principal_of_key(TOKEN.encode() + b"x")
    with pytest.raises(Unauthenticated, match="key_revoked"):
        await case.service.principal_of_key(TOKEN.encode())


@pytest.mark.parametrize("token", ["nobody-knows-this-token", "pk_12345", "eyJh.eyJh.AAAA"])
async def test_what_is_no_cold_key_s_runs_no_argon2id(store: Store, case: Case, token: str) -> None:
    await kept_cold(store)
    with pytest.raises(Unauthenticated, match="key_unknown"):
        await case.service.principal_of_key(token.encode())
    assert case.pool.verified == 0


async def test_wrong_check_digits_run_no_argon2id(store: Store, case: Case) -> None:
    token = make_token("gw_live_", random.Random(1).choice)
    await kept_cold(store, token, locator=token[:20])
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    with pytest.raises(Unauthenticated, match="key_unknown"):
        await case.service.principal_of_key(wrong.encode())
    assert case.pool.verified == 0
    await case.service.principal_of_key(token.encode())


async def test_a_signed_key_is_found_by_its_id(store: Store, case: Case) -> None:
    service = KeyService(store, DIGESTER, QuickHasher(), {})
    made = await service.create_key(ACTOR, tenant="default", name="k", permission="viewer", form="jwt")
    other = await kept_cold(store)
    await store.write(end_rotation([DIGESTER.pepper_ids[0]], now_ms(), audit(kind="pepper")))
    newer = Digester([b"n" * 40])
    case.service.cold = ColdKeys(store, newer, case.pool)
    assert (await case.service.principal_of_key(made.token.encode())).key_id == made.record.id != other.id


class QuickHasher(Hasher):
    async def hash(self, secret: str) -> str:
        return QUICK.hash(secret)


async def test_wrong_tokens_of_one_key_are_tried_no_oftener_than_their_rate(store: Store, case: Case) -> None:
    await kept_cold(store)
    await kept_cold(store, "another-token-of-another", locator="another-t")
    refused = 0
    for n in range(100):
        try:
            await case.service.principal_of_key(f"{TOKEN}-{n}".encode())
        except Busy:
            refused += 1
        except Unauthenticated:
            pass
    assert case.pool.verified == FAILURES.quota
    assert refused == 100 - FAILURES.quota
    await case.service.principal_of_key(b"another-token-of-another")
    case.now += FAILURES.window_s / FAILURES.quota
    await case.service.principal_of_key(TOKEN.encode())


async def test_a_pool_that_is_full_is_told_as_that(store: Store, case: Case) -> None:
    await kept_cold(store)
    case.pool.close()
    full = cold_pool()
    full._pending = full._most
    case.service.cold = ColdKeys(store, DIGESTER, full)
    try:
        with pytest.raises(Busy):
            await case.service.principal_of_key(TOKEN.encode())
    finally:
        full.close()
