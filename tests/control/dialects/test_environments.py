"""Environments at the wire: members read them, admins add them, a prefix is nobody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.control.api import Api
from tests.store.samples import audited

PATH = "/api/1/tenants/default/environments"
THEIRS = "/api/1/tenants/acme/environments"


async def test_admins_add_and_members_read(api: Api) -> None:
    ann, eve = await api.user("ann", "admin"), await api.user("eve", "viewer")
    bob = await api.user("bob", "editor")
    key = (await api.made(bob, permission="editor"))["apiToken"]
    told = await api.ask("POST", PATH, ann, {"id": "prod", "prefix": "qs_live_"})
    prod = {
        "id": "prod",
        "tenantId": "default",
        "prefix": "qs_live_",
        "createdAt": "2026-03-01T12:30:45.678Z",
    }
    assert (told.status, told.json) == (201, prod)
    told = await api.ask("POST", PATH, ann, {"id": "dev"})
    assert told.json["prefix"] == "gw_live_"
    for who in (ann, bob, eve, key):
        assert [e["id"] for e in (await api.ask("GET", PATH, who)).json] == ["dev", "prod"]
    for who in (bob, eve, key):
        assert (await api.ask("POST", PATH, who, {"id": "x"})).status == 403
    rows = [row for row in await audited(api.store) if row.action == "environment.create"]
    assert {(row.entity, row.actor, row.tenant_id) for row in rows} == {
        ("prod", "ann@example.com", "default"),
        ("dev", "ann@example.com", "default"),
    }


async def test_another_tenants_environments_are_absent(api: Api) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    assert (await api.ask("POST", THEIRS, mallory, {"id": "prod"})).status == 201
    for path in (THEIRS, "/api/1/tenants/nowhere/environments"):
        for method, sent in (("GET", {}), ("POST", {"body": {"id": "x"}})):
            told = await api.ask(method, path, ann, **sent)
            assert (told.status, told.json["detail"]) == (404, "There is no such tenant.")
    assert (await api.ask("GET", PATH, ann)).json == []


@pytest.mark.parametrize(
    ("body", "status", "blamed"),
    [
        ({"id": "prod"}, 409, None),
        ({}, 400, "id"),
        ({"id": "a/b"}, 400, "id"),
        ({"id": "x", "prefix": "gw_live_x_"}, 400, "prefix"),
        ({"id": "x", "prefix": "qs_live_eu_"}, 400, "prefix"),
        ({"id": "x", "prefix": "qs_"}, 400, "prefix"),
        ({"id": "x", "prefix": "theirs_live_"}, 400, "prefix"),
        ({"id": "x", "prefix": "qs-live"}, 400, "prefix"),
        ({"id": "x", "prefix": "1qs_"}, 400, "prefix"),
        ({"id": "x", "prefix": "x_\n"}, 400, "prefix"),
        ({"id": "x", "prefix": ""}, 400, "prefix"),
        ({"id": "x", "prefix": None}, 400, "prefix"),
        ({"id": "x", "name": "y"}, 400, "name"),
    ],
)
async def test_an_environment_that_cannot_be_is_refused(
    api: Api, body: dict[str, Any], status: int, blamed: str | None
) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    await api.ask("POST", PATH, ann, {"id": "prod", "prefix": "qs_live_"})
    await api.ask("POST", THEIRS, mallory, {"id": "theirs", "prefix": "theirs_"})
    told = await api.ask("POST", PATH, ann, body)
    assert (told.status, told.json.get("member")) == (status, blamed)
    assert "theirs" not in told.json["detail"], "whose prefix it is, is not told"
    assert [e["id"] for e in (await api.ask("GET", PATH, ann)).json] == ["prod"]


async def test_of_two_prefixes_that_cannot_be_told_apart_one_is_kept_even_at_once(api: Api) -> None:
    ann = await api.user("ann", "admin")
    wishes = [{"id": f"e{n}", "prefix": "ab_" + "c_" * n} for n in range(8)]
    told = await asyncio.gather(*(api.ask("POST", PATH, ann, wish) for wish in wishes))
    assert sorted(each.status for each in told) == [201] + 7 * [400]


async def test_a_new_environments_prefix_begins_its_keys(api: Api) -> None:
    ann = await api.user("ann", "admin")
    await api.ask("POST", PATH, ann, {"id": "prod", "prefix": "qs_live_"})
    wish = {"name": "k", "tenantId": "default", "environmentId": "prod"}
    told = await api.ask("POST", "/api-keys", ann, wish)
    assert told.json["secretKey"].startswith("qs_live_")
