"""Users by the domain service: who they are, what they are where, and whether a password is theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.control.errors import Invalid, NotFound, Refused
from gateway.control.passwords import Argon2Pool
from gateway.control.service import KeyService
from gateway.control.views import user_view
from gateway.core.model import Permission
from gateway.store.base import Person, Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES
from tests.store.samples import a_key, audit_of, audited

PASSWORD = "correct horse battery staple"


@pytest.fixture
def add(service: KeyService) -> Callable[..., Any]:
    async def add(email: str = "ann@example.com", **fields: Any) -> Person:
        given = {"tenant": "default", "role": "editor", "password": PASSWORD} | fields
        return await service.add_user(ANN, email, **given)

    return add


async def test_a_user_is_shown_without_her_password(add: Callable[..., Any], store: Store) -> None:
    person = await add("Ann@Example.COM", role="ADMIN")
    view = user_view(person)
    assert view.pop("id").startswith("subject_")
    assert view == {
        "email": "ann@example.com",
        "enabled": True,
        "defaultTenantId": "default",
        "memberships": [{"tenantId": "default", "role": "admin"}],
        "createdAt": "2026-03-01T12:30:45.678Z",
    }
    text = f"{person!r} {view} {await audited(store)}"
    assert PASSWORD not in text
    assert person.user.password_hash not in text


async def test_who_exists_joins_another_tenant_and_keeps_her_password(
    add: Callable[..., Any], service: KeyService
) -> None:
    await service.add_tenant(ANN, "acme")
    await add()
    with pytest.raises(Refused, match="has a password already"):
        await add(tenant="acme")
    person = await add(tenant="acme", role="viewer", password=None)
    assert {m.tenant_id: m.role for m in person.memberships} == {
        "default": Permission.EDITOR,
        "acme": Permission.VIEWER,
    }
    assert person.user.default_tenant_id == "default"
    with pytest.raises(Refused, match="exists already"):
        await add(tenant="acme", password=None)
    assert await service.check_password("ANN@example.com", PASSWORD) == person
    person = await service.set_default_tenant(ANN, "ann@example.com", "acme")
    assert person.user.default_tenant_id == "acme"


@pytest.mark.parametrize(
    ("fields", "member"),
    [
        ({"email": "ann"}, "email"),
        ({"email": "a b@example.com"}, "email"),
        ({"email": "a:b@example.com"}, "email"),
        ({"email": "a\u202e@example.com"}, "email"),
        ({"email": "a@" + "x" * 254}, "email"),
        ({"role": "root"}, "role"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"password": "ä" * 600}, "password"),
        ({"password": "with\x00a control"}, "password"),
        ({"password": None}, "password"),
    ],
)
async def test_what_cannot_be_is_refused_and_not_shown(
    add: Callable[..., Any], service: KeyService, fields: dict[str, Any], member: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await add(**fields)
    assert refused.value.member == member
    assert str(fields.get("password")) not in str(refused.value)
    assert await service.list_users() == []


async def test_what_does_not_exist_is_not_found(add: Callable[..., Any], service: KeyService) -> None:
    await add()
    for work in (
        add("bob@example.com", tenant="nowhere"),
        service.show_user("bob@example.com"),
        service.set_password(ANN, "bob@example.com", PASSWORD),
        service.set_role(ANN, "ann@example.com", tenant="nowhere", role="viewer"),
        service.set_default_tenant(ANN, "ann@example.com", "nowhere"),
        service.remove_user(ANN, "ann@example.com", tenant="nowhere"),
        service.list_users(tenant="nowhere"),
    ):
        with pytest.raises(NotFound):
            await work
    assert len(await service.list_users(tenant="default")) == 1


async def test_a_password_is_right_for_its_user_alone(add: Callable[..., Any], service: KeyService) -> None:
    ann = await add()
    await add("bob@example.com", password="another password")
    assert await service.check_password("ann@example.com", PASSWORD) == ann
    for email, password in (
        ("ann@example.com", "another password"),
        ("ann@example.com", ""),
        ("ann@example.com", PASSWORD + "\x00"),
        ("ann@example.com", "x" * 5000),
        ("carol@example.com", PASSWORD),
        ("", PASSWORD),
    ):
        assert await service.check_password(email, password) is None
    await service.set_password(ANN, "ann@example.com", "yet another one")
    assert await service.check_password("ann@example.com", PASSWORD) is None
    assert await service.check_password("ann@example.com", "yet another one") is not None


async def test_a_password_is_the_same_however_it_is_composed(
    add: Callable[..., Any], service: KeyService
) -> None:
    await add(password="pa\u00dfw\u00f6rter")
    assert await service.check_password("ann@example.com", "pa\u00dfwo\u0308rter") is not None


async def test_who_is_disabled_cannot_log_in_and_her_keys_stay_hers(
    add: Callable[..., Any], service: KeyService, store: Store, clock: list[float]
) -> None:
    ann = await add()
    key = a_key(sub_type="user", subject_id=ann.user.id)
    await store.insert_key(key, audit_of(key))
    disabled = await service.enable_user(ANN, "ann@example.com", enabled=False)
    assert disabled.user.disabled_at == NOW_MS
    clock[0] += 60
    assert (await service.enable_user(ANN, "ann@example.com", enabled=False)).user.disabled_at == NOW_MS
    assert await service.check_password("ann@example.com", PASSWORD) is None
    await service.enable_user(ANN, "ann@example.com", enabled=True)
    assert await service.check_password("ann@example.com", PASSWORD) is not None
    assert (await service.show_key(key.id)).revoked_at is None


async def test_who_is_removed_is_gone_with_the_keys_that_act_as_her(
    add: Callable[..., Any], service: KeyService, store: Store
) -> None:
    ann = await add()
    key = a_key(sub_type="user", subject_id=ann.user.id)
    await store.insert_key(key, audit_of(key))
    left = await service.remove_user(ANN, "ann@example.com")
    assert left.keys == (key.id,)
    assert (await service.show_key(key.id)).revoked_by == ANN.name
    assert await service.check_password("ann@example.com", PASSWORD) is None
    assert await service.check_password("ann@example.com", "") is None
    assert await service.list_users() == []
    again = await add()
    assert again.user.id != ann.user.id


async def test_every_change_of_a_user_is_audited(
    add: Callable[..., Any], service: KeyService, store: Store
) -> None:
    ann = await add()
    await service.set_role(ANN, "ann@example.com", tenant="default", role="viewer")
    await service.set_password(ANN, "ann@example.com", "yet another one")
    await service.enable_user(ANN, "ann@example.com", enabled=False)
    await service.remove_user(ANN, "ann@example.com")
    rows = [row for row in await audited(store) if row.entity == ann.user.id]
    assert {row.action for row in rows} == {
        "user.create",
        "user.role",
        "user.password",
        "user.disable",
        "user.remove",
    }


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(store: Store) -> None:
    pool = Argon2Pool(threads=1)
    service = KeyService(store, DIGESTER, pool, ROLES)
    await service.add_user(ANN, "ann@example.com", tenant="default", role="viewer", password=PASSWORD)
    await service.check_password("nobody@example.com", PASSWORD)
    spent = {"ann@example.com": 0.0, "nobody@example.com": 0.0, "not an address": 0.0}
    for _ in range(8):
        for email in spent:
            began = time.process_time()
            assert await service.check_password(email, "a wrong password") is None
            spent[email] += time.process_time() - began
    assert max(spent.values()) < 1.5 * min(spent.values()), spent
    pool.close()


async def test_a_damaged_hash_is_no_password(store: Store) -> None:
    pool = Argon2Pool(threads=1)
    encoded = await pool.hash(PASSWORD)
    results = await asyncio.gather(
        *(pool.verify(text, PASSWORD) for text in (encoded, encoded[:-2], "", "$argon2id$x", "plain"))
    )
    assert results == [True, False, False, False, False]
    pool.close()
