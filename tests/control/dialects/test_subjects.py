"""Subjects and their roles, at the wire: who is listed, who may change what, and what follows of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.control.domain import KeyWish
from gateway.core.model import Permission
from gateway.store.audit import AuditFilter, audit_page
from gateway.store.base import AuditRow, Store
from tests.control.dialects.tenancy import ELSEWHERE, TENANT, Api, Told, later
from tests.control.samples import ANN

SUBJECTS = f"/api/1/tenants/{TENANT}/subjects"


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[Api]:
    async with Api(store, clock).serving() as api:
        yield api


@pytest.fixture
async def ann(api: Api) -> str:
    return await api.user("editor", "ann")


@pytest.fixture
async def admin(api: Api) -> str:
    return await api.user("admin", "root")


async def give(api: Api, who: str, subject: str, role: Any) -> Told:
    return await api.ask("PUT", f"{SUBJECTS}/{subject}/role", who, {"role": role})


async def rows_of(api: Api, action: str) -> list[AuditRow]:
    return await api.store.read(audit_page(AuditFilter(action=action), 100))


async def test_users_and_the_identities_of_keys_are_listed_alike(api: Api, ann: str, admin: str) -> None:
    key = await api.made(ann, name="CI", permission="MediaEditor")
    principal, _ = await api.logins.session_of(admin)
    external = await api.service.create_key_as(
        principal, ANN, KeyWish(name="SCIM", permission="viewer", external=True)
    )
    await api.service.create_key_as(principal, ANN, KeyWish(name="acts as root", as_subject=True))
    await api.made(await api.user("admin", "eve", ELSEWHERE))
    expected = [
        (await api.subject_of("ann"), "user", "ann@example.com", "editor", "editor"),
        (await api.subject_of("root"), "user", "root@example.com", "admin", "admin"),
        (key["subjectId"], "apiKey", "CI", "MediaEditor", "editor"),
        (external.record.subject_id, "externalClient", "SCIM", "viewer", "viewer"),
    ]
    members = ("id", "type", "name", "role", "permission")
    await api.user("viewer", "zoe")
    told = await api.ask("GET", SUBJECTS, admin)
    assert told.json["next"] is None
    found = {subject["id"]: subject for subject in told.json["data"]}
    assert len(found) == 5
    for values in expected:
        subject = dict(zip(members, values, strict=True))
        assert found[subject["id"]] == subject
        assert (await api.ask("GET", f"{SUBJECTS}/{subject['id']}", admin)).json == subject
    assert list(found) == sorted(found)


async def test_users_are_shown_to_admins_and_themselves_and_keys_to_all(
    api: Api, ann: str, admin: str
) -> None:
    zoe = await api.user("viewer", "zoe")
    key = await api.made(ann)
    anns = await api.subject_of("ann")
    for who in (ann, zoe, key["secretKey"]):
        assert (await api.ask("GET", SUBJECTS, who)).status == 403
        assert (await api.ask("GET", f"{SUBJECTS}/{key['subjectId']}", who)).status == 200
        assert (await api.ask("GET", f"{SUBJECTS}/{anns}", who)).status == (200 if who == ann else 403)


async def test_pages_hold_every_subject_once_while_others_come_and_go(api: Api, ann: str, admin: str) -> None:
    keys = [await api.made(ann) for _ in range(4)]
    everybody = sorted(
        [key["subjectId"] for key in keys] + [await api.subject_of(n) for n in ("ann", "root")]
    )
    seen, path = [], f"{SUBJECTS}?limit=2"
    for _ in range(3):
        page = (await api.ask("GET", path, admin)).json
        assert len(page["data"]) <= 2
        seen += [subject["id"] for subject in page["data"]]
        if page["next"] is None:
            break
        path = f"{SUBJECTS}?limit=2&after={page['next']}"
        gone = next((key for key in keys if key["subjectId"] == page["next"]), None)
        if gone is not None:
            # A cursor keeps its place when its subject ends.
            await api.ask("DELETE", f"/api-keys/{gone['id']}", admin)
    assert (seen, page["next"]) == (everybody, None)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "after=", "after=subject_none", "after={theirs}"]
)
async def test_a_page_that_cannot_be_is_refused(api: Api, admin: str, query: str) -> None:
    theirs = await api.made(await api.user("admin", "eve", ELSEWHERE))
    told = await api.ask("GET", f"{SUBJECTS}?{query.format(theirs=theirs['subjectId'])}", admin)
    assert (told.status, told.json["member"]) == (400, query.partition("=")[0])


async def test_an_identity_ends_with_its_last_active_key(api: Api, ann: str, admin: str) -> None:
    key = await api.made(ann, expiresAt=later(days=3))
    one = f"{SUBJECTS}/{key['subjectId']}"
    successor = (await api.ask("POST", f"/api-keys/{key['id']}/rotate", ann, {"overlap": "PT0S"})).json
    assert (await api.ask("GET", one, ann)).status == 200
    await api.ask("DELETE", f"/api-keys/{successor['id']}", ann)
    assert (await api.ask("GET", one, ann)).status == 404
    assert (await give(api, ann, key["subjectId"], "viewer")).status == 404
    types = [subject["type"] for subject in (await api.ask("GET", SUBJECTS, admin)).json["data"]]
    assert types == ["user", "user"]


async def test_a_role_is_that_of_a_key_and_its_successor(api: Api, ann: str) -> None:
    key = await api.made(ann)
    other = await api.made(ann)
    successor = (await api.ask("POST", f"/api-keys/{key['id']}/rotate", ann)).json
    check = f"/api-keys/{key['id']}/permissions?method=PUT&path=/media/1"
    assert (await api.ask("GET", check, ann)).json["reason"] == "permission_denied"
    told = await give(api, ann, key["subjectId"], "MediaEditor")
    assert (told.status, told.json["role"], told.json["permission"]) == (200, "MediaEditor", "editor")
    assert (await api.ask("GET", check, ann)).json["allowed"]
    for changed in (key, successor):
        assert (await api.ask("GET", f"/api-keys/{changed['id']}", ann)).json["permission"] == "MediaEditor"
        principal = await api.service.principal_of_key(changed["secretKey"].encode())
        assert (principal.role, principal.routes) == ("MediaEditor", ("/media",))
    assert (await api.ask("GET", f"/api-keys/{other['id']}", ann)).json["permission"] == "viewer"
    later_one = (await api.ask("POST", f"/api-keys/{successor['id']}/rotate", ann)).json
    assert (later_one["permission"], later_one["subjectId"]) == ("MediaEditor", key["subjectId"])


async def test_each_changed_key_is_audited_once_with_what_it_was(api: Api, ann: str) -> None:
    key = await api.made(ann)
    successor = (await api.ask("POST", f"/api-keys/{key['id']}/rotate", ann)).json
    for _ in range(2):
        assert (await give(api, ann, key["subjectId"], "EDITOR")).json["role"] == "editor"
    rows = await rows_of(api, "key.role")
    assert {row.entity for row in rows} == {key["id"], successor["id"]}
    assert len(rows) == 2
    assert {(row.actor, row.tenant_id, row.source) for row in rows} == {
        ("ann@example.com", TENANT, "127.0.0.1")
    }
    assert json.loads(rows[0].detail or "") == {
        "subjectId": key["subjectId"],
        "role": "editor",
        "before": "viewer",
    }


async def test_nobody_gives_more_than_she_has_or_to_what_is_not_hers(api: Api, ann: str, admin: str) -> None:
    bob, viewer = await api.user("editor", "bob"), await api.user("viewer", "zoe")
    limited = await api.made(ann, permission="MediaEditor")
    reader = await api.made(ann)
    child = (
        await api.ask("POST", "/api-keys", limited["secretKey"], {"name": "n", "permission": "MediaViewer"})
    ).json
    for who, subject, role, status in (
        (bob, reader["subjectId"], "viewer", 403),
        (viewer, reader["subjectId"], "viewer", 403),
        (reader["secretKey"], reader["subjectId"], "editor", 403),
        (limited["secretKey"], limited["subjectId"], "editor", 403),
        (limited["secretKey"], child["subjectId"], "viewer", 403),
        (limited["secretKey"], reader["subjectId"], "MediaViewer", 403),
        (limited["secretKey"], child["subjectId"], "MediaEditor", 200),
        (ann, reader["subjectId"], "editor", 200),
        (admin, reader["subjectId"], "MediaEditor", 200),
        # It gives away what it has, and has it no longer.
        (limited["secretKey"], limited["subjectId"], "MediaViewer", 200),
        (limited["secretKey"], limited["subjectId"], "MediaEditor", 403),
    ):
        told = await give(api, who, subject, role)
        assert told.status == status, (who, role, told)


async def test_a_subject_is_changed_whole_or_not_at_all(api: Api, ann: str, admin: str) -> None:
    """The successor was made by the admin, so the identity is no longer ann's alone."""
    key = await api.made(ann)
    await api.ask("POST", f"/api-keys/{key['id']}/rotate", admin)
    assert (await give(api, ann, key["subjectId"], "editor")).status == 403
    assert (await api.ask("GET", f"/api-keys/{key['id']}", ann)).json["permission"] == "viewer"
    assert await rows_of(api, "key.role") == []


