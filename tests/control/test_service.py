"""The domain service: what it makes, what it refuses, and what it never shows."""

from __future__ import annotations

import asyncio
import datetime
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.errors import Invalid, NotFound, Refused
from gateway.control.lifetime import instant, rfc3339
from gateway.control.names import checked_name
from gateway.control.passwords import Argon2Pool, HasherBusyError
from gateway.control.service import KeyService
from gateway.control.views import key_view
from gateway.core.model import Permission
from gateway.core.policy import KeyPolicy
from gateway.core.tokens import is_opaque
from gateway.store.base import Actor, Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher
from tests.store.samples import audited


async def test_a_new_key_is_stored_by_two_verifiers_and_never_as_itself(store: Store, tmp_path: Path) -> None:
    pool = Argon2Pool()
    service = KeyService(store, DIGESTER, pool, ROLES)
    made = await service.create_key(ANN, tenant="default", name="one", permission="editor")
    record = await store.key(made.record.id)
    assert record == made.record
    assert is_opaque(made.token.encode(), b"gw_live_")
    assert record.digest == DIGESTER.digest(made.token.encode())
    assert record.pepper_id == DIGESTER.pepper_ids[0]
    assert argon2.PasswordHasher().verify(record.verifier, made.token)
    assert record.verifier.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert (record.prefix, record.last_four) == (made.token[:12], made.token[-4:])
    assert record.locator == made.token[:20]
    await store.close()
    for file in tmp_path.iterdir():
        assert made.token.encode() not in file.read_bytes()
        assert made.token[20:].encode() not in file.read_bytes()
    assert made.token not in repr(made)
    pool.close()


async def test_the_json_of_a_new_key_has_the_members_of_the_resource(make: Callable[..., Any]) -> None:
    made = await make(ttl="30d", description="for builds", intended_use="ci-cd")
    view = key_view(made.record, NOW_MS, token=made.token)
    assert re.fullmatch(
        r"apk_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", view["id"]
    )
    assert re.fullmatch(r"subject_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}", view["subjectId"])
    del view["id"], view["subjectId"]
    assert view == {
        "keyId": 1,
        "tenantId": "default",
        "environmentId": None,
        "name": "one",
        "description": "for builds",
        "permission": "viewer",
        "prefix": made.token[:12],
        "lastFour": made.token[-4:],
        "hashAlgo": "argon2id",
        "createdBySubjectId": "cli:ann@here",
        "createdAt": "2026-03-01T12:30:45.678Z",
        "expiresAt": "2026-03-31T12:30:45.678Z",
        "lastUsedAt": None,
        "status": "active",
        "intendedUse": "ci-cd",
        "secretKey": made.token,
    }


async def test_the_secret_is_shown_this_once(make: Callable[..., Any], service: KeyService) -> None:
    made = await make()
    shown = [key_view(key, NOW_MS) for key in await service.list_keys()]
    shown.append(key_view(await service.show_key(made.record.id), NOW_MS))
    for view in shown:
        assert "secretKey" not in view
        assert made.token not in str(view)
        assert made.record.verifier not in str(view)


@pytest.mark.parametrize(
    ("given", "role", "permission"),
    [
        ("viewer", "viewer", Permission.VIEWER),
        ("EDITOR", "editor", Permission.EDITOR),
        ("MediaEditor", "MediaEditor", Permission.EDITOR),
    ],
)
async def test_permissions_are_known_names(
    make: Callable[..., Any], given: str, role: str, permission: Permission
) -> None:
    record = (await make(permission=given)).record
    assert (record.role, record.permission) == (role, permission)


@pytest.mark.parametrize("given", ["admin", "Boss", "mediaeditor", "", "viewer ", "root\r\n", "\u2174iewer"])
async def test_other_permissions_are_refused_with_the_known_ones(
    make: Callable[..., Any], given: str
) -> None:
    with pytest.raises(Invalid, match=r"^permission must be one of MediaEditor, editor, viewer$"):
        await make(permission=given)


