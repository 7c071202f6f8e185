"""Lists of keys as ``003`` has them: whose, which, in which order, and the way from page to page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.store.base import Store
from tests.control.dialects.qlik_api import KEYS, QlikApi
from tests.control.dialects.tenancy import ELSEWHERE, TENANT
from tests.control.samples import ANN

SORTS = ["createdByUser", "sub", "status", "description", "created"]


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[QlikApi]:
    async with QlikApi(store, clock).serving() as api:
        yield api


@pytest.fixture
async def ann(api: QlikApi) -> str:
    return await api.user("editor", "ann")


@pytest.fixture
async def boss(api: QlikApi) -> str:
    return await api.user("admin", "boss")


async def several(api: QlikApi, ann: str, boss: str) -> list[dict[str, Any]]:
    """Make five keys a second apart, of two people, in every state, as an admin sees them, oldest first."""
    bob = await api.user("editor", "bob")
    wanted = [(ann, "b", "P1D"), (bob, "a", "P2D"), (ann, "c", "PT1H"), (bob, "a", "P1D"), (ann, "a", "P3D")]
    for who, description, expiry in wanted:
        await api.made(who, description=description, expiry=expiry)
        api.wait(seconds=1)
    api.wait(hours=1)
    revoked = (await api.ids(boss, "sort=created"))[3]
    await api.service.revoke_key(ANN, revoked)
    return list((await api.ask("GET", f"{KEYS}?sort=created", boss)).json["data"])


async def test_members_list_their_own_keys_and_admins_all(api: QlikApi, ann: str, boss: str) -> None:
    keys = await several(api, ann, boss)
    assert [key["status"] for key in keys] == ["active", "active", "expired", "revoked", "active"]
    hers = [key["id"] for key in keys if key["createdByUser"] == await api.subject_of("ann")]
    assert await api.ids(ann, "sort=created") == hers
    assert await api.ids(boss, "sort=%2Bcreated") == [key["id"] for key in keys]
    viewer = await api.user("viewer", "vic")
    assert await api.ids(viewer) == []
    foreigner = await api.user("admin", "foreigner", ELSEWHERE)
    assert await api.ids(foreigner) == []
    operators = await api.service.create_key(ANN, tenant=TENANT, name="robot", permission="editor")
    assert operators.record.id in await api.ids(boss)
    assert operators.record.id not in await api.ids(ann)
    mine = await api.made(boss, sub=await api.subject_of("ann"))
    assert mine["id"] in await api.ids(ann)


async def test_filters_narrow_the_list_together(api: QlikApi, ann: str, boss: str) -> None:
    keys = await several(api, ann, boss)
    ann_id, bob_id = await api.subject_of("ann"), await api.subject_of("bob")
    ids = [key["id"] for key in keys]
    for query, expected in (
        (f"createdByUser={ann_id}", [0, 2, 4]),
        (f"sub={bob_id}", [1, 3]),
        ("status=active", [0, 1, 4]),
        ("status=expired", [2]),
        ("status=revoked", [3]),
        (f"status=active&sub={ann_id}", [0, 4]),
        (f"status=revoked&createdByUser={ann_id}", []),
        ("createdByUser=nobody", []),
    ):
        assert await api.ids(boss, f"{query}&sort=created") == [ids[at] for at in expected], query
    assert await api.ids(ann, f"sub={bob_id}") == []
    made_for = await api.made(boss, sub=bob_id)
    assert await api.ids(boss, f"createdByUser={await api.subject_of('boss')}") == [made_for["id"]]
    assert made_for["id"] in await api.ids(boss, f"sub={bob_id}")


@pytest.mark.parametrize("member", SORTS)
async def test_every_documented_order_is_kept(api: QlikApi, ann: str, boss: str, member: str) -> None:
    keys = await several(api, ann, boss)
    for sign in ("", "+", "%2B", "%20", "-"):
        ordered = sorted(keys, key=lambda key: (key[member], key["id"]), reverse=sign == "-")
        assert await api.ids(boss, f"sort={sign}{member}") == [key["id"] for key in ordered], sign


async def test_the_newest_come_first_twenty_at_a_time_unless_asked_otherwise(api: QlikApi, ann: str) -> None:
    made = []
    for _ in range(21):
        made.append((await api.made(ann))["id"])
        api.wait(seconds=1)
    assert await api.ids(ann) == made[:0:-1]
    assert await api.ids(ann, "limit=100") == made[::-1]
    assert await api.ids(ann, "limit=1") == made[:-2:-1]
    assert await api.ids(ann, "sort=-created&limit=21") == made[::-1]


@pytest.mark.parametrize(
    "sort", ["-created", "%2Bcreated", "-status", "description", "-sub", "createdByUser"]
)
async def test_following_links_meets_every_key_once_in_both_directions(
    api: QlikApi, ann: str, boss: str, sort: str
) -> None:
    keys = await several(api, ann, boss)
    expected = await api.ids(boss, f"sort={sort}")
    assert len(expected) == len(keys)
    pages, links = [], []
    href: str | None = f"{api.origin}/api/v1/api-keys?sort={sort}&limit=2"
    while href is not None:
        told = (await api.ask("GET", href.removeprefix(api.origin), boss)).json
        assert told["links"]["self"]["href"].startswith(f"{api.origin}/api/v1/api-keys?")
        assert told["links"]["self"] == {"href": href}
        pages.append([key["id"] for key in told["data"]])
        links.append(told["links"])
        href = told["links"]["next"]["href"] if "next" in told["links"] else None
    assert pages == [expected[:2], expected[2:4], expected[4:]]
    assert ["prev" in each for each in links] == [False, True, True]
    back = []
    href = links[-1]["prev"]["href"]
    while href is not None:
        told = (await api.ask("GET", href.removeprefix(api.origin), boss)).json
        back.append([key["id"] for key in told["data"]])
        assert "next" in told["links"]
        href = told["links"]["prev"]["href"] if "prev" in told["links"] else None
    assert back == [expected[2:4], expected[:2]]


async def test_links_keep_the_other_parameters(api: QlikApi, ann: str, boss: str) -> None:
    await several(api, ann, boss)
    ann_id = await api.subject_of("ann")
    query = f"sort=+created&status=active&limit=1&sub={ann_id}&createdByUser={ann_id}"
    first = (await api.ask("GET", f"{KEYS}?{query}", boss)).json
    assert set(first["links"]) == {"self", "next"}
    said = parse_qs(urlsplit(first["links"]["next"]["href"]).query)
    assert said == {
        "sort": [" created"],
        "status": ["active"],
        "limit": ["1"],
        "sub": [ann_id],
        "createdByUser": [ann_id],
        "startingAfter": [first["data"][0]["id"]],
    }
    second = (await api.ask("GET", first["links"]["next"]["href"].removeprefix(api.origin), boss)).json
    assert set(second["links"]) == {"self", "prev"}
    said = parse_qs(urlsplit(second["links"]["prev"]["href"]).query)
    assert said["endingBefore"] == [second["data"][0]["id"]]
    assert "startingAfter" not in said


async def test_links_begin_with_the_public_origin_whatever_host_was_asked(
    store: Store, clock: list[float]
) -> None:
    async with QlikApi(store, clock).serving("https://keys.example.com") as api:
        ann = await api.user("editor", "ann")
        links = (await api.ask("GET", f"{KEYS}?limit=3", ann)).json["links"]
        assert links == {"self": {"href": f"https://keys.example.com{KEYS}?limit=3"}}


async def test_keys_that_come_and_go_while_paging_lose_nobody(api: QlikApi, ann: str) -> None:
    made = []
    for _ in range(6):
        made.append((await api.made(ann))["id"])
        api.wait(seconds=1)
    page = await api.ids(ann, "limit=2")
    assert page == [made[5], made[4]]
    await api.made(ann)
    await api.ask("DELETE", f"{KEYS}/{page[-1]}", ann)
    assert await api.ids(ann, f"limit=2&startingAfter={page[-1]}") == [made[3], made[2]]
    assert await api.ids(ann, f"limit=2&endingBefore={made[1]}") == [made[3], made[2]]
    assert await api.ids(ann, f"startingAfter={made[0]}") == []


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=1_0", "limit"),
        ("limit=1e1", "limit"),
        ("limit=10.0", "limit"),
        ("limit=%EF%BC%91%EF%BC%90", "limit"),
        ("limit=+5", "limit"),
        ("limit=05", "limit"),
        ("limit=", "limit"),
        ("limit=" + "9" * 30, "limit"),
        ("limit=1&limit=1", "limit"),
        ("sort=name", "sort"),
        ("sort=number", "sort"),
        ("sort=--created", "sort"),
        ("sort=%2B%2Bcreated", "sort"),
        ("sort=Created", "sort"),
        ("sort=", "sort"),
        ("sort=created%20", "sort"),
        ("status=Active", "status"),
        ("status=", "status"),
        ("sub=%00", "sub"),
        ("sub=", "sub"),
        ("createdByUser=a%0Ab", "createdByUser"),
        ("startingAfter=apk_nobody", "startingAfter"),
        ("endingBefore=apk_nobody", "endingBefore"),
        ("startingAfter=", "startingAfter"),
        ("endingBefore=", "endingBefore"),
        ("startingAfter=" + "x" * 300, "startingAfter"),
        ("page=2", "page"),
        ("Limit=2", "Limit"),
    ],
)
async def test_a_parameter_that_is_wrong_or_not_known_is_named(
    api: QlikApi, ann: str, query: str, member: str
) -> None:
    told = await api.ask("GET", f"{KEYS}?{query}", ann)
    assert (told.status, told.json["source"]) == (400, {"parameter": member})


async def test_a_cursor_of_another_list_is_no_cursor(api: QlikApi, ann: str, boss: str) -> None:
    bob = await api.user("editor", "bob")
    foreigner = await api.user("admin", "foreigner", ELSEWHERE)
    bobs, theirs = await api.made(bob), await api.made(foreigner)
    unknown = await api.ask("GET", f"{KEYS}?startingAfter=apk_nobody", ann)
    for cursor in (bobs["id"], theirs["id"]):
        told = await api.ask("GET", f"{KEYS}?startingAfter={cursor}", ann)
        assert (told.status, told.json) == (400, unknown.json)
    assert await api.ids(boss, f"startingAfter={bobs['id']}") == []


async def test_the_two_cursors_exclude_one_another(api: QlikApi, ann: str) -> None:
    made = await api.made(ann)
    told = await api.ask("GET", f"{KEYS}?startingAfter={made['id']}&endingBefore={made['id']}", ann)
    assert (told.status, told.json["source"]) == (400, {"parameter": "startingAfter"})


async def test_what_was_wrong_is_said_without_what_was_sent(api: QlikApi, ann: str) -> None:
    told = await api.ask("GET", f"{KEYS}?status=s3cr3t", ann)
    assert told.json["detail"] == "status must be one of active, expired, revoked."
    told = await api.ask("GET", f"{KEYS}?sort=s3cr3t", ann)
    assert "s3cr3t" not in told.json["detail"]
    assert "createdByUser" in told.json["detail"]
