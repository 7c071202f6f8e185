"""Tenants at the wire: who sees which, who changes what of it, who adds one."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.model import Permission
from tests.control.api import Api
from tests.control.samples import ANN
from tests.store.samples import audited

ALL = "/api/1/tenants"
SETTINGS = {
    "api_keys_enabled": True,
    "max_keys_per_user": 100,
    "max_api_key_expiry": "P1Y",
    "scim_externalClient_expiry": "P365D",
}
DEFAULT = {"id": "default", "name": "Default", **SETTINGS}
ACME = {"id": "acme", "name": "acme", **SETTINGS}


async def test_a_user_sees_the_tenants_that_she_is_in_and_a_key_its_own(api: Api) -> None:
    bob = await api.user("bob", "editor")
    assert (await api.ask("GET", ALL, bob)).json == [DEFAULT]
    elsewhere = await api.user("bob", "viewer", "acme")
    key = await api.made(bob)
    for who in (bob, elsewhere):
        assert (await api.ask("GET", ALL, who)).json == [ACME, DEFAULT]
    assert (await api.ask("GET", ALL, key["apiToken"])).json == [DEFAULT]


async def test_a_token_opens_the_tenant_that_it_was_made_for_and_no_other(api: Api) -> None:
    await api.user("bob", "admin")
    elsewhere = await api.user("bob", "admin", "acme")
    assert (await api.ask("GET", f"{ALL}/acme", elsewhere)).json == ACME
    absent = [f"{ALL}/{tenant}" for tenant in ("default", "nowhere", "ACME", "%00", "%2e%2e", "a%2fb")]
    answers = []
    for path in absent:
        for method, body in (("GET", {}), ("PATCH", {"body": {"name": "x"}})):
            told = await api.ask(method, path, elsewhere, **body)
            answers.append((told.status, told.json["code"], told.json["detail"]))
    assert {status for status, *_ in answers} == {404}
    assert answers[:2] == answers[2:4], "one that exists and one that does not are told alike"
    assert (await api.service.show_tenant("default")).name == "Default"


async def test_members_read_and_admins_change(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    eve, key = await api.user("eve", "viewer"), (await api.made(ann, permission="editor"))["apiToken"]
    for who in (bob, eve, key):
        assert (await api.ask("GET", f"{ALL}/default", who)).json == DEFAULT
        assert (await api.ask("PATCH", f"{ALL}/default", who, {"name": "x"})).status == 403
    told = await api.ask("PATCH", f"{ALL}/default", ann, {"name": "Acme & Sons", "max_keys_per_user": 3})
    assert told.json == DEFAULT | {"name": "Acme & Sons", "max_keys_per_user": 3}
    assert (await api.ask("GET", f"{ALL}/default", eve)).json == told.json


async def test_what_is_absent_stays_and_null_goes_back_to_the_gateways_policy(api: Api) -> None:
    ann = await api.user("ann", "admin")
    own = {
        "api_keys_enabled": False,
        "max_keys_per_user": 0,
        "max_api_key_expiry": "PT24H",
        "scim_externalClient_expiry": "P30D",
    }
    assert (await api.ask("PATCH", f"{ALL}/default", ann, own)).json == DEFAULT | own
    told = await api.ask("PATCH", f"{ALL}/default", ann, {"max_api_key_expiry": None})
    assert told.json == DEFAULT | own | {"max_api_key_expiry": "P1Y"}
    told = await api.ask("PATCH", f"{ALL}/default", ann, dict.fromkeys(own))
    assert told.json == DEFAULT


@pytest.mark.parametrize(
    ("members", "blamed"),
    [
        ({"max_keys_per_user": -1}, "max_keys_per_user"),
        ({"max_keys_per_user": 1001}, "max_keys_per_user"),
        ({"max_keys_per_user": 10**19}, "max_keys_per_user"),
        ({"max_keys_per_user": "5"}, "max_keys_per_user"),
        ({"max_keys_per_user": True}, "max_keys_per_user"),
        ({"api_keys_enabled": "false"}, "api_keys_enabled"),
        ({"api_keys_enabled": 0}, "api_keys_enabled"),
        ({"max_api_key_expiry": "P2Y"}, "max_api_key_expiry"),
        ({"max_api_key_expiry": "P0D"}, "max_api_key_expiry"),
        ({"max_api_key_expiry": "PT"}, "max_api_key_expiry"),
        ({"max_api_key_expiry": "P99999999999D"}, "max_api_key_expiry"),
        ({"scim_externalClient_expiry": "P1M2M"}, "scim_externalClient_expiry"),
        ({"scim_externalClient_expiry": 3600}, "scim_externalClient_expiry"),
        ({"scim_client_expiry": "P1D"}, "scim_client_expiry"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"id": "other"}, "id"),
        ({"name": "x", "max_keys_per_user": 1001}, "max_keys_per_user"),
    ],
)
async def test_a_setting_that_cannot_be_changes_nothing(
    api: Api, members: dict[str, Any], blamed: str
) -> None:
    ann = await api.user("ann", "admin")
    told = await api.ask("PATCH", f"{ALL}/default", ann, members)
    assert (told.status, told.json["member"]) == (400, blamed)
    assert (await api.ask("GET", f"{ALL}/default", ann)).json == DEFAULT


async def test_nothing_to_change_changes_nothing_and_is_not_audited(api: Api) -> None:
    ann = await api.user("ann", "admin")
    rows = len(await audited(api.store))
    assert (await api.ask("PATCH", f"{ALL}/default", ann, {})).json == DEFAULT
    assert len(await audited(api.store)) == rows


async def test_admins_of_the_first_tenant_add_others_and_are_admins_there(api: Api) -> None:
    ann = await api.user("ann", "admin")
    told = await api.ask("POST", ALL, ann, {"id": "new", "name": "A new one"})
    assert (told.status, told.json) == (201, {"id": "new", "name": "A new one", **SETTINGS})
    assert (await api.ask("POST", ALL, ann, {"id": "newer"})).json["name"] == "newer"
    person = await api.service.show_user("ann@example.com")
    assert (person.role_in("new"), person.user.default_tenant_id) == (Permission.ADMIN, "default")
    there = api.logins.log_in(person, "new")
    assert (await api.ask("PATCH", f"{ALL}/new", there, {"max_keys_per_user": 1})).status == 200
    rows = [(row.action, row.actor, row.tenant_id) for row in await audited(api.store)]
    assert ("tenant.create", "ann@example.com", "new") in rows
    assert ("user.join", "ann@example.com", "new") in rows


async def test_nobody_else_adds_a_tenant(api: Api) -> None:
    await api.user("ann", "admin")
    operators = await api.made(await api.user("bob", "editor"), permission="editor")
    for who in (
        await api.user("mallory", "admin", "acme"),
        api.logins.log_in(
            await api.service.add_user(ANN, "ann@example.com", tenant="acme", role="admin"), "acme"
        ),
        await api.user("eve", "viewer"),
        await api.user("dan", "editor"),
        operators["apiToken"],
    ):
        # The same, whether there is one of that id or not.
        for tenant in ("new", "acme"):
            assert (await api.ask("POST", ALL, who, {"id": tenant})).status == 403
    assert [tenant.id for tenant in await api.service.list_tenants()] == ["acme", "default"]


@pytest.mark.parametrize(
    ("body", "status", "blamed"),
    [
        ({"id": "acme"}, 409, None),
        ({"id": ""}, 400, "id"),
        ({"id": ".."}, 400, "id"),
        ({"id": "a b"}, 400, "id"),
        ({"id": "a\n"}, 400, "id"),
        ({"id": "a/b"}, 400, "id"),
        ({"id": "ä"}, 400, "id"),
        ({"id": "x" * 65}, 400, "id"),
        ({"id": 1}, 400, "id"),
        ({}, 400, "id"),
        ({"id": "new", "name": ""}, 400, "name"),
        ({"id": "new", "name": "x" * 101}, 400, "name"),
        ({"id": "new", "admin": "somebody"}, 400, "admin"),
    ],
)
async def test_a_tenant_that_cannot_be_is_refused(
    api: Api, body: dict[str, Any], status: int, blamed: str | None
) -> None:
    ann = await api.user("ann", "admin")
    told = await api.ask("POST", ALL, ann, body)
    assert (told.status, told.json.get("member")) == (status, blamed)
    assert [tenant.id for tenant in await api.service.list_tenants()] == ["acme", "default"]


async def test_a_user_who_may_not_log_in_sees_no_tenant(api: Api) -> None:
    bob = await api.user("bob", "editor")
    await api.service.enable_user(ANN, "bob@example.com", enabled=False)
    assert (await api.ask("GET", ALL, bob)).status == 403
    assert (await api.ask("GET", ALL)).status == 401


async def test_environments_are_bounded_in_number(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.organisations.MOST_ENVIRONMENTS", 2)
    ann = await api.user("ann", "admin")
    for name, status in (("one", 201), ("two", 201), ("three", 409)):
        told = await api.ask("POST", f"{ALL}/default/environments", ann, {"id": name})
        assert told.status == status