@pytest.mark.parametrize(
    ("body", "blamed"),
    [
        ({}, "role"),
        ({"role": None}, "role"),
        ({"role": ""}, "role"),
        ({"role": "admin"}, "role"),
        ({"role": "Boss"}, "role"),
        ({"role": "mediaeditor"}, "role"),
        ({"role": ["editor"]}, "role"),
        ({"role": "editor", "permission": "editor"}, "permission"),
    ],
)
async def test_a_role_that_keys_cannot_have_changes_nothing(
    api: Api, admin: str, body: dict[str, Any], blamed: str
) -> None:
    key = await api.made(admin)
    told = await api.ask("PUT", f"{SUBJECTS}/{key['subjectId']}/role", admin, body)
    assert (told.status, told.json["member"]) == (400, blamed)
    assert (await api.ask("GET", f"{SUBJECTS}/{key['subjectId']}", admin)).json["role"] == "viewer"


async def test_another_tenant_is_as_one_that_is_absent(api: Api, admin: str) -> None:
    eve = await api.user("admin", "eve", ELSEWHERE)
    theirs = (await api.made(eve))["subjectId"]
    own = (await api.made(admin))["subjectId"]
    eves = await api.subject_of("eve")
    for paths in (
        (f"/api/1/tenants/{ELSEWHERE}/subjects", "/api/1/tenants/nowhere/subjects"),
        (f"/api/1/tenants/{ELSEWHERE}/subjects/{own}", f"/api/1/tenants/nowhere/subjects/{own}"),
        (f"{SUBJECTS}/{theirs}", f"{SUBJECTS}/nobody"),
        (f"{SUBJECTS}/{eves}", f"{SUBJECTS}/nobody"),
    ):
        told = [await api.ask("GET", path, admin) for path in paths]
        assert told[0].status == 404
        assert told[0][:2] == told[1][:2]
    for subject in (theirs, eves):
        for tenant in (TENANT, ELSEWHERE):
            path = f"/api/1/tenants/{tenant}/subjects/{subject}/role"
            assert (await api.ask("PUT", path, admin, {"role": "editor"})).status == 404
    assert (await api.ask("GET", f"/api/1/tenants/{ELSEWHERE}/subjects/{eves}", eve)).json["role"] == "admin"