@pytest.mark.parametrize(
    ("wish", "end"),
    [
        ({}, "2027-03-01T12:30:45.678Z"),
        ({"ttl": "P1Y"}, "2027-03-01T12:30:45.678Z"),
        ({"ttl": "365d"}, "2027-03-01T12:30:45.678Z"),
        ({"ttl": "500ms"}, "2026-03-01T12:30:46.178Z"),
        ({"expires_at": "2026-04-01T00:00:00Z"}, "2026-04-01T00:00:00.000Z"),
        ({"expires_at": "2026-04-01t02:00:00.5+02:00"}, "2026-04-01T00:00:00.500Z"),
        ({"expires_at": "2027-03-01T12:30:45.678Z"}, "2027-03-01T12:30:45.678Z"),
    ],
)
async def test_a_key_lives_as_long_as_asked_within_a_calendar_year(
    make: Callable[..., Any], wish: dict[str, str], end: str
) -> None:
    assert rfc3339((await make(**wish)).record.expires_at) == end


@pytest.mark.parametrize(
    ("wish", "member"),
    [
        ({"ttl": "366d"}, "ttl"),
        ({"ttl": "P1Y1D"}, "ttl"),
        ({"ttl": "0s"}, "ttl"),
        ({"ttl": "forever"}, "ttl"),
        ({"ttl": "P99999999999D"}, "ttl"),
        ({"ttl": "P9999Y"}, "ttl"),
        ({"ttl": "30d", "expires_at": "2026-04-01T00:00:00Z"}, "ttl"),
        ({"expires_at": "2027-03-01T12:30:45.679Z"}, "expiresAt"),
        ({"expires_at": "2026-03-01T12:30:45.678Z"}, "expiresAt"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"expires_at": "2026-04-01"}, "expiresAt"),
        ({"expires_at": "2026-04-01T00:00:00"}, "expiresAt"),
        ({"expires_at": "2026-02-30T00:00:00Z"}, "expiresAt"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expiresAt"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "expiresAt"),
        ({"expires_at": ""}, "expiresAt"),
    ],
)
async def test_any_other_lifetime_is_refused_and_names_its_member(
    make: Callable[..., Any], service: KeyService, wish: dict[str, str], member: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await make(**wish)
    assert refused.value.member == member
    assert await service.list_keys() == []


async def test_the_tenants_maximum_binds_new_keys(make: Callable[..., Any], service: KeyService) -> None:
    before = await make()
    await service.set_tenant(ANN, "default", max_api_key_expiry="PT24H")
    assert (await make()).record.expires_at == NOW_MS + 86_400_000
    with pytest.raises(Invalid, match="ttl must be no later than 2026-03-02"):
        await make(ttl="25h")
    assert (await service.show_key(before.record.id)).expires_at == before.record.expires_at
    for bad in ("PT0S", "soon", "P", "P1Y1D", "P367D", "P13M"):
        with pytest.raises(Invalid, match="max_api_key_expiry"):
            await service.set_tenant(ANN, "default", max_api_key_expiry=bad)


async def test_settings_of_a_tenant_are_its_own_or_the_policys(store: Store) -> None:
    policy = KeyPolicy(api_keys_enabled=False, max_keys_per_user=5, max_api_key_expiry="PT24H")
    service = KeyService(store, DIGESTER, FastHasher(), ROLES, policy, clock=lambda: NOW_MS / 1000)
    tenant = await service.show_tenant("default")
    assert service.policy_of(tenant) == policy
    with pytest.raises(Refused, match="switched off"):
        await service.create_key(ANN, tenant="default", name="one", permission="viewer")
    tenant = await service.set_tenant(ANN, "default", api_keys_enabled=True, max_keys_per_user=0)
    assert service.policy_of(tenant) == KeyPolicy(True, 0, "PT24H", "P365D")
    made = await service.create_key(ANN, tenant="default", name="one", permission="viewer")
    assert made.record.expires_at == NOW_MS + 86_400_000
    tenant = await service.set_tenant(ANN, "default", api_keys_enabled=None, scim_client_expiry="P2D")
    assert service.policy_of(tenant) == KeyPolicy(False, 0, "PT24H", "P2D")
    (newest,) = [row for row in await audited(store) if "scim" in (row.detail or "")]
    assert newest.detail == '{"api_keys_enabled":null,"scim_client_expiry":"P2D"}'
    for count in (-1, 1001):
        with pytest.raises(Invalid, match="max_keys_per_user"):
            await service.set_tenant(ANN, "default", max_keys_per_user=count)


async def test_a_leap_days_key_ends_on_the_last_of_february(
    make: Callable[..., Any], clock: list[float]
) -> None:
    clock[0] = datetime.datetime(2028, 2, 29, tzinfo=datetime.UTC).timestamp()
    assert rfc3339((await make()).record.expires_at) == "2029-02-28T00:00:00.000Z"


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", " x", "x ", "a\nb", "a\x00b", "a\x1bb", "a\u202eb", "a\u2066b", "a\ufeffb", "a\u2028b"),
        *("\ud800", "x" * 101, "e\u0301" * 101, "\ufdfa" * 9000),
    ],
)
async def test_names_that_deceive_or_overflow_are_refused(make: Callable[..., Any], name: str) -> None:
    with pytest.raises(Invalid) as refused:
        await make(name=name)
    assert refused.value.member == "name"
    assert name.strip() == "" or name not in str(refused.value)


