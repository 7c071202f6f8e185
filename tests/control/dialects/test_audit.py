"""The audit at the wire: for admins, of their own tenant, in pages, with no secret in it."""

from __future__ import annotations

import pytest

from tests.control.api import PASSWORD, Api

PATH = "/api/1/audit"


async def test_a_row_says_who_did_what_to_what_when_from_where(api: Api) -> None:
    ann = await api.user("ann", "admin")
    api.clock[0] += 1
    sent = {"X-Request-Id": "r-1"}
    await api.ask("PATCH", "/api/1/tenants/default", ann, {"max_keys_per_user": 7}, sent)
    told = await api.ask("GET", f"{PATH}?action=tenant.update", ann)
    (row,) = told.json["data"]
    assert row.pop("id").startswith("audit_")
    assert row == {
        "at": "2026-03-01T12:30:46.678Z",
        "actor": "ann@example.com",
        "action": "tenant.update",
        "kind": "tenant",
        "entity": "default",
        "tenantId": "default",
        "source": "127.0.0.1",
        "requestId": "r-1",
        "detail": {"max_keys_per_user": 7},
    }
    assert told.json["next"] is None


async def test_a_key_is_named_where_a_key_did_it(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    first = await api.made(bob, permission="editor")
    await api.made(first["apiToken"])
    rows = (await api.ask("GET", f"{PATH}?action=key", ann)).json["data"]
    actors = {row["actor"] for row in rows}
    (made_first,) = [row["entity"] for row in rows if row["actor"] == "bob@example.com"]
    assert actors == {"bob@example.com", made_first}


async def test_admins_read_their_own_tenants_rows_and_nobody_else_any(api: Api) -> None:
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    bob = await api.user("bob", "editor")
    key = (await api.made(bob, permission="editor"))["apiToken"]
    theirs = await api.made(mallory)
    for who in (bob, key, await api.user("eve", "viewer")):
        assert (await api.ask("GET", PATH, who)).status == 403
    ours = (await api.ask("GET", PATH, ann)).json["data"]
    assert {row["tenantId"] for row in ours} == {"default"}
    rows = (await api.ask("GET", PATH, mallory)).json["data"]
    assert {row["tenantId"] for row in rows} == {"acme"}
    (entity,) = [row["entity"] for row in rows if row["action"] == "key.create"]
    assert (await api.ask("GET", f"{PATH}?entity={entity}", ann)).json["data"] == []
    told = await api.ask("GET", f"{PATH}?after={rows[0]['id']}", ann)
    assert (told.status, told.json["member"]) == (400, "after")
    text = str(ours) + str(rows)
    assert theirs["apiToken"] not in text
    assert key not in text
    assert PASSWORD not in text


async def test_filters_narrow_and_pages_follow(api: Api) -> None:
    ann, bob = await api.user("ann", "admin"), await api.user("bob", "editor")
    for minute in range(5):
        api.clock[0] += 60
        await api.made(ann if minute % 2 else bob, name=f"key {minute}")
    assert len((await api.ask("GET", f"{PATH}?actor=bob@example.com", ann)).json["data"]) == 3
    assert len((await api.ask("GET", f"{PATH}?actor=bob@example.com&since=3m", ann)).json["data"]) == 2
    since = "2026-03-01T12:33:45.678Z"
    assert len((await api.ask("GET", f"{PATH}?action=key.create&since={since}", ann)).json["data"]) == 3
    seen, after = [], ""
    while True:
        page = (await api.ask("GET", f"{PATH}?action=key&limit=2{after}", ann)).json
        seen += [row["at"] for row in page["data"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == [f"2026-03-01T12:3{minute}:45.678Z" for minute in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("query", "blamed"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("since=yesterday", "since"),
        ("since=2026-03-01", "since"),
        ("since=2026-13-01T00:00:00Z", "since"),
        ("since=2026-03-01T00:00:00+00:00", "since"),
        ("since=P9999999999D", "since"),
        ("since=99999999999999999999s", "since"),
        ("since=", "since"),
        ("after=x", "after"),
        ("after=", "after"),
        ("tenant=acme", "tenant"),
        ("actor=%00", "actor"),
        ("actor=a&actor=b", "actor"),
    ],
)
async def test_a_query_that_means_nothing_is_refused_by_name(api: Api, query: str, blamed: str) -> None:
    ann = await api.user("ann", "admin")
    told = await api.ask("GET", f"{PATH}?{query}", ann)
    assert (told.status, told.json["member"]) == (400, blamed)
