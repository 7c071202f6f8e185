"""Keys with a subject of their own (``004``): create, list, show, revoke, rotate, roles and permissions."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest

from tests.dialects import shapes
from tests.dialects.harness import ACME, World
from tests.dialects.shapes import instant
from tests.wire.backend import eventually

KEYS = "/api-keys"


def test_creates_what_was_asked_for(world: World) -> None:
    caller = world.user("editor")
    zone = datetime.timezone(datetime.timedelta(hours=2))
    expires = (datetime.datetime.now(zone) + datetime.timedelta(days=90)).isoformat(timespec="seconds")
    made = world.secret_key(
        caller, name="CI", description="d", environmentId="prod", expiresAt=expires, intendedUse="ci-cd"
    )
    shapes.SECRET_CREATED.compare(made)
    token = made["secretKey"]
    assert re.fullmatch(r"acme_live_[0-9A-Za-z]{50}", token), "the environment's prefix, then 12 + 32 + 6"
    assert (made["prefix"], made["lastFour"]) == (token[:14], token[-4:])
    assert instant(made["expiresAt"]) == instant(expires)
    assert made["createdBySubjectId"] == caller.user_id
    assert made["subjectId"] not in (caller.user_id, made["id"])
    assert made["status"] == "active"


def test_lists_and_shows_keys_without_their_tokens(world: World) -> None:
    caller = world.user("editor", world.tenant())
    made = [world.secret_key(caller) for _ in range(3)]
    shown = caller.get(f"{KEYS}/{made[0]['id']}").expect(200)
    expected = {name: value for name, value in made[0].items() if name != "secretKey"}
    assert shown.json == expected
    page = caller.get(KEYS).expect(200)
    assert set(page.json) == {"data", "next"}
    assert page.json["next"] is None
    assert {one["id"] for one in page.json["data"]} == {one["id"] for one in made}
    for answer in (shown, page):
        assert "secretKey" not in answer.text
        assert not any(one["secretKey"] in answer.text for one in made)


def test_pages_follow_the_cursor(world: World) -> None:
    caller = world.user("editor", world.tenant())
    made = {world.secret_key(caller)["id"] for _ in range(5)}
    seen: list[str] = []
    after = ""
    while True:
        page = caller.get(f"{KEYS}?limit=2{after}").expect(200).json
        seen += [one["id"] for one in page["data"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert len(seen) == 5
    assert set(seen) == made


def test_a_key_may_read_when_nothing_is_said(world: World) -> None:
    """Design §8: "`viewer` when silent"."""
    caller = world.user("editor")
    silent, asked = world.secret_key(caller), world.secret_key(caller, permission="editor")
    for key, write in ((silent, 403), (asked, 200)):
        eventually(lambda key=key: world.proxy(key["secretKey"]) == 200)
        assert world.proxy(key["secretKey"], "PUT") == write


def test_the_longest_life_is_a_calendar_year(world: World) -> None:
    caller = world.user("editor")
    made = world.secret_key(caller)
    created, ends = instant(made["createdAt"]), instant(made["expiresAt"])
    assert (ends.year, ends.month) == (created.year + 1, created.month), "without a wish: the maximum"
    late = (created + datetime.timedelta(days=367)).isoformat().replace("+00:00", "Z")
    answer = caller.post(KEYS, {"name": "n", "tenantId": ACME, "expiresAt": late}).expect(400)
    assert "expiresAt" in shapes.problem_of(answer)["detail"]


def test_a_revoked_key_is_shown_as_revoked(world: World) -> None:
    """Reading: ``DELETE`` may answer 200 with the key, or 204; §8 fixes it for the others alone."""
    caller = world.user("editor")
    made = world.secret_key(caller)
    eventually(lambda: world.proxy(made["secretKey"]) == 200)
    caller.delete(f"{KEYS}/{made['id']}").expect(200, 204)
    assert caller.get(f"{KEYS}/{made['id']}").expect(200).json["status"] == "revoked"
    eventually(lambda: world.proxy(made["secretKey"]) == 401)
    caller.delete(f"{KEYS}/{made['id']}").expect(200, 204)


def test_revoking_can_take_descendants_along(world: World) -> None:
    """Design §8: "its lineage is recorded, and revoking can take descendants along".

    Reading: ``?descendants=true``, as the command line's ``--descendants``.
    """
    caller = world.user("editor")
    parent = world.secret_key(caller, permission="editor")
    child = world.secret_key(world.key_caller(parent["secretKey"]))
    caller.delete(f"{KEYS}/{parent['id']}?descendants=true").expect(200, 204)
    assert caller.get(f"{KEYS}/{child['id']}").json["status"] == "revoked"


def test_a_successor_works_beside_the_old_key_for_the_overlap(world: World) -> None:
    caller = world.user("editor", world.tenant())
    old = world.secret_key(caller, permission="editor", name="rotated", intendedUse="ci-cd")
    answer = caller.post(f"{KEYS}/{old['id']}/rotate", {"overlap": "PT1H"}).expect(201)
    new = answer.json
    world.keep_secret(new["secretKey"])
    shapes.SECRET_CREATED.compare(new | {"environmentId": "-"})
    assert new["id"] != old["id"]
    assert new["secretKey"] != old["secretKey"]
    for same in ("subjectId", "name", "tenantId", "intendedUse"):
        assert new[same] == old[same]
    assert new["replaces"] == old["id"]
    shown = caller.get(f"{KEYS}/{old['id']}").json
    left = instant(shown["expiresAt"]) - instant(new["createdAt"])
    assert abs(left - datetime.timedelta(hours=1)) < datetime.timedelta(seconds=5)
    assert {one["id"] for one in caller.get(KEYS).json["data"]} == {old["id"], new["id"]}
    for key in (old, new):
        eventually(lambda key=key: world.proxy(key["secretKey"], "POST") == 200)


def test_the_overlap_is_a_day_unless_said_and_may_be_none(world: World) -> None:
    caller = world.user("editor")
    for body, seconds in (({}, 86_400), ({"overlap": "PT0S"}, 0)):
        old = world.secret_key(caller)
        new = caller.post(f"{KEYS}/{old['id']}/rotate", body).expect(201).json
        world.keep_secret(new["secretKey"])
        shown = caller.get(f"{KEYS}/{old['id']}").json
        left = (instant(shown["expiresAt"]) - instant(new["createdAt"])).total_seconds()
        assert abs(left - seconds) < 5
    assert shown["status"] == "expired"
    eventually(lambda: world.proxy(old["secretKey"]) == 401)


def test_an_overlap_does_not_prolong_the_old_key(world: World) -> None:
    """Design §8: "the old key ends at the earlier of its expiry and the overlap"."""
    caller = world.user("editor")
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).isoformat()
    old = world.secret_key(caller, expiresAt=soon)
    new = caller.post(f"{KEYS}/{old['id']}/rotate", {"overlap": "P1D"}).expect(201).json
    world.keep_secret(new["secretKey"])
    assert caller.get(f"{KEYS}/{old['id']}").json["expiresAt"] == old["expiresAt"]


def test_a_key_has_one_successor_and_an_ended_one_none(world: World) -> None:
    caller = world.user("editor")
    old, ended = world.secret_key(caller), world.secret_key(caller)
    new = caller.post(f"{KEYS}/{old['id']}/rotate", {}).expect(201).json
    world.keep_secret(new["secretKey"])
    shapes.problem_of(caller.post(f"{KEYS}/{old['id']}/rotate", {}).expect(409))
    caller.delete(f"{KEYS}/{ended['id']}")
    shapes.problem_of(caller.post(f"{KEYS}/{ended['id']}/rotate", {}).expect(409))


@pytest.mark.parametrize(
    ("permission", "method", "allowed"),
    [
        ("viewer", "GET", True),
        ("viewer", "POST", False),
        ("editor", "DELETE", True),
    ],
)
def test_permissions_tell_what_the_proxy_would_do(
    world: World, permission: str, method: str, allowed: bool
) -> None:
    caller = world.writer()
    key = world.secret_key(caller, permission=permission)
    answer = caller.get(f"{KEYS}/{key['id']}/permissions?method={method}&path=/reports/1").expect(200).json
    assert {"allowed", "reason", "permission", "route"} <= set(answer)
    assert (answer["allowed"], answer["permission"]) == (allowed, permission)
    if method == "POST":
        assert answer["reason"] == "permission_denied"
    if allowed:
        assert answer["route"]


def test_permissions_of_a_revoked_key_are_none(world: World) -> None:
    caller = world.writer()
    key = world.secret_key(caller)
    caller.delete(f"{KEYS}/{key['id']}")
    asked = f"{KEYS}/{key['id']}/permissions?method=GET&path=/"

    def answer() -> Any:
        return caller.get(asked).expect(200).json

    eventually(lambda: answer()["allowed"] is False)
    assert answer()["reason"] == "key_revoked"


def test_giving_its_subject_a_role_changes_what_a_key_may_do(world: World) -> None:
    caller = world.writer()
    key = world.secret_key(caller)
    where = f"/api/1/tenants/{ACME}/subjects/{key['subjectId']}/role"
    eventually(lambda: world.proxy(key["secretKey"], "POST") == 403)
    caller.put(where, {"role": "editor"}).expect(200, 204)
    eventually(lambda: world.proxy(key["secretKey"], "POST") == 200)
    asked = f"{KEYS}/{key['id']}/permissions?method=POST&path=/"
    assert caller.get(asked).json["allowed"] is True
    caller.put(where, {"role": "viewer"}).expect(200, 204)
    eventually(lambda: world.proxy(key["secretKey"], "POST") == 403)


def test_an_editor_gives_no_more_than_she_has(world: World) -> None:
    caller = world.writer()
    key = world.secret_key(caller)
    where = f"/api/1/tenants/{ACME}/subjects/{key['subjectId']}/role"
    caller.put(where, {"role": "admin"}).expect(400, 403)
    caller.put(where, {"role": "no such role"}).expect(400)
    holder = world.key_caller(world.secret_key(caller, permission="viewer")["secretKey"])
    holder.put(where, {"role": "viewer"}).expect(403)
