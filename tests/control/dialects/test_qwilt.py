"""``000`` and ``001`` at the wire: keys of an organisation, by number, for all of its members."""

from __future__ import annotations

from typing import Any

import pytest

from tests.control.api import Api
from tests.control.samples import NOW_MS
from tests.store.samples import audited

KEYS = "/api/1/api-keys"
WISH = {"name": "Example_Key", "description": "Key description example.", "ttl": 180, "permission": "editor"}
SHOWN = {
    "name": "Example_Key",
    "description": "Key description example.",
    "ttl": 180,
    "permission": "editor",
    "keyId": "1",
    "ownerId": "default",
    "createdBy": "bob@example.com",
    "createdAt": "2026-03-01T12:30:45.678Z",
    "expireAt": "2026-08-28T12:30:45.678Z",
    "lastUsedAt": None,
    "status": "active",
}


async def test_a_new_key_has_the_members_of_the_document_and_its_token_once(api: Api) -> None:
    bob = await api.user("bob", "editor")
    told = await api.ask("POST", KEYS, bob, WISH)
    assert told.status == 201
    assert told.headers["Cache-Control"] == "no-store"
    token = told.json.pop("apiToken")
    assert told.json == SHOWN
    assert (await api.ask("GET", f"{KEYS}/1", bob)).json == SHOWN
    listed = await api.ask("GET", KEYS, bob)
    assert listed.json == [SHOWN]
    assert (await api.service.principal_of_key(token.encode())).key_id is not None
    assert token not in str(await audited(api.store))


async def test_a_permission_is_echoed_as_given_and_kept_as_the_role_it_names(api: Api) -> None:
    bob = await api.user("bob", "editor")
    for given, kept in (("Viewer", "viewer"), ("EDITOR", "editor"), ("MediaEditor", "MediaEditor")):
        made = await api.made(bob, permission=given)
        assert made["permission"] == given
        assert (await api.ask("GET", f"{KEYS}/{made['keyId']}", bob)).json["permission"] == kept


async def test_a_key_makes_a_key_in_the_name_of_the_user_at_the_root(api: Api) -> None:
    bob = await api.user("bob", "editor")
    first = await api.made(bob, permission="editor")
    second = await api.made(first["apiToken"], permission="editor")
    third = await api.made(second["apiToken"])
    assert [made["createdBy"] for made in (first, second, third)] == ["bob@example.com"] * 3
    assert [made["keyId"] for made in (first, second, third)] == ["1", "2", "3"]


async def test_who_made_a_key_stays_known_when_she_is_gone_and_the_operators_say_so(
    api: Api, make: Any
) -> None:
    bob, ann = await api.user("bob", "editor"), await api.user("ann", "admin")
    await api.made(bob)
    operators = await make(permission="editor")
    await api.made(operators.token)
    told = await api.ask("DELETE", f"/api/1/tenants/default/users/{await api.id_of('bob')}", ann)
    assert told.status == 200
    makers = [key["createdBy"] for key in (await api.ask("GET", KEYS, ann)).json]
    assert makers == ["bob@example.com", "cli:ann@here", operators.record.id]


