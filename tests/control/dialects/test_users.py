"""Users of a tenant at the wire: what its admins may do to them, and where their reach ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.model import Permission
from tests.control.api import PASSWORD, Api
from tests.control.samples import ANN
from tests.store.samples import audited

USERS = "/api/1/tenants/default/users"
THEIRS = "/api/1/tenants/acme/users"
NEW = "another good password"


async def keys_acting_as(api: Api, who: str) -> str:
    """Make a key that acts as whoever asks, by the dialect that does so; return its id."""
    told = await api.ask("POST", "/v1/api-keys", who, {"description": "acts as me"})
    assert told.status == 201, told
    return str(told.json["id"])


async def test_an_admin_adds_a_user_who_is_shown_without_her_password(api: Api) -> None:
    ann = await api.user("ann", "admin")
    told = await api.ask("POST", USERS, ann, {"email": "Bob@Example.com", "role": "editor", "password": NEW})
    bob = await api.id_of("bob")
    shown = {
        "id": bob,
        "email": "bob@example.com",
        "tenantId": "default",
        "role": "editor",
        "enabled": True,
        "default": True,
        "createdAt": "2026-03-01T12:30:45.678Z",
    }
    assert (told.status, told.json) == (201, shown)
    assert (await api.ask("GET", f"{USERS}/{bob}", ann)).json == shown
    person = await api.service.check_password("bob@example.com", NEW)
    assert person is not None
    listed = await api.ask("GET", USERS, ann)
    assert [user["email"] for user in listed.json["data"]] == ["ann@example.com", "bob@example.com"]
    text = f"{told} {listed} {await audited(api.store)}"
    assert NEW not in text
    assert person.user.password_hash not in text


async def test_who_exists_joins_and_keeps_her_password(api: Api) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    await api.user("bob", "editor")
    again = {"email": "bob@example.com", "role": "admin"}
    assert (await api.ask("POST", USERS, ann, again)).status == 409
    assert (await api.ask("POST", THEIRS, mallory, again | {"password": NEW})).status == 409
    told = await api.ask("POST", THEIRS, mallory, {"email": "bob@example.com", "role": "viewer"})
    assert (told.status, told.json["tenantId"], told.json["role"]) == (201, "acme", "viewer")
    assert told.json["default"] is False
    assert await api.service.check_password("bob@example.com", PASSWORD) is not None
    assert (await api.ask("GET", f"{USERS}/{told.json['id']}", ann)).json["role"] == "editor"


@pytest.mark.parametrize(
    ("members", "blamed"),
    [
        ({"password": "short"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"password": "with\x07a bell"}, "password"),
        ({"password": None}, "password"),
        ({"password": 12345678}, "password"),
        ({"password": ...}, "password"),
        ({"email": "bob"}, "email"),
        ({"email": "b:b@example.com"}, "email"),
        ({"email": "bob@exa mple.com"}, "email"),
        ({"email": "bob\u202e@example.com"}, "email"),
        ({"email": "bob@" + "x" * 260}, "email"),
        ({"email": ...}, "email"),
        ({"role": "root"}, "role"),
        ({"role": "MediaEditor"}, "role"),
        ({"role": ...}, "role"),
        ({"id": "subject_1"}, "id"),
        ({"enabled": False}, "enabled"),
        ({"tenantId": "acme"}, "tenantId"),
    ],
)
async def test_a_user_who_cannot_be_is_refused_by_name(
    api: Api, members: dict[str, Any], blamed: str
) -> None:
    ann = await api.user("ann", "admin")
    wish = {"email": "bob@example.com", "role": "viewer", "password": NEW} | members
    told = await api.ask("POST", USERS, ann, {k: v for k, v in wish.items() if v is not ...})
    assert (told.status, told.json["member"]) == (400, blamed)
    assert str(members.get("password")) not in str(told)
    assert len((await api.ask("GET", USERS, ann)).json["data"]) == 1


async def test_only_admins_see_and_change_users_and_a_user_sees_herself(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    key = (await api.made(bob, permission="editor"))["apiToken"]
    for name, who in (("bob", bob), ("eve", await api.user("eve", "viewer")), ("bob", key)):
        other, own = f"{USERS}/{await api.id_of('ann')}", f"{USERS}/{await api.id_of(name)}"
        for told in (
            await api.ask("GET", USERS, who),
            await api.ask("POST", USERS, who, {"email": "x@example.com", "role": "viewer", "password": NEW}),
            await api.ask("GET", other, who),
            await api.ask("PATCH", other, who, {"role": "viewer"}),
            await api.ask("PATCH", own, who, {"role": "admin"}),
            await api.ask("PATCH", own, who, {"enabled": True, "default": True}),
            await api.ask("PATCH", own, who, {}),
            await api.ask("DELETE", other, who),
            await api.ask("DELETE", own, who),
        ):
            assert told.status == 403, told
        assert (await api.ask("GET", own, who)).status == (403 if who == key else 200)
        # What is not there is told to none but admins.
        assert (await api.ask("GET", f"{USERS}/subject_none", who)).status == 403
    assert (await api.ask("GET", f"{USERS}/subject_none", ann)).status == 404


async def test_another_tenants_users_are_absent(api: Api) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    await api.user("bob", "editor")
    bob = await api.id_of("bob")
    for method, sent in (("GET", {}), ("PATCH", {"body": {"role": "viewer"}}), ("DELETE", {})):
        for path in (f"{USERS}/{bob}", f"{THEIRS}/{bob}", f"{THEIRS}/subject_none", f"{THEIRS}/%00"):
            told = await api.ask(method, path, mallory, **sent)
            assert told.status == 404, (method, path)
        theirs, none = [
            await api.ask(method, f"{THEIRS}/{user}", mallory, **sent) for user in (bob, "subject_none")
        ]
        assert theirs.json["detail"] == none.json["detail"]
    for method, sent in (("GET", {}), ("POST", {"body": {"email": "m@example.com", "role": "admin"}})):
        for tenant in ("default", "nowhere"):
            told = await api.ask(method, f"/api/1/tenants/{tenant}/users", mallory, **sent)
            assert (told.status, told.json["detail"]) == (404, "There is no such tenant.")
    assert (await api.ask("GET", f"{USERS}/{bob}", ann)).json["role"] == "editor"


async def test_a_role_changes_here_alone_and_at_once(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    await api.user("bob", "editor", "acme")
    own = f"{USERS}/{await api.id_of('bob')}"
    told = await api.ask("PATCH", own, ann, {"role": "viewer"})
    assert (told.status, told.json["role"]) == (200, "viewer")
    assert (
        await api.ask("POST", "/api/1/api-keys", bob, {"name": "k", "ttl": 1, "permission": "viewer"})
    ).status == 403
    person = await api.service.show_user("bob@example.com")
    assert person.role_in("acme") is Permission.EDITOR
    assert (await api.ask("PATCH", own, ann, {"role": "admin"})).status == 200
    assert (await api.ask("GET", USERS, bob)).status == 200


async def test_a_tenant_keeps_an_active_admin(api: Api) -> None:
    ann = await api.user("ann", "admin")
    own = f"{USERS}/{await api.id_of('ann')}"
    for method, sent in (
        ("PATCH", {"body": {"role": "editor"}}),
        ("PATCH", {"body": {"enabled": False}}),
        ("DELETE", {}),
    ):
        assert (await api.ask(method, own, ann, **sent)).status == 409
    assert (await api.ask("PATCH", own, ann, {"role": "admin"})).status == 200
    # One who is disabled looks after nobody.
    await api.user("bob", "admin")
    await api.service.enable_user(ANN, "bob@example.com", enabled=False)
    assert (await api.ask("DELETE", own, ann)).status == 409
    await api.service.enable_user(ANN, "bob@example.com", enabled=True)
    assert (await api.ask("DELETE", own, ann)).status == 200


async def test_two_admins_who_demote_each_other_at_once_do_not_both(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "admin")
    told = await asyncio.gather(
        api.ask("PATCH", f"{USERS}/{await api.id_of('bob')}", ann, {"role": "viewer"}),
        api.ask("PATCH", f"{USERS}/{await api.id_of('ann')}", bob, {"role": "viewer"}),
    )
    assert 200 in {each.status for each in told}
    roles = [m.role for person in await api.service.list_users() for m in person.memberships]
    assert Permission.ADMIN in roles


async def test_being_disabled_ends_her_logins_and_keys_until_she_is_enabled(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    own = f"{USERS}/{await api.id_of('bob')}"
    assert (await api.ask("PATCH", own, ann, {"enabled": False})).json["enabled"] is False
    assert (await api.ask("GET", "/api/1/api-keys", bob)).status == 403
    assert await api.service.check_password("bob@example.com", PASSWORD) is None
    assert (await api.ask("PATCH", own, ann, {"enabled": True})).json["enabled"] is True
    assert (await api.ask("GET", "/api/1/api-keys", bob)).status == 200


async def test_an_admin_gives_a_password_to_users_of_her_tenant_and_never_to_herself(api: Api) -> None:
    ann = await api.user("ann", "admin")
    await api.user("bob", "editor")
    told = await api.ask("PATCH", f"{USERS}/{await api.id_of('bob')}", ann, {"password": NEW})
    assert told.status == 200
    assert await api.service.check_password("bob@example.com", NEW) is not None
    told = await api.ask("PATCH", f"{USERS}/{await api.id_of('ann')}", ann, {"password": NEW})
    assert told.status == 403
    assert await api.service.check_password("ann@example.com", PASSWORD) is not None
    assert NEW not in str(await audited(api.store))


@pytest.mark.parametrize("change", [{"password": NEW}, {"enabled": False}, {"default": True}])
async def test_nobody_is_taken_over_by_an_admin_of_one_of_her_tenants(
    api: Api, change: dict[str, Any]
) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    await api.user("bob", "editor")
    bob = await api.id_of("bob")
    await api.user("bob", "viewer", "acme")
    for path, who in ((f"{USERS}/{bob}", ann), (f"{THEIRS}/{bob}", mallory)):
        told = await api.ask("PATCH", path, who, change | {"role": "admin"})
        assert told.status == 403, told
    person = await api.service.check_password("bob@example.com", PASSWORD)
    assert person is not None
    assert {m.tenant_id: m.role.word for m in person.memberships} == {"default": "editor", "acme": "viewer"}
    assert person.user.default_tenant_id == "default"
    # Who administers all of them may.
    await api.user("mallory", "admin")
    assert (await api.ask("PATCH", f"{THEIRS}/{bob}", mallory, change)).status == 200


async def test_a_password_that_a_foreign_admin_gave_opens_no_other_tenant(api: Api) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    trap = {"email": "victim@example.com", "role": "viewer", "password": NEW}
    assert (await api.ask("POST", THEIRS, mallory, trap)).status == 201
    wish = {"email": "victim@example.com", "role": "admin"}
    told = await api.ask("POST", USERS, ann, wish)
    assert told.status == 409
    assert "password" in told.json["detail"]
    assert (await api.service.show_user("victim@example.com")).role_in("default") is None
    # Once the password is nobody else's, she may join.
    await api.service.set_password(ANN, "victim@example.com", PASSWORD)
    assert (await api.ask("POST", USERS, ann, wish)).status == 201


async def test_an_admin_of_both_tenants_has_her_users_join_the_other(api: Api) -> None:
    ann = await api.user("ann", "admin")
    there = await api.user("ann", "admin", "acme")
    await api.ask("POST", USERS, ann, {"email": "bob@example.com", "role": "viewer", "password": NEW})
    told = await api.ask("POST", THEIRS, there, {"email": "bob@example.com", "role": "viewer"})
    assert told.status == 201


async def test_a_user_chooses_her_own_default(api: Api) -> None:
    await api.user("eve", "viewer")
    there = await api.user("eve", "viewer", "acme")
    path = f"{THEIRS}/{await api.id_of('eve')}"
    assert (await api.ask("PATCH", path, there, {"default": False})).json["member"] == "default"
    told = await api.ask("PATCH", path, there, {"default": True})
    assert (told.status, told.json["default"]) == (200, True)
    assert (await api.service.show_user("eve@example.com")).user.default_tenant_id == "acme"


@pytest.mark.parametrize(
    ("members", "blamed"),
    [
        ({"role": "root"}, "role"),
        ({"role": None}, "role"),
        ({"enabled": "false"}, "enabled"),
        ({"enabled": None}, "enabled"),
        ({"password": "short"}, "password"),
        ({"role": "admin", "password": "with\x07a bell"}, "password"),
        ({"email": "x@example.com"}, "email"),
        ({"id": "x"}, "id"),
    ],
)
async def test_a_change_is_done_whole_or_not_at_all(api: Api, members: dict[str, Any], blamed: str) -> None:
    ann = await api.user("ann", "admin")
    await api.user("bob", "editor")
    told = await api.ask("PATCH", f"{USERS}/{await api.id_of('bob')}", ann, {"enabled": False} | members)
    assert (told.status, told.json["member"]) == (400, blamed)
    person = await api.service.show_user("bob@example.com")
    assert (person.user.disabled_at, person.role_in("default")) == (None, Permission.EDITOR)


async def test_who_leaves_takes_the_keys_that_act_as_her_here_along(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    there = await api.user("bob", "editor", "acme")
    here, elsewhere = await keys_acting_as(api, bob), await keys_acting_as(api, there)
    organisations = await api.made(bob)
    path = f"{USERS}/{await api.id_of('bob')}"
    told = await api.ask("DELETE", path, ann)
    assert (told.status, told.json["revokedKeys"]) == (200, [here])
    assert (await api.ask("DELETE", path, ann)).status == 404
    statuses = {key.id: key.revoked_at is None for key in await api.store.keys()}
    assert (statuses[here], statuses[elsewhere]) == (False, True)
    assert (await api.ask("GET", "/api/1/api-keys", organisations["apiToken"])).status == 200
    assert (await api.ask("GET", "/api/1/api-keys", bob)).status == 403
    person = await api.service.show_user("bob@example.com")
    assert person.user.default_tenant_id == "acme"


async def test_who_leaves_her_last_tenant_is_gone_and_may_come_anew(api: Api) -> None:
    ann = await api.user("ann", "admin")
    await api.user("bob", "editor")
    bob = await api.id_of("bob")
    assert (await api.ask("DELETE", f"{USERS}/{bob}", ann)).status == 200
    assert (await api.ask("GET", f"{USERS}/{bob}", ann)).status == 404
    wish = {"email": "bob@example.com", "role": "viewer", "password": NEW}
    told = await api.ask("POST", USERS, ann, wish)
    assert told.status == 201
    assert told.json["id"] != bob


async def test_every_change_is_audited_with_who_and_where_and_which_request(api: Api) -> None:
    ann = await api.user("ann", "admin")
    wish = {"email": "bob@example.com", "role": "viewer", "password": NEW}
    given = {"X-Request-Id": "my-request"}
    bob = (await api.ask("POST", USERS, ann, wish, given)).json["id"]
    path = f"{USERS}/{bob}"
    change = {"role": "editor", "enabled": False, "password": PASSWORD, "default": True}
    assert (await api.ask("PATCH", path, ann, change, given)).status == 200
    assert (await api.ask("PATCH", path, ann, {"enabled": True}, given)).status == 200
    assert (await api.ask("DELETE", path, ann, headers=given)).status == 200
    rows = [row for row in await audited(api.store) if row.entity == bob]
    assert sorted(row.action for row in rows) == [
        "user.create",
        "user.default",
        "user.disable",
        "user.enable",
        "user.password",
        "user.remove",
        "user.role",
    ]
    assert {(row.actor, row.source, row.request_id, row.tenant_id) for row in rows} == {
        ("ann@example.com", "127.0.0.1", "my-request", "default")
    }


async def test_pages_follow_one_another_by_address(api: Api) -> None:
    ann = await api.user("ann", "admin")
    for name in ("dan", "bob", "eve", "carl"):
        await api.user(name, "viewer")
    seen: list[str] = []
    after = ""
    while True:
        page = (await api.ask("GET", f"{USERS}?limit=2{after}", ann)).json
        seen += [user["email"].partition("@")[0] for user in page["data"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == ["ann", "bob", "carl", "dan", "eve"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "after=x", "after=", "sort=email"])
async def test_a_query_that_means_nothing_is_refused(api: Api, query: str) -> None:
    ann = await api.user("ann", "admin")
    told = await api.ask("GET", f"{USERS}?{query}", ann)
    assert (told.status, told.json["member"]) == (400, query.partition("=")[0])


async def test_another_tenants_user_is_no_cursor(api: Api) -> None:
    ann = await api.user("ann", "admin")
    await api.user("mallory", "admin", "acme")
    told = await api.ask("GET", f"{USERS}?after={await api.id_of('mallory')}", ann)
    assert (told.status, told.json["member"]) == (400, "after")
