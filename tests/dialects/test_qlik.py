"""Keys that act as their users (``003``): the token, its times, and lists in every documented way."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from tests.dialects import shapes
from tests.dialects.client import Caller, claims_of, header_of
from tests.dialects.harness import ACME, PUBLIC_URL, World
from tests.dialects.shapes import instant
from tests.wire.backend import eventually

BASES = ("/v1/api-keys", "/api/v1/api-keys")
KEYS = BASES[1]
SORTS = ("createdByUser", "sub", "status", "description", "created")


def patch(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": path, "value": value}]


@pytest.mark.parametrize("base", BASES)
def test_every_endpoint_answers_under_both_bases(world: World, base: str) -> None:
    caller = world.user("admin")
    made = caller.post(base, {"description": "both", "expiry": "PT1H"}).expect(201)
    world.keep_secret(made.json["token"].rpartition(".")[2])
    shapes.QLIK_CREATED.compare(made.json)
    one = f"{base}/{made.json['id']}"
    shapes.QLIK_KEY.compare(caller.get(one).expect(200).json)
    page = caller.get(base).expect(200).json
    assert set(page) == {"data", "links"}
    assert caller.patch(one, patch("/description", "changed")).expect(204).body == b""
    assert caller.delete(one).expect(204).body == b""
    config = f"{base}/configs/{ACME}"
    shapes.QLIK_CONFIG.compare(caller.get(config).expect(200).json)
    assert caller.patch(config, patch("/api_keys_enabled", True)).expect(204).body == b""


def test_the_token_is_a_signed_jwt_that_passes_the_proxy_in_either_field(world: World) -> None:
    caller = world.user("editor")
    made = world.qlik_key(caller)
    token, claims = made["token"], claims_of(made["token"])
    assert (claims["jti"], claims["sub"], claims["tenantId"]) == (made["id"], caller.user_id, ACME)
    assert (made["sub"], made["createdByUser"]) == (caller.user_id, caller.user_id)
    keys = {key["kid"]: key for key in world.call("GET", "/.well-known/jwks.json").json["keys"]}
    jwt.decode(token, jwt.PyJWK(keys[header_of(token)["kid"]]), algorithms=["RS256"], audience="gateway:key")
    for field_name in ("X-API-KEY", "Authorization"):
        eventually(lambda name=field_name: world.proxy(token, "POST", field_name=name) == 200)
    caller.delete(f"{KEYS}/{made['id']}").expect(204)
    eventually(lambda: world.proxy(token) == 401)


def test_the_key_may_do_what_its_user_may_now(world: World) -> None:
    person = world.person("editor")
    caller = world.session(person)
    token = world.qlik_key(caller)["token"]
    eventually(lambda: world.proxy(token, "POST") == 200)
    world.cli("users", "set", person.email, "--tenant", ACME, "--role", "viewer")
    eventually(lambda: world.proxy(token, "POST") == 403)
    assert world.proxy(token) == 200
    world.cli("users", "set", person.email, "--enabled", "false")
    eventually(lambda: world.proxy(token) in (401, 403))


def test_expiry_is_a_duration_from_creation_and_the_maximum_without(world: World) -> None:
    """Design §8: "missing: the tenant's maximum"."""
    tenant = world.tenant()
    world.cli("tenants", "set", tenant, "--max-api-key-expiry", "PT24H")
    caller = world.user("editor", tenant)
    for wish, hours in (({"expiry": "PT1H"}, 1), ({"expiry": "PT24H"}, 24), ({}, 24)):
        made = caller.post(KEYS, {"description": "d"} | wish).expect(201).json
        world.keep_secret(made["token"].rpartition(".")[2])
        assert (instant(made["expiry"]) - instant(made["created"])).total_seconds() == hours * 3600
    answer = caller.post(KEYS, {"description": "d", "expiry": "PT24H1S"}).expect(400)
    assert "expiry" in shapes.errors_of(answer)["detail"]


@pytest.fixture(scope="module")
def shelf(world: World) -> tuple[Caller, list[str]]:
    """A tenant with 9 keys of two users in all three states, and its admin."""
    tenant = world.tenant()
    admin, ann, bob = (world.user(role, tenant) for role in ("admin", "editor", "editor"))
    made: list[str] = []
    for index, owner in enumerate(itertools.islice(itertools.cycle((ann, bob)), 8)):
        expiry = "PT1S" if index < 2 else "P1D"
        made.append(world.qlik_key(owner, description=f"d{7 * index % 5}", expiry=expiry)["id"])
    made.append(world.qlik_key(admin, description="the admin's own")["id"])
    for key in made[2:4]:
        admin.delete(f"{KEYS}/{key}").expect(204)
    eventually(lambda: admin.get(f"{KEYS}/{made[1]}").json["status"] == "expired")
    return admin, made


def _ids(caller: Caller, query: str) -> list[str]:
    return [one["id"] for one in caller.get(f"{KEYS}?{query}").expect(200).json["data"]]


def test_filters_narrow_the_list(shelf: tuple[Caller, list[str]]) -> None:
    admin, made = shelf
    everything = admin.get(f"{KEYS}?limit=100").expect(200).json["data"]
    assert {one["id"] for one in everything} == set(made)
    for member in ("createdByUser", "sub", "status"):
        values = {one[member] for one in everything}
        assert len(values) > 1
        for value in values:
            expected = {one["id"] for one in everything if one[member] == value}
            assert set(_ids(admin, f"limit=100&{member}={value}")) == expected
    assert _ids(admin, f"status=active&sub={admin.user_id}") == [made[-1]]
    assert _ids(admin, "createdByUser=subject_of_nobody") == []


@pytest.mark.parametrize("name", SORTS)
@pytest.mark.parametrize("sign", ["", "+", "%2B", "%20", "-"])
def test_every_documented_order_in_pages_both_ways(
    shelf: tuple[Caller, list[str]], name: str, sign: str
) -> None:
    """``+created`` arrives as a blank: ``+``, ``%2B`` and a blank are one (design §8)."""
    admin, made = shelf
    whole = admin.get(f"{KEYS}?limit=100&sort={sign}{name}").expect(200).json["data"]
    assert {one["id"] for one in whole} == set(made)
    values = [one[name] for one in whole]
    if name == "status":  # its order is not written down: equal ones stand together, and - turns it round
        runs = [value for value, _ in itertools.groupby(values)]
        assert len(runs) == len(set(runs))
    else:
        assert values == sorted(values, reverse=sign == "-")

    forth, page = [], admin.get(f"{KEYS}?limit=4&sort={sign}{name}").expect(200).json
    while True:
        forth += [one["id"] for one in page["data"]]
        if "next" not in page["links"]:
            break
        last = page
        page = admin.get(_local(page["links"]["next"]["href"])).expect(200).json
    assert forth == [one["id"] for one in whole]
    back = admin.get(_local(page["links"]["prev"]["href"])).expect(200).json
    assert back["data"] == last["data"], "prev leads to the page before"


def _local(href: str) -> str:
    parts = urlsplit(href)
    return f"{parts.path}?{parts.query}"


def test_cursors_are_exclusive_and_descending_is_the_default(shelf: tuple[Caller, list[str]]) -> None:
    admin, _ = shelf
    whole = _ids(admin, "limit=100")
    assert whole == _ids(admin, "limit=100&sort=-created")
    assert _ids(admin, f"limit=3&startingAfter={whole[2]}") == whole[3:6]
    assert _ids(admin, f"limit=3&endingBefore={whole[5]}") == whole[2:5]
    assert _ids(admin, f"startingAfter={whole[-1]}") == []
    assert _ids(admin, f"endingBefore={whole[0]}") == []


def test_pages_lose_nothing_while_keys_are_added(world: World) -> None:
    caller = world.user("editor", world.tenant())
    before = [world.qlik_key(caller)["id"] for _ in range(4)]
    first = caller.get(f"{KEYS}?limit=2").json
    world.qlik_key(caller)
    second = caller.get(_local(first["links"]["next"]["href"])).json
    assert [one["id"] for one in first["data"] + second["data"]] == before[::-1]


def test_links_keep_the_question_and_use_the_configured_base(shelf: tuple[Caller, list[str]]) -> None:
    """Pitfall 57: never the caller's ``Host``."""
    admin, _ = shelf
    target = f"{KEYS}?limit=2&status=active&sort=%2Bdescription"
    for field in ("Host", "X-Forwarded-Host"):
        links = admin.get(target, fields=[(field, "evil.example")]).expect(200).json["links"]
        assert {"self", "next"} <= set(links)
        assert "prev" not in links, "this is the first page"
        for link in links.values():
            assert shapes.uri(link["href"])
            assert link["href"].startswith(PUBLIC_URL + KEYS), link
        assert parse_qs(urlsplit(links["next"]["href"]).query) == {
            "limit": ["2"],
            "status": ["active"],
            "sort": ["+description"],
            "startingAfter": [admin.get(target).json["data"][-1]["id"]],
        }


def test_twenty_are_listed_unless_asked_otherwise(world: World) -> None:
    caller = world.user("editor", world.tenant())
    for _ in range(21):
        world.qlik_key(caller)
    page = caller.get(KEYS).json
    assert (len(page["data"]), "next" in page["links"]) == (20, True)


def test_members_list_their_own_and_admins_all(world: World) -> None:
    tenant = world.tenant()
    admin, ann, bob = (world.user(role, tenant) for role in ("admin", "editor", "editor"))
    hers, his = world.qlik_key(ann)["id"], world.qlik_key(bob)["id"]
    assert _ids(ann, "") == [hers]
    assert _ids(bob, "") == [his]
    assert set(_ids(admin, "")) == {hers, his}
    acting = world.key_caller(world.qlik_key(ann)["token"])
    assert hers in _ids(acting, ""), "a key that acts as her sees what she sees"