async def test_what_a_user_is_changes_for_admins_alone(api: Api, ann: str, admin: str) -> None:
    anns = await api.subject_of("ann")
    key = await api.made(admin, permission="editor")
    for who in (ann, await api.user("viewer", "zoe"), key["secretKey"]):
        assert (await give(api, who, anns, "viewer")).status == 403
    told = await give(api, admin, anns, "Admin")
    assert (told.status, told.json["role"], told.json["permission"]) == (200, "admin", "admin")
    assert (await give(api, ann, await api.subject_of("zoe"), "editor")).status == 200
    rows = [row for row in await rows_of(api, "user.role") if row.entity == anns]
    assert [json.loads(row.detail or "") for row in rows] == [{"role": "admin", "before": "editor"}]
    for role, status in (("MediaEditor", 400), ("owner", 400), ("admin", 200)):
        assert (await give(api, admin, anns, role)).status == status
    assert len([row for row in await rows_of(api, "user.role") if row.entity == anns]) == 1


async def test_the_last_admin_stays_one(api: Api, admin: str) -> None:
    root = await api.subject_of("root")
    told = await give(api, admin, root, "editor")
    assert (told.status, told.json["code"]) == (409, "conflict")
    assert (await api.ask("GET", f"{SUBJECTS}/{root}", admin)).json["role"] == "admin"
    assert await rows_of(api, "user.role") == []
    second = await api.user("admin", "second")
    await api.service.enable_user(ANN, "second@example.com", enabled=False)
    assert (await give(api, admin, root, "editor")).status == 409
    await api.service.enable_user(ANN, "second@example.com", enabled=True)
    assert (await give(api, admin, root, "editor")).status == 200
    assert (await give(api, admin, root, "admin")).status == 403
    assert (await give(api, second, root, "admin")).status == 200


async def test_of_two_admins_who_demote_one_another_one_stays(api: Api, admin: str) -> None:
    second = await api.user("admin", "second")
    told = await asyncio.gather(
        give(api, admin, await api.subject_of("second"), "viewer"),
        give(api, second, await api.subject_of("root"), "viewer"),
    )
    assert 200 in (told[0].status, told[1].status)
    people = await api.service.list_users(tenant=TENANT)
    assert [person.role_in(TENANT) for person in people].count(Permission.ADMIN) == 1