@pytest.mark.parametrize(
    ("members", "blamed"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": 366}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": 1.5}, "ttl"),
        ({"ttl": "180"}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"ttl": None}, "ttl"),
        ({"ttl": 10**19}, "ttl"),
        ({"permission": "admin"}, "permission"),
        ({"permission": "Boss"}, "permission"),
        ({"permission": ""}, "permission"),
        ({"permission": None}, "permission"),
        ({"permission": ["viewer"]}, "permission"),
        ({"name": ""}, "name"),
        ({"name": " x"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": 7}, "name"),
        ({"description": "x" * 1001}, "description"),
        ({"description": "\x1b[31m"}, "description"),
        ({"id": "apk_1"}, "id"),
        ({"keyId": "7"}, "keyId"),
        ({"status": "active"}, "status"),
        ({"tenantId": "acme"}, "tenantId"),
        ({"ownerId": "acme"}, "ownerId"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(api: Api, members: dict[str, Any], blamed: str) -> None:
    bob = await api.user("bob", "editor")
    told = await api.ask("POST", KEYS, bob, WISH | members)
    assert (told.status, told.json["member"]) == (400, blamed)
    assert blamed in told.json["detail"]
    assert (await api.ask("GET", KEYS, bob)).json == []


@pytest.mark.parametrize("missing", ["name", "ttl", "permission"])
async def test_what_has_to_be_there_is_missed_by_name(api: Api, missing: str) -> None:
    bob = await api.user("bob", "editor")
    told = await api.ask("POST", KEYS, bob, {k: v for k, v in WISH.items() if k != missing})
    assert (told.status, told.json["member"]) == (400, missing)


async def test_a_year_is_the_longest_and_a_description_may_be_left_out(api: Api) -> None:
    bob = await api.user("bob", "editor")
    made = await api.made(bob, ttl=365)
    assert (made["expireAt"], made["description"]) == ("2027-03-01T12:30:45.678Z", "")
    assert (await api.made(bob, ttl=1))["expireAt"] == "2026-03-02T12:30:45.678Z"


async def test_a_wish_beyond_the_tenants_maximum_is_refused(api: Api) -> None:
    ann = await api.user("ann", "admin")
    await api.ask("PATCH", "/api/1/tenants/default", ann, {"max_api_key_expiry": "P30D"})
    told = await api.ask("POST", KEYS, ann, WISH | {"ttl": 31})
    assert (told.status, told.json["member"]) == (400, "ttl")
    assert (await api.made(ann, ttl=30))["ttl"] == 30


async def test_members_see_every_key_of_the_organisation_and_only_of_theirs(api: Api) -> None:
    bob, eve = await api.user("bob", "editor"), await api.user("eve", "viewer")
    other = await api.user("mallory", "admin", "acme")
    ours, theirs = await api.made(bob), await api.made(other)
    assert ours["keyId"] == theirs["keyId"] == "1"
    for who in (bob, eve, ours["apiToken"]):
        assert [key["ownerId"] for key in (await api.ask("GET", KEYS, who)).json] == ["default"]
        assert (await api.ask("GET", f"{KEYS}/1", who)).json["createdBy"] == "bob@example.com"
    assert (await api.ask("GET", f"{KEYS}/1", other)).json["createdBy"] == "mallory@example.com"


async def test_a_token_is_for_the_organisation_that_it_was_made_for(api: Api) -> None:
    await api.user("bob", "editor")
    elsewhere = await api.user("bob", "editor", "acme")
    assert (await api.made(elsewhere))["ownerId"] == "acme"


async def test_who_may_make_and_revoke_what(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    eve, dan = await api.user("eve", "viewer"), await api.user("dan", "editor")
    for told in (
        await api.ask("POST", KEYS, eve, WISH),
        await api.ask("POST", KEYS, (await api.made(bob))["apiToken"], WISH),
        await api.ask("DELETE", f"{KEYS}/1", eve),
        await api.ask("DELETE", f"{KEYS}/1", dan),
    ):
        assert told.status == 403, told
    for who in (bob, ann):
        number = (await api.made(bob))["keyId"]
        told = await api.ask("DELETE", f"{KEYS}/{number}", who)
        assert (told.status, told.json["status"]) == (200, "revoked")


async def test_a_limited_role_grants_nothing_that_reaches_further(api: Api) -> None:
    limited = await api.made(await api.user("bob", "editor"), permission="MediaEditor")
    for permission, status in (("MediaEditor", 201), ("editor", 403), ("viewer", 403)):
        told = await api.ask("POST", KEYS, limited["apiToken"], WISH | {"permission": permission})
        assert told.status == status, told


async def test_revoking_is_for_good_and_twice_is_once(api: Api) -> None:
    bob = await api.user("bob", "editor")
    made = await api.made(bob)
    first = await api.ask("DELETE", f"{KEYS}/1", bob)
    api.clock[0] += 60
    again = await api.ask("DELETE", f"{KEYS}/1", bob)
    assert (again.status, again.json) == (200, first.json)
    assert first.json["status"] == (await api.ask("GET", f"{KEYS}/1", bob)).json["status"] == "revoked"
    told = await api.ask("GET", KEYS, made["apiToken"])
    assert (told.status, told.json["code"]) == (401, "key_revoked")
    assert [row.action for row in await audited(api.store)].count("key.revoke") == 1


@pytest.mark.parametrize(
    "shown",
    [
        "2",
        "0",
        "01",
        "-1",
        "+1",
        "1.0",
        "1_0",
        "\uff11",
        "1e0",
        "%31%20",
        "apk_1",
        "9" * 18,
        "9" * 40,
        "%00",
        "%ff",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_is_no_keys_number_is_absent(api: Api, method: str, shown: str) -> None:
    bob = await api.user("bob", "editor")
    await api.made(bob)
    told = await api.ask(method, f"{KEYS}/{shown}", bob)
    assert (told.status, told.json["code"]) == (404, "not_found")
    assert (await api.ask("GET", f"{KEYS}/1", bob)).json["status"] == "active"


async def test_another_organisations_key_is_absent_in_the_same_words(api: Api) -> None:
    bob, mallory = await api.user("bob", "admin"), await api.user("mallory", "admin", "acme")
    await api.made(bob)
    await api.made(bob)
    for method in ("GET", "DELETE"):
        theirs, none = [await api.ask(method, f"{KEYS}/{number}", mallory) for number in (2, 3)]
        assert theirs.status == none.status == 404
        assert theirs.json | {"request_id": ""} == none.json | {"request_id": ""}


async def test_pages_follow_one_another_by_key_id(api: Api) -> None:
    bob = await api.user("bob", "editor")
    for _ in range(5):
        await api.made(bob)
    seen: list[str] = []
    after = ""
    while page := (await api.ask("GET", f"{KEYS}?limit=2{after}", bob)).json:
        assert len(page) <= 2
        seen += [key["keyId"] for key in page]
        after = f"&after={page[-1]['keyId']}"
        if len(seen) == 2:
            await api.made(bob)
    assert seen == ["1", "2", "3", "4", "5", "6"]


async def test_a_removed_key_is_not_shown_and_keeps_its_place_as_a_cursor(api: Api) -> None:
    ann = await api.user("ann", "admin")
    for _ in range(3):
        await api.made(ann)
    (gone,) = [key for key in await api.store.keys() if key.number == 2]
    principal, _ = await api.logins.session_of(ann)
    assert await api.service.remove_key_as(principal, principal.actor("here"), gone.id)
    assert (await api.ask("GET", f"{KEYS}/2", ann)).status == 404
    assert (await api.ask("DELETE", f"{KEYS}/2", ann)).status == 404
    assert [key["keyId"] for key in (await api.ask("GET", KEYS, ann)).json] == ["1", "3"]
    assert [key["keyId"] for key in (await api.ask("GET", f"{KEYS}?after=2", ann)).json] == ["3"]


@pytest.mark.parametrize(
    ("query", "blamed"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%EF%BC%91%EF%BC%90", "limit"),
        ("limit=1e1", "limit"),
        ("limit=10.0", "limit"),
        ("limit=+5", "limit"),
        ("limit=05", "limit"),
        ("limit=", "limit"),
        ("limit=true", "limit"),
        ("limit=null", "limit"),
        ("limit=5&limit=5", "limit"),
        ("after=2", "after"),
        ("after=01", "after"),
        ("after=", "after"),
        ("after=x", "after"),
        ("after=%00", "after"),
        ("sort=name", "sort"),
    ],
)
async def test_a_query_that_means_nothing_is_refused_by_name(api: Api, query: str, blamed: str) -> None:
    bob = await api.user("bob", "editor")
    await api.made(bob)
    told = await api.ask("GET", f"{KEYS}?{query}", bob)
    assert (told.status, told.json["member"]) == (400, blamed)


async def test_switched_off_keys_are_neither_made_nor_taken(api: Api) -> None:
    ann = await api.user("ann", "admin")
    made = await api.made(ann, permission="editor")
    await api.ask("PATCH", "/api/1/tenants/default", ann, {"api_keys_enabled": False})
    assert (await api.ask("POST", KEYS, ann, WISH)).status == 403
    assert (await api.ask("GET", KEYS, made["apiToken"])).status == 403
    assert len((await api.ask("GET", KEYS, ann)).json) == 1


async def test_a_key_that_has_run_out_says_so_and_stays_in_the_list(api: Api) -> None:
    bob = await api.user("bob", "editor")
    made = await api.made(bob, ttl=1)
    api.clock[0] = NOW_MS / 1000 + 86_400
    told = await api.ask("GET", KEYS, made["apiToken"])
    assert (told.status, told.json["code"]) == (401, "key_expired")
    assert (await api.ask("GET", f"{KEYS}/1", bob)).json["status"] == "expired"