@pytest.mark.parametrize("name", ["x", "x" * 100, "Ärzte & Söhne", "<b>", "ключ", "مفتاح", "👩\u200d💻"])
async def test_other_names_are_kept_in_nfc(make: Callable[..., Any], name: str) -> None:
    decomposed = unicodedata.normalize("NFD", name)
    assert (await make(name=decomposed)).record.name == unicodedata.normalize("NFC", name)


@given(st.text(max_size=200))
def test_no_name_raises_anything_but_invalid(name: str) -> None:
    try:
        kept = checked_name(name)
    except Invalid:
        return
    assert 1 <= len(kept) <= 100
    assert checked_name(kept) == kept


async def test_what_does_not_exist_is_not_found(make: Callable[..., Any], service: KeyService) -> None:
    with pytest.raises(NotFound, match="there is no tenant 'nobody'"):
        await make(tenant="nobody")
    with pytest.raises(NotFound, match="there is no environment 'nowhere'"):
        await make(environment="nowhere")
    with pytest.raises(NotFound, match="there is no key 'apk_none'"):
        await service.show_key("apk_none")
    with pytest.raises(NotFound):
        await service.revoke_key(ANN, "apk_none")
    with pytest.raises(NotFound):
        await service.list_keys(tenant="nobody")
    with pytest.raises(NotFound):
        await service.list_environments(tenant="nobody")
    with pytest.raises(NotFound):
        await service.set_tenant(ANN, "nobody", api_keys_enabled=True)


async def test_an_environment_gives_its_prefix_and_belongs_to_its_tenant(
    make: Callable[..., Any], service: KeyService
) -> None:
    await service.add_tenant(ANN, "acme")
    await service.add_environment(ANN, "prod", tenant="acme", prefix="qs_live_")
    made = await make(tenant="acme", environment="prod")
    assert is_opaque(made.token.encode(), b"qs_live_")
    assert made.record.prefix == made.token[: len("qs_live_") + 4]
    with pytest.raises(NotFound, match="environment"):
        await make(tenant="default", environment="prod")


@pytest.mark.parametrize(
    "prefix", ["gw_", "gw_live_x_", "", "_", "qs-live_", "qs_live", "ä_", "a" * 32 + "_", "1x_", "a b_"]
)
async def test_prefixes_that_could_be_mistaken_are_refused(service: KeyService, prefix: str) -> None:
    with pytest.raises(Invalid) as refused:
        await service.add_environment(ANN, "prod", tenant="default", prefix=prefix)
    assert refused.value.member == "prefix"


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "ä", "x" * 65, "a\r\nX-Evil: 1", "..", "."])
async def test_ids_that_are_unsafe_in_a_header_or_path_are_refused(service: KeyService, bad: str) -> None:
    with pytest.raises(Invalid, match=r"^tenant must be"):
        await service.add_tenant(ANN, bad, "a name")
    with pytest.raises(Invalid, match=r"^environment must be"):
        await service.add_environment(ANN, bad, tenant="default")


