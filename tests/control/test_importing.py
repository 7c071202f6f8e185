"""An import as a whole: what it makes of lines, what it finds there already, what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.control import importing
from gateway.control.errors import Conflict
from gateway.control.importing import Imported, KeyImport
from gateway.control.lifetime import rfc3339
from gateway.control.passwords import Argon2Pool
from gateway.core.model import Permission, Role
from gateway.core.tokens import Digester
from gateway.store.base import DAY_MS, DuplicateError, Environment, KeyRecord, Store
from gateway.store.peppers import begin_rotation, tie_pepper
from gateway.store.urls import open_store
from tests.control.test_import_lines import ARGON2ID, OURS
from tests.store.samples import ACTOR, a_tenant, audit, now_ms, pepper_of

ONE, BOTH = Digester([b"o" * 40]), Digester([b"n" * 40, b"o" * 40])
ROLES = {"MediaEditor": Role("MediaEditor", Permission.EDITOR)}

EXPIRES_AT = rfc3339(now_ms() // 1000 * 1000 + 30 * DAY_MS)


class Hasher:
    """Stands for argon2id, which others test."""

    def __init__(self) -> None:
        self.hashed: list[str] = []

    async def hash(self, secret: str) -> str:
        self.hashed.append(secret)
        return f"$argon2id$of-{len(self.hashed)}"

    async def verify(self, encoded: str, secret: str) -> bool:
        raise AssertionError("an import proves nothing")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    await store.write(tie_pepper(pepper_of(ONE)))
    yield store
    await store.close()


@pytest.fixture
def hasher() -> Hasher:
    return Hasher()


def a_line(number: int, **changes: Any) -> bytes:
    members = {
        "tenantId": "default",
        "name": f"key {number}",
        "permission": "viewer",
        "expiresAt": EXPIRES_AT,
        "token": f"token-of-another-system-{number}",
    } | changes
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode() + b"\n"


def a_cold_line(number: int, **changes: Any) -> bytes:
    return a_line(number, **({"token": ..., "argon2id": ARGON2ID, "locator": f"loc{number:05}"} | changes))


async def run(
    store: Store,
    hasher: Any,
    lines: Iterable[bytes],
    *,
    write: bool = True,
    digester: Digester = ONE,
    **options: Any,
) -> Imported:
    return await KeyImport(store, digester, hasher, ROLES).run(ACTOR, lines, write=write, **options)


async def only_fault(store: Store, hasher: Hasher, *lines: bytes) -> str:
    found = await run(store, hasher, lines)
    (bad,) = found.refused
    assert bad.line == len(lines)
    return bad.reason


async def kept(store: Store) -> dict[str, KeyRecord]:
    return {key.name: key for key in await store.keys()}


async def test_a_token_lives_by_its_digest_and_a_hash_by_itself(store: Store, hasher: Hasher) -> None:
    found = await run(
        store, hasher, [a_line(1), a_cold_line(2, lastFour="wxyz"), b"\n", a_line(3, token=OURS)]
    )
    assert (found.imported, found.present, found.without_verifier, found.refused) == (3, 0, 1, [])
    keys = await kept(store)
    first = keys["key 1"]
    assert (first.digest, first.pepper_id) == (ONE.digest(b"token-of-another-system-1"), ONE.pepper_ids[0])
    assert (first.verifier, first.hash_algo) == ("", "hmac-sha256")
    assert first.locator not in "token-of-another-system-1"
    assert not first.is_jwt
    second = keys["key 2"]
    assert (second.digest, second.pepper_id, second.verifier) == (None, None, ARGON2ID)
    assert (second.locator, second.last_four, second.hash_algo) == ("loc00002", "wxyz", "argon2id")
    third = keys["key 3"]
    assert (third.locator, third.verifier) == (OURS[:20], "$argon2id$of-1")
    assert hasher.hashed == [OURS]
    assert len({key.subject_id for key in keys.values()}) == 3


async def test_a_stated_locator_gets_a_token_a_verifier_unless_none_is_wanted(
    store: Store, hasher: Hasher
) -> None:
    lines = [a_line(1, locator="token")]
    found = await run(store, hasher, lines, verifiers=False)
    assert (found.without_verifier, hasher.hashed) == (1, [])
    found = await run(store, hasher, [a_line(2, locator="token-o")])
    assert (found.without_verifier, len(hasher.hashed)) == (0, 1)
    keys = await kept(store)
    assert [(keys[name].locator, keys[name].verifier) for name in ("key 1", "key 2")] == [
        ("token", ""),
        ("token-o", "$argon2id$of-1"),
    ]


async def test_optional_members_are_kept(store: Store, hasher: Hasher) -> None:
    environment = Environment(id="prod", tenant_id="default", prefix="qs_live_", created_at=1, updated_at=1)
    await store.insert_environment(environment, audit())
    line = a_line(
        1, description="für Ärzte", environmentId="prod", intendedUse="ci", permission="MediaEditor"
    )
    await run(store, hasher, [line])
    key = (await kept(store))["key 1"]
    assert (key.description, key.environment_id, key.intended_use) == ("für Ärzte", "prod", "ci")
    assert (key.role, key.permission) == ("MediaEditor", Permission.EDITOR)


async def test_during_a_rotation_both_digests_are_kept(store: Store, hasher: Hasher) -> None:
    newer = pepper_of(BOTH)
    await store.write(begin_rotation(newer, lambda _: None, audit(kind="pepper", entity=newer.id)))
    await run(store, hasher, [a_line(1)], digester=BOTH)
    key = (await kept(store))["key 1"]
    token = b"token-of-another-system-1"
    assert (key.digest, key.older_digest) == (BOTH.digest(token), ONE.digest(token))
    found = await run(store, hasher, [a_line(1)], digester=BOTH)
    assert (found.imported, found.present) == (0, 1)


async def test_nothing_is_written_when_it_is_only_tried(store: Store, hasher: Hasher) -> None:
    found = await run(store, hasher, [a_line(1), a_line(2, locator="token"), b"x"], write=False)
    assert (found.imported, len(found.refused)) == (2, 1)
    assert await store.keys() == []
    assert hasher.hashed == []


async def test_a_second_run_passes_over_what_is_there(store: Store, hasher: Hasher) -> None:
    lines = [a_line(1), a_cold_line(2), a_line(3, locator="token")]
    await run(store, hasher, lines)
    before = await store.keys()
    found = await run(store, hasher, [*lines, a_line(4)])
    assert (found.imported, found.present, found.refused) == (1, 3, [])
    assert (await store.keys())[:3] == before


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (a_line(1), a_line(1, name="x", permission="editor"), "which differs in name, permission"),
        (a_cold_line(1), a_cold_line(1, name="x"), "which differs in name"),
        (a_cold_line(1), a_cold_line(1, argon2id=ARGON2ID[:-1] + "Q"), "whose argon2id string is another"),
        (a_cold_line(1, locator="token-"), a_line(2, locator="token-"), "locator is that of another key"),
    ],
)
async def test_what_is_there_and_differs_is_refused(
    store: Store, hasher: Hasher, first: bytes, second: bytes, says: str
) -> None:
    await run(store, hasher, [first])
    assert says in await only_fault(store, hasher, second)
    assert len(await store.keys()) == 1


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (a_line(2, token="token-of-another-system-1"), "has the token of an earlier line"),
        (a_cold_line(2, locator="loc00001"), "has the locator of an earlier line"),
        (a_line(2, tenantId="nobody"), "tenantId names no tenant"),
        (a_line(2, environmentId="prod"), "environmentId names no environment of its tenant"),
        (a_line(2, permission="admin"), "permission must be one of"),
        (a_line(2, name=" "), "name must not be empty"),
        (a_line(2, name="a\u202eb"), "name must not hold control or invisible characters"),
        (a_line(2, expiresAt="tomorrow"), "expiresAt must be a date and time"),
        (a_line(2, expiresAt="2020-01-01T00:00:00Z"), "expiresAt must lie in the future"),
        (a_line(2, expiresAt=rfc3339(now_ms() + 367 * DAY_MS)), "expiresAt must be no later than"),
        (b'"' + b"x" * 70_000 + b'"', "is longer than 65536 bytes"),
    ],
)
async def test_a_wrong_line_is_told_by_its_number_and_the_others_are_kept(
    store: Store, hasher: Hasher, second: bytes, says: str
) -> None:
    lines = [a_line(1), a_cold_line(1), b"", second]
    assert says in await only_fault(store, hasher, *lines)
    assert len(await store.keys()) == 2


async def test_a_tenant_s_settings_hold(store: Store, hasher: Hasher) -> None:
    await store.insert_tenant(a_tenant("acme", max_api_key_expiry="P10D"), audit())
    await store.insert_tenant(a_tenant("off", api_keys_enabled=False), audit())
    assert "no later than" in await only_fault(store, hasher, a_line(1, tenantId="acme"))
    assert "switched off" in await only_fault(store, hasher, a_line(1, tenantId="off"))


async def test_locators_have_few_different_lengths(store: Store, hasher: Hasher) -> None:
    await run(store, hasher, [a_cold_line(n, locator="x" * (10 + n)) for n in range(5)])
    more = [a_cold_line(n, locator="y" * (14 + n)) for n in range(5)]
    found = await run(store, hasher, [*more, a_line(9, token=OURS)])
    (bad,) = found.refused
    assert (bad.line, found.imported) == (5, 5)
    assert "locator has 18 characters, and locators of 8 other lengths are there already" in bad.reason


async def test_many_lines_are_written_in_portions_in_order_of_their_faults(
    store: Store, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 10)
    lines = [a_line(n) if n % 7 else b"x" for n in range(25)]
    seen: list[bytes] = []
    found = await run(store, hasher, lines, progress=seen.append)
    assert [bad.line for bad in found.refused] == [1, 8, 15, 22]
    assert found.imported == 21
    assert seen == lines


async def test_who_comes_second_of_two_imports_at_once_is_told_to_run_again(
    store: Store, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(records: Any, actor: Any) -> int:
        raise DuplicateError("record", "")

    monkeypatch.setattr(store, "bulk_insert", taken)
    with pytest.raises(Conflict, match="run it again"):
        await run(store, hasher, [a_line(1)])


async def test_verifiers_are_made_side_by_side_within_the_pool_s_bounds(store: Store) -> None:
    pool = Argon2Pool(threads=os.cpu_count(), waiting_per_thread=1)
    many = [a_line(n, token=f"{n:04}-{'s' * 30}", locator=f"{n:04}-") for n in range(10)]
    try:
        found = await run(store, pool, many)
    finally:
        pool.close()
    assert (found.imported, found.without_verifier) == (10, 0)
