"""Keys of an organisation (``000``, ``001``): what the documents say in prose, and design §8 of them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tests.dialects import shapes
from tests.dialects.client import Caller
from tests.dialects.harness import GLOBEX, World
from tests.dialects.shapes import instant
from tests.wire.backend import eventually

KEYS = "/api/1/api-keys"


@pytest.mark.parametrize("field", ["Authorization: BEARER", "Authorization: Bearer", "X-API-KEY:"])
def test_a_login_token_authenticates_in_either_field(world: World, field: str) -> None:
    name, _, scheme = field.partition(":")
    token = world.writer().token
    world.call("GET", KEYS, fields=[(name, f"{scheme} {token}".strip())]).expect(200)


@pytest.mark.parametrize(
    "field", ["Authorization: BEARER", "Authorization: bearer", "Authorization: X-API-KEY", "X-API-KEY:"]
)
def test_an_api_key_authenticates_in_either_field(world: World, field: str) -> None:
    """The last of ``Authorization`` is what public clients of this API send (design §4)."""
    key = world.qwilt_key(world.user("editor", world.tenant()), permission="editor")["apiToken"]
    name, _, scheme = field.partition(":")
    holder = Caller(world.port, key, ((name, f"{scheme} {key}".strip()),))
    made = world.qwilt_key(holder)
    assert made["keyId"] in {one["keyId"] for one in holder.get(f"{KEYS}?limit=100").expect(200).json}


def test_lists_and_shows_keys_without_their_tokens(world: World) -> None:
    caller = world.user("editor", world.tenant())
    made = world.qwilt_key(caller, description="what it is for", ttl=7)
    shapes.QWILT_CREATED.compare(made)
    shown = caller.get(f"{KEYS}/{made['keyId']}").expect(200)
    shapes.Members(
        shapes.QWILT_KEY.expected | {name: made[name] for name in shapes.QWILT_KEY.expected}
    ).compare(shown.json)
    listed = caller.get(f"{KEYS}?limit=100").expect(200)
    assert isinstance(listed.json, list)
    assert shown.json in listed.json
    for answer in (shown, listed):
        assert made["apiToken"] not in answer.text
        assert "apiToken" not in answer.text


def test_expire_at_is_ttl_days_after_created_at(world: World) -> None:
    for ttl in (1, 365):
        made = world.qwilt_key(world.writer(), ttl=ttl)
        assert made["ttl"] == ttl
        lifetime = instant(made["expireAt"]) - instant(made["createdAt"])
        assert lifetime == datetime.timedelta(days=ttl)


def test_beyond_365_days_is_refused_and_names_ttl(world: World) -> None:
    for ttl in (366, 0, -1):
        answer = world.writer().post(KEYS, {"name": "n", "ttl": ttl, "permission": "viewer"}).expect(400)
        assert "ttl" in shapes.problem_of(answer)["detail"]


@pytest.mark.parametrize(
    ("permission", "write"),
    [("viewer", 403), ("Viewer", 403), ("MediaViewer", 403), ("editor", 200), ("Editor", 200),
     ("EDITOR", 200), ("MediaEditor", 200)],
)  # fmt: skip
def test_a_permission_is_echoed_as_given_and_holds_at_the_proxy(
    world: World, permission: str, write: int
) -> None:
    made = world.qwilt_key(world.writer(), permission=permission)
    assert made["permission"] == permission
    eventually(lambda: world.proxy(made["apiToken"]) == 200)
    assert world.proxy(made["apiToken"], "DELETE") == write


def test_keys_are_numbered_within_the_organisation(world: World) -> None:
    ours, theirs = world.writer(), world.writer(tenant=GLOBEX)
    first, second = world.qwilt_key(ours), world.qwilt_key(ours)
    assert int(second["keyId"]) > int(first["keyId"])
    other = world.qwilt_key(theirs)
    assert other["ownerId"] == GLOBEX
    assert theirs.get(f"{KEYS}/{other['keyId']}").json["name"] == other["name"]


def test_a_key_belongs_to_the_organisation_of_the_token_that_made_it(world: World) -> None:
    """001: "the API key is valid only for the organization selected ... at the time"."""
    first, second = world.tenant(), world.tenant()
    person = world.person("editor", first)
    world.join(person, "editor", second)
    here, there = world.session(person), world.session(person, second)
    for caller, owner, stranger in ((here, first, there), (there, second, here)):
        made = world.qwilt_key(caller)
        assert (made["ownerId"], made["createdBy"]) == (owner, person.email)
        names = {one["name"] for one in stranger.get(f"{KEYS}?limit=100").json}
        assert made["name"] not in names


def test_every_member_sees_every_key_of_the_organisation(world: World) -> None:
    """001: "a list of all the API Keys created by users in your organization is displayed"."""
    made = world.qwilt_key(world.writer())
    for role in ("viewer", "editor", "admin"):
        other = world.user(role)
        assert other.get(f"{KEYS}/{made['keyId']}").expect(200).json["name"] == made["name"]


def test_a_key_that_a_key_made_names_its_maker(world: World) -> None:
    parent = world.qwilt_key(world.writer(), permission="editor")
    made = world.qwilt_key(world.key_caller(parent["apiToken"]))
    assert isinstance(made["createdBy"], str)
    assert made["createdBy"]
    assert parent["apiToken"] not in made["createdBy"]


def test_a_revoked_key_is_shown_and_stays_revoked(world: World) -> None:
    """000/001: DELETE revokes, "it cannot be re-enabled"; the answer is the key, with 200."""
    caller = world.writer()
    made = world.qwilt_key(caller)
    eventually(lambda: world.proxy(made["apiToken"]) == 200)
    answer = caller.delete(f"{KEYS}/{made['keyId']}").expect(200)
    shapes.QWILT_KEY.compare(answer.json)
    assert answer.json["keyId"] == made["keyId"]
    assert "apiToken" not in answer.json
    eventually(lambda: world.proxy(made["apiToken"]) == 401)
    caller.get(f"{KEYS}/{made['keyId']}").expect(200)
    caller.delete(f"{KEYS}/{made['keyId']}").expect(200)
    for method in ("PUT", "PATCH", "POST"):
        refused = caller.ask(method, f"{KEYS}/{made['keyId']}", {"status": "active"}).expect(405)
        assert {"GET", "DELETE"} <= set((refused.value("allow") or "").replace(" ", "").split(","))
    assert world.proxy(made["apiToken"]) == 401


def test_pages_follow_one_another_without_loss(world: World) -> None:
    """Design §8: ``limit`` and ``after``, which is a ``keyId``; a cursor is exclusive."""
    caller = world.user("editor", world.tenant())
    made = [world.qwilt_key(caller)["keyId"] for _ in range(5)]
    whole = [one["keyId"] for one in caller.get(f"{KEYS}?limit=100").expect(200).json]
    assert sorted(whole) == sorted(made)
    seen: list[str] = []
    after = ""
    while page := caller.get(f"{KEYS}?limit=2{after}").expect(200).json:
        assert len(page) <= 2
        seen += [one["keyId"] for one in page]
        after = f"&after={page[-1]['keyId']}"
    assert seen == whole


def test_a_viewer_creates_nothing_and_an_editor_no_admin(world: World) -> None:
    wish: dict[str, Any] = {"name": "n", "ttl": 1, "permission": "viewer"}
    shapes.problem_of(world.user("viewer").post(KEYS, wish).expect(403))
    for role in ("editor", "admin"):
        answer = world.user(role).post(KEYS, wish | {"permission": "admin"}).expect(400)
        assert "permission" in answer.json["detail"]


def test_a_key_grants_no_more_than_it_has(world: World) -> None:
    viewer_key = world.key_caller(world.qwilt_key(world.writer(), permission="viewer")["apiToken"])
    viewer_key.post(KEYS, {"name": "n", "ttl": 1, "permission": "viewer"}).expect(403)


def test_what_was_left_out_of_a_description_is_empty(world: World) -> None:
    """001: "An optional key description"."""
    answer = world.writer().post(KEYS, {"name": "undescribed", "ttl": 1, "permission": "viewer"}).expect(201)
    world.keep_secret(answer.json["apiToken"])
    assert answer.json["description"] == ""