async def test_tenants_and_environments_exist_once(service: KeyService) -> None:
    assert (await service.add_tenant(ANN, "acme")).name == "acme"
    with pytest.raises(Refused, match="tenant 'acme' exists already"):
        await service.add_tenant(ANN, "acme")
    await service.add_environment(ANN, "e", tenant="acme")
    with pytest.raises(Refused, match="environment 'e' exists already"):
        await service.add_environment(ANN, "e", tenant="acme")
    assert [tenant.id for tenant in await service.list_tenants()] == ["acme", "default"]
    assert [found.id for found in await service.list_environments(tenant="acme")] == ["e"]


async def test_a_tenant_switched_off_makes_no_keys(make: Callable[..., Any], service: KeyService) -> None:
    await service.set_tenant(ANN, "default", api_keys_enabled=False)
    with pytest.raises(Refused, match="switched off"):
        await make()
    await service.set_tenant(ANN, "default", api_keys_enabled=True)
    await make()


async def test_revoking_twice_says_so_and_changes_nothing(
    make: Callable[..., Any], service: KeyService, store: Store, clock: list[float]
) -> None:
    key = (await make()).record
    first = await service.revoke_key(ANN, key.id)
    assert not first.already
    clock[0] += 60
    second = await service.revoke_key(Actor(name="bob"), key.id)
    assert second.already
    assert second.record == first.record
    assert (second.record.revoked_at, second.record.revoked_by) == (NOW_MS, ANN.name)
    assert key_view(second.record, NOW_MS)["revokedAt"] == "2026-03-01T12:30:45.678Z"
    assert sorted(row.action for row in await audited(store) if row.source == "cli") == [
        "key.create",
        "key.revoke",
    ]


async def test_status_is_derived(make: Callable[..., Any], service: KeyService, clock: list[float]) -> None:
    short, long, gone = [(await make(ttl=ttl)).record.id for ttl in ("1s", "1h", "1s")]
    await service.revoke_key(ANN, gone)
    clock[0] += 1

    async def ids(status: Any) -> list[str]:
        return [key.id for key in await service.list_keys(status=status)]

    assert await ids("active") == [long]
    assert await ids("expired") == [short]
    assert await ids("revoked") == [gone]
    assert await ids(None) == [short, long, gone]


async def test_every_change_is_audited_with_who_when_and_where(
    make: Callable[..., Any], service: KeyService, store: Store
) -> None:
    await service.add_tenant(ANN, "acme")
    await service.set_tenant(ANN, "acme", api_keys_enabled=False)
    await service.add_environment(ANN, "e", tenant="acme")
    made = await make()
    rows = [row for row in await audited(store) if row.actor == ANN.name]
    assert {(row.action, row.kind, row.entity) for row in rows} == {
        ("tenant.create", "tenant", "acme"),
        ("tenant.update", "tenant", "acme"),
        ("environment.create", "environment", "e"),
        ("key.create", "key", made.record.id),
    }
    assert {(row.at, row.source) for row in rows} == {(NOW_MS, "cli")}
    assert made.token not in str(rows)


async def test_the_pool_turns_away_what_it_could_not_do_soon() -> None:
    pool = Argon2Pool(threads=1, waiting_per_thread=2)
    results = await asyncio.gather(*(pool.hash(f"secret {i}") for i in range(5)), return_exceptions=True)
    assert [isinstance(result, HasherBusyError) for result in results] == [False, False, False, True, True]
    assert (await pool.hash("after")).startswith("$argon2id$")
    with pytest.raises(ValueError, match="at most 8192 bytes"):
        await pool.hash("x" * 8193)
    pool.close()


async def test_hashing_leaves_the_event_loop_free() -> None:
    pool = Argon2Pool(threads=1)
    hashing = asyncio.gather(*(pool.hash(f"secret {i}") for i in range(5)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(set(await hashing)) == 5
    assert turns > 50
    pool.close()


@given(st.integers(0, 253_402_300_799_999))
def test_instants_survive_their_text(at: int) -> None:
    assert instant(rfc3339(at), member="x") == at


def test_the_default_clock_is_the_wall_clock(store: Store) -> None:
    service = KeyService(store, DIGESTER, FastHasher(), {})
    assert abs(service.now_ms() - time.time() * 1000) < 60_000
