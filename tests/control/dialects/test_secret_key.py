"""Keys as ``004`` has them, at the wire: made, shown, listed, revoked, rotated."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.store.base import Store
from tests.control.dialects.tenancy import ELSEWHERE, NOW, TENANT, Api, later
from tests.control.samples import ANN
from tests.store.samples import audited


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[Api]:
    async with Api(store, clock).serving() as api:
        yield api


@pytest.fixture
async def ann(api: Api) -> str:
    return await api.user("editor", "ann")


async def test_a_key_is_made_and_shown_as_documented(api: Api, ann: str) -> None:
    told = await api.ask(
        "POST",
        "/api-keys",
        ann,
        {
            "name": "CI Pipeline",
            "description": "Used for automated deployments",
            "tenantId": TENANT,
            "environmentId": "environment_prod",
            "expiresAt": "2027-03-01T12:30:00Z",
            "intendedUse": "ci-cd",
        },
    )
    assert (told.status, told.headers["Cache-Control"]) == (201, "no-store")
    made = dict(told.json)
    secret = made.pop("secretKey")
    assert re.fullmatch(r"qs_live_[0-9A-Za-z]{50}", secret)
    assert re.fullmatch(r"apk_[0-9a-f-]{36}", made["id"])
    assert re.fullmatch(r"subject_[0-9a-f-]{36}", made["subjectId"])
    assert made == {
        "id": made["id"],
        "subjectId": made["subjectId"],
        "tenantId": TENANT,
        "environmentId": "environment_prod",
        "name": "CI Pipeline",
        "description": "Used for automated deployments",
        "prefix": secret[:12],
        "lastFour": secret[-4:],
        "hashAlgo": "argon2id",
        "createdBySubjectId": await api.subject_of("ann"),
        "createdAt": NOW,
        "expiresAt": "2027-03-01T12:30:00Z",
        "lastUsedAt": None,
        "status": "active",
        "intendedUse": "ci-cd",
        "permission": "viewer",
        "replaces": None,
        "revokedAt": None,
    }
    assert (await api.ask("GET", f"/api-keys/{made['id']}", ann)).json == made
    assert (await api.ask("GET", "/api-keys", ann)).json == {"data": [made], "next": None}
    record = await api.service.show_key(made["id"])
    assert secret not in f"{await audited(api.store)} {record.verifier} {record!r}"
    assert (await api.ask("GET", "/api-keys", secret)).status == 200


async def test_what_is_not_said_of_a_key_is_the_least_for_the_longest(api: Api, ann: str) -> None:
    made = await api.made(ann, description=None, environmentId=None, intendedUse=None, permission=None)
    assert made["secretKey"].startswith("gw_live_")
    assert made["expiresAt"] == "2027-03-01T12:30:45.678Z"
    told = ("permission", "description", "environmentId", "intendedUse", "tenantId")
    assert [made[name] for name in told] == ["viewer", "", None, None, TENANT]


@pytest.mark.parametrize("wanted", ["viewer", "Editor", "EDITOR", "MediaEditor", "MediaViewer"])
async def test_a_permission_is_echoed_as_given(api: Api, ann: str, wanted: str) -> None:
    made = await api.made(ann, permission=wanted)
    assert made["permission"] == wanted
    role = wanted if wanted.startswith("Media") else wanted.lower()
    assert (await api.ask("GET", f"/api-keys/{made['id']}", ann)).json["permission"] == role


@pytest.mark.parametrize(
    ("wanted", "echoed"),
    [
        ("2026-03-01T12:30:46Z", "2026-03-01T12:30:46Z"),
        ("2026-03-02t14:30:00.5+02:00", "2026-03-02T12:30:00.500Z"),
        ("2027-03-01T12:30:45.678z", "2027-03-01T12:30:45.678Z"),
    ],
)
async def test_an_end_is_the_same_instant_however_it_is_written(
    api: Api, ann: str, wanted: str, echoed: str
) -> None:
    assert (await api.made(ann, expiresAt=wanted))["expiresAt"] == echoed


@pytest.mark.parametrize(
    ("members", "blamed"),
    [
        ({"name": ...}, "name"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": 7}, "name"),
        ({"description": "a\nb"}, "description"),
        ({"description": "d" * 1001}, "description"),
        ({"intendedUse": "x" * 101}, "intendedUse"),
        ({"intendedUse": ["ci"]}, "intendedUse"),
        ({"permission": "admin"}, "permission"),
        ({"permission": "Boss"}, "permission"),
        ({"permission": ""}, "permission"),
        ({"permission": "mediaeditor"}, "permission"),
        ({"environmentId": "environment_theirs"}, "environmentId"),
        ({"environmentId": "nowhere"}, "environmentId"),
        ({"environmentId": ""}, "environmentId"),
        ({"expiresAt": "2026-03-01T12:30:45.678Z"}, "expiresAt"),
        ({"expiresAt": "2025-01-15T10:30:00Z"}, "expiresAt"),
        ({"expiresAt": "2027-03-01T12:30:45.679Z"}, "expiresAt"),
        ({"expiresAt": "2026-04-01"}, "expiresAt"),
        ({"expiresAt": "2026-04-01T00:00:00"}, "expiresAt"),
        ({"expiresAt": "2026-02-30T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": 1772368245}, "expiresAt"),
        ({"expiresAt": ""}, "expiresAt"),
        ({"ttl": 30}, "ttl"),
        ({"id": "apk_mine"}, "id"),
        ({"status": "active"}, "status"),
        ({"subjectId": "subject_mine"}, "subjectId"),
        ({"secretKey": "qs_live_chosen"}, "secretKey"),
    ],
)
async def test_what_a_key_may_not_be_is_refused_by_its_member(
    api: Api, ann: str, members: dict[str, Any], blamed: str
) -> None:
    body = {name: value for name, value in ({"name": "a key"} | members).items() if value is not ...}
    told = await api.ask("POST", "/api-keys", ann, body)
    assert (told.status, told.json["code"], told.json["member"]) == (400, "invalid_request", blamed)
    assert (await api.ask("GET", "/api-keys", ann)).json["data"] == []


async def test_another_tenant_is_as_one_that_is_absent(api: Api, ann: str) -> None:
    theirs = await api.user("admin", "eve", ELSEWHERE)
    key = await api.made(theirs)
    for method, path, body in (
        ("POST", "/api-keys", {"name": "n", "tenantId": "%s"}),
        ("GET", "/api-keys/%s", None),
        ("DELETE", "/api-keys/%s", None),
        ("POST", "/api-keys/%s/rotate", None),
        ("GET", "/api-keys/%s/permissions?method=GET&path=/", None),
    ):
        foreign = ELSEWHERE if body else key["id"]
        told = []
        for entity in (foreign, "nobody"):
            sent = [{**body, "tenantId": entity}] if body else []
            told.append(await api.ask(method, path.replace("%s", entity), ann, *sent))
        assert told[0].status == 404
        assert told[0][:2] == told[1][:2], path
    assert (await api.ask("GET", "/api-keys", ann)).json["data"] == []
    assert (await api.ask("GET", f"/api-keys/{key['id']}", theirs)).json["status"] == "active"


async def test_nobody_makes_more_than_she_has(api: Api, ann: str) -> None:
    viewer = await api.user("viewer")
    assert (await api.ask("POST", "/api-keys", viewer, {"name": "n"})).status == 403
    by_viewer = (await api.made(ann))["secretKey"]
    assert (await api.ask("POST", "/api-keys", by_viewer, {"name": "n"})).status == 403
    limited = await api.made(ann, permission="MediaEditor")
    for permission, status in (("MediaEditor", 201), ("MediaViewer", 201), ("viewer", 403), ("editor", 403)):
        wish = {"name": "n", "permission": permission}
        assert (await api.ask("POST", "/api-keys", limited["secretKey"], wish)).status == status, permission
    child = (await api.ask("GET", "/api-keys", ann)).json["data"][-1]
    assert child["createdBySubjectId"] == limited["subjectId"]


async def test_no_key_is_made_over_the_cap_or_while_keys_are_switched_off(api: Api, ann: str) -> None:
    await api.service.set_tenant(ANN, TENANT, max_keys_per_user=1)
    await api.made(ann)
    assert (await api.ask("POST", "/api-keys", ann, {"name": "n"})).status == 403
    await api.service.set_tenant(ANN, TENANT, max_keys_per_user=None, api_keys_enabled=False)
    assert (await api.ask("POST", "/api-keys", ann, {"name": "n"})).status == 403


async def test_pages_hold_every_key_once_while_keys_are_added_and_revoked(api: Api, ann: str) -> None:
    bob = await api.user("viewer", "bob")
    made = [(await api.made(ann, name=f"key {i}"))["id"] for i in range(5)]
    seen, path = [], "/api-keys?limit=2"
    for _ in range(6):
        page = (await api.ask("GET", path, bob)).json
        seen += [key["id"] for key in page["data"]]
        if page["next"] is None:
            break
        assert page["next"] == seen[-1]
        path = f"/api-keys?limit=2&after={page['next']}"
        if len(seen) == 2:
            made.append((await api.made(ann))["id"])
            await api.ask("DELETE", f"/api-keys/{made[1]}", ann)
    assert seen == made
    assert (await api.ask("GET", f"/api-keys?limit=1&after={made[-1]}", bob)).json == {
        "data": [],
        "next": None,
    }


@pytest.mark.parametrize(
    ("query", "blamed"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%EF%BC%91%EF%BC%90", "limit"),
        ("limit=", "limit"),
        ("limit=2&limit=2", "limit"),
        ("after=apk_forged", "after"),
        ("after=", "after"),
        ("after={theirs}", "after"),
        ("sort=name", "sort"),
    ],
)
async def test_a_page_that_cannot_be_is_refused(api: Api, ann: str, query: str, blamed: str) -> None:
    theirs = await api.made(await api.user("admin", "eve", ELSEWHERE))
    told = await api.ask("GET", f"/api-keys?{query.format(theirs=theirs['id'])}", ann)
    assert (told.status, told.json["member"]) == (400, blamed)


async def test_revoking_is_shown_and_final(api: Api, ann: str) -> None:
    key = await api.made(ann)
    api.wait(hours=1)
    first = await api.ask("DELETE", f"/api-keys/{key['id']}", ann)
    assert (first.status, first.json["status"]) == (200, "revoked")
    assert first.json["revokedAt"] == later(hours=1)
    api.wait(hours=1)
    second = await api.ask("DELETE", f"/api-keys/{key['id']}?descendants=false", ann)
    assert second[:2] == first[:2]
    assert first.json.pop("descendants") == []
    assert (await api.ask("GET", f"/api-keys/{key['id']}", ann)).json == first.json
    assert (await api.ask("GET", "/api-keys", key["secretKey"])).json["code"] == "key_revoked"
    assert [row.action for row in await audited(api.store) if row.entity == key["id"]] == [
        "key.revoke",
        "key.create",
    ]


async def test_revoking_can_take_along_what_descends_from_a_key(api: Api, ann: str) -> None:
    top, other = await api.made(ann, permission="editor"), await api.made(ann)
    child = await api.made(top["secretKey"], permission="editor")
    grandchild = await api.made(child["secretKey"])
    successor = await api.ask("POST", f"/api-keys/{grandchild['id']}/rotate", ann)
    assert successor.status == 403
    successor = await api.ask("POST", f"/api-keys/{grandchild['id']}/rotate", child["secretKey"])
    assert successor.status == 201
    line = {child["id"], grandchild["id"], successor.json["id"]}
    told = await api.ask("DELETE", f"/api-keys/{top['id']}?descendants=true", ann)
    assert (told.status, set(told.json["descendants"])) == (200, line)
    listed = (await api.ask("GET", "/api-keys", ann)).json["data"]
    assert {key["id"] for key in listed if key["status"] == "active"} == {other["id"]}
    for value in ("1", "TRUE", "yes", ""):
        told = await api.ask("DELETE", f"/api-keys/{other['id']}?descendants={value}", ann)
        assert (told.status, told.json["member"]) == (400, "descendants")


async def test_owners_and_admins_end_and_rotate_keys_and_others_do_not(api: Api, ann: str) -> None:
    admin, bob, viewer = (
        await api.user("admin"),
        await api.user("editor", "bob"),
        await api.user("viewer"),
    )
    editor = await api.made(ann, permission="editor")
    for who in (bob, viewer):
        assert (await api.ask("DELETE", f"/api-keys/{editor['id']}", who)).status == 403
        assert (await api.ask("POST", f"/api-keys/{editor['id']}/rotate", who)).status == 403
        assert (await api.ask("GET", f"/api-keys/{editor['id']}", who)).status == 200
    successor = await api.ask("POST", f"/api-keys/{editor['id']}/rotate", editor["secretKey"])
    assert successor.status == 201
    assert (await api.ask("DELETE", f"/api-keys/{editor['id']}", admin)).status == 200


async def test_a_successor_lives_beside_the_old_key_for_a_day(api: Api, ann: str) -> None:
    old = await api.made(ann, name="CI", permission="MediaEditor", expiresAt=later(days=10))
    api.wait(days=1)
    told = await api.ask("POST", f"/api-keys/{old['id']}/rotate", ann)
    assert told.status == 201
    new = told.json
    assert new["id"] != old["id"]
    assert new["secretKey"] != old["secretKey"]
    assert new["lastFour"] == new["secretKey"][-4:]
    kept = ("subjectId", "name", "tenantId", "permission", "description", "environmentId", "intendedUse")
    assert [new[name] for name in kept] == [old[name] for name in kept]
    assert (new["replaces"], new["status"]) == (old["id"], "active")
    assert (new["createdAt"], new["expiresAt"]) == (later(days=1), later(days=11))
    both = (await api.ask("GET", "/api-keys", ann)).json["data"]
    assert [(key["id"], key["status"]) for key in both] == [(old["id"], "active"), (new["id"], "active")]
    assert both[0]["expiresAt"] == later(days=2)
    assert "secretKey" not in both[1]
    api.wait(days=1)
    assert (await api.ask("GET", "/api-keys", old["secretKey"])).json["code"] == "key_expired"
    assert (await api.ask("GET", "/api-keys", new["secretKey"])).status == 200


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ({}, {"days": 1}),
        ({"overlap": None}, {"days": 1}),
        ({"overlap": "P1D"}, {"days": 1}),
        ({"overlap": "PT1H"}, {"hours": 1}),
        ({"overlap": "2h"}, {"hours": 2}),
        ({"overlap": "P30D"}, {"days": 10}),
        ({"overlap": "PT0S"}, {}),
    ],
)
async def test_the_old_key_ends_at_the_earlier_of_its_end_and_the_overlap(
    api: Api, ann: str, body: dict[str, Any], ends: dict[str, int]
) -> None:
    old = await api.made(ann, expiresAt=later(days=10))
    assert (await api.ask("POST", f"/api-keys/{old['id']}/rotate", ann, body)).status == 201
    shown = (await api.ask("GET", f"/api-keys/{old['id']}", ann)).json
    assert (shown["expiresAt"], shown["status"]) == (later(**ends), "active" if ends else "expired")


@pytest.mark.parametrize(
    ("body", "blamed"),
    [
        ({"overlap": ""}, "overlap"),
        ({"overlap": "-P1D"}, "overlap"),
        ({"overlap": "PT"}, "overlap"),
        ({"overlap": "P99999999999D"}, "overlap"),
        ({"overlap": 1}, "overlap"),
        ({"ttl": "P1D"}, "ttl"),
    ],
)
async def test_an_overlap_that_cannot_be_rotates_nothing(
    api: Api, ann: str, body: dict[str, Any], blamed: str
) -> None:
    old = await api.made(ann)
    told = await api.ask("POST", f"/api-keys/{old['id']}/rotate", ann, body)
    assert (told.status, told.json["member"]) == (400, blamed)
    assert len((await api.ask("GET", "/api-keys", ann)).json["data"]) == 1


async def test_a_key_has_one_successor_and_an_ended_one_none(api: Api, ann: str) -> None:
    old, ended = await api.made(ann), await api.made(ann)
    first = (await api.ask("POST", f"/api-keys/{old['id']}/rotate", ann)).json
    assert (await api.ask("POST", f"/api-keys/{old['id']}/rotate", ann)).status == 409
    assert (await api.ask("POST", f"/api-keys/{first['id']}/rotate", ann)).status == 201
    await api.ask("DELETE", f"/api-keys/{ended['id']}", ann)
    told = await api.ask("POST", f"/api-keys/{ended['id']}/rotate", ann)
    assert (told.status, told.json["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("who", "code"),
    [(None, "credential_missing"), ("gw_live_none", "key_unknown"), ("no.login.token", "token_invalid")],
)
async def test_without_a_credential_that_lives_nothing_is_told(api: Api, who: str | None, code: str) -> None:
    for method, path in (("GET", "/api-keys"), ("POST", "/api-keys"), ("DELETE", "/api-keys/apk_any")):
        told = await api.ask(method, path, who)
        assert (told.status, told.json["code"]) == (401, code)
        assert told.headers["WWW-Authenticate"].startswith('Bearer realm="gateway"')
