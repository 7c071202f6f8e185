"""Queries and path segments that mean nothing here: 400 that names the parameter, or 404 (pitfall 75)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.dialects import shapes
from tests.dialects.client import Answer, Caller
from tests.dialects.harness import GLOBEX, World

REFUSALS: dict[str, Callable[[Answer], dict[str, object]]] = {
    "/v1/api-keys": shapes.errors_of,
    "/api/v1/api-keys": shapes.errors_of,
}
LISTS = ("/api/1/api-keys", "/v1/api-keys", "/api-keys", "/api/1/audit")
NUMBERS = (
    "0",
    "-1",
    "1_0",
    "%EF%BC%91%EF%BC%90",
    "",
    "1.5",
    "1e1",
    "ten",
    "0x10",
    "%2B5",
    "5%20",
    "%205",
    "05" * 40,
)


@pytest.fixture(scope="module")
def admin(world: World) -> Caller:
    return world.user("admin", world.tenant())


@pytest.fixture(scope="module")
def key(world: World, admin: Caller) -> str:
    return str(world.secret_key(admin)["id"])


def refused(caller: Caller, path: str, query: str, *names: str) -> None:
    answer = caller.get(f"{path}?{query}").expect(400)
    told = json.dumps(REFUSALS.get(path, shapes.problem_of)(answer))
    for name in names:
        assert name in told, f"{name} is not named: {told}"


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [*NUMBERS, "10001", "9" * 5000])
def test_a_limit_is_a_whole_number_within_its_range(admin: Caller, path: str, limit: str) -> None:
    refused(admin, path, f"limit={limit}", "limit")


@pytest.mark.parametrize("path", ["/v1/api-keys", "/api/v1/api-keys"])
def test_003_lists_at_most_100(admin: Caller, path: str) -> None:
    refused(admin, path, "limit=101", "limit")
    admin.get(f"{path}?limit=100").expect(200)
    admin.get(f"{path}?limit=1").expect(200)


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/v1/api-keys", "sort=name", "sort"),
        ("/v1/api-keys", "sort=", "sort"),
        ("/v1/api-keys", "sort=%2B", "sort"),
        ("/v1/api-keys", "sort=--created", "sort"),
        ("/v1/api-keys", "sort=Created", "sort"),
        ("/v1/api-keys", "sort=created;drop", "sort"),
        ("/v1/api-keys", "status=Active", "status"),
        ("/v1/api-keys", "status=", "status"),
        ("/v1/api-keys", "status=removed", "status"),
        ("/v1/api-keys", "Limit=1", "Limit"),
        ("/v1/api-keys", "after=x", "after"),
        ("/v1/api-keys", "sub=%00", "sub"),
        ("/api/1/api-keys", "startingAfter=1", "startingAfter"),
        ("/api/1/api-keys", "sort=created", "sort"),
        ("/api-keys", "unknown=1", "unknown"),
        ("/api/1/audit", "unknown=1", "unknown"),
        ("/api/1/audit", "since=yesterday", "since"),
        ("/api/1/tenants", "unknown=1", "unknown"),
    ],
)
def test_an_unknown_parameter_or_value_is_named(admin: Caller, path: str, query: str, name: str) -> None:
    refused(admin, path, query, name)


@pytest.mark.parametrize("path", LISTS)
def test_a_repeated_parameter_is_named(admin: Caller, path: str) -> None:
    refused(admin, path, "limit=1&limit=2", "limit")
    refused(admin, path, "limit=1&limit=1", "limit")
    refused(admin, path, "limit=1&l%69mit=1", "limit")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("query", ["limit=%zz", "limit=%", "limit=1%00", "after=%ff%fe", "limit=1&%ff=1"])
def test_malformed_escapes_are_refused(admin: Caller, path: str, query: str) -> None:
    refused(admin, path, query)


def test_forged_foreign_and_contradicting_cursors_are_refused(world: World, admin: Caller) -> None:
    """Another tenant's key as a cursor is refused in the words of one that never was."""
    stranger = world.secret_key(world.writer(tenant=GLOBEX))
    mine = world.secret_key(admin)["id"]
    absent = "apk_01900000-0000-7000-8000-000000000000"
    for name in ("startingAfter", "endingBefore"):
        told = [
            shapes.errors_of(admin.get(f"/v1/api-keys?{name}={cursor}").expect(400))
            for cursor in (stranger["id"], absent)
        ]
        assert told[0]["detail"].replace(stranger["id"], absent) == told[1]["detail"]
        for cursor in ("x", "", "apk_", "%00", "apk_" + "9" * 400):
            refused(admin, "/v1/api-keys", f"{name}={cursor}")
    refused(admin, "/v1/api-keys", f"startingAfter={mine}&endingBefore={mine}")
    for cursor in ("x", "", stranger["id"], absent, "eyJhIjoxfQ", "%00", "-1"):
        refused(admin, "/api-keys", f"after={cursor}", "after")
        refused(admin, "/api/1/api-keys", f"after={cursor}", "after")
        refused(admin, "/api/1/audit", f"after={cursor}", "after")
    refused(admin, "/api/1/api-keys", "after=987654", "after")


@pytest.mark.parametrize(
    "segment",
    [
        "0",
        "-1",
        "1_0",
        "%EF%BC%91",
        "01",
        "1.0",
        "abc",
        "%00",
        "9" * 40,
        "1%2F2",
        "%F0%9F%98%80",
        "%ff",
        "%20",
        "apk_",
        "apk_x",
        "..",
        "%2e%2e",
        "'%20OR%201=1--",
        "a" * 3000,
    ],
)
def test_an_id_that_is_none_is_not_found(world: World, segment: str) -> None:
    """404, or 400 where the path itself is malformed; never a 500, and never a key."""
    admin = world.writer("admin")
    for path in (
        f"/api/1/api-keys/{segment}",
        f"/v1/api-keys/{segment}",
        f"/api-keys/{segment}",
        f"/v1/api-keys/configs/{segment}",
        f"/api/1/tenants/{segment}/users",
    ):
        admin.get(path).expect(404, 400, 414)
        admin.delete(path).expect(404, 400, 414, 405)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("", "method"),
        ("method=GET", "path"),
        ("path=/", "method"),
        ("method=&path=/", "method"),
        ("method=G%20T&path=/", "method"),
        ("method=GET&path=", "path"),
        ("method=GET&path=reports", "path"),
        ("method=GET&path=http://x/", "path"),
        ("method=GET&path=/&path=/a", "path"),
        ("method=GET&path=/&host=a&host=b", "host"),
        ("method=GET&path=/%00", ""),
        ("method=GET&path=/%0d%0ax", ""),
    ],
)
def test_permissions_want_a_method_and_a_path(admin: Caller, key: str, query: str, name: str) -> None:
    answer = admin.get(f"/api-keys/{key}/permissions?{query}").expect(400)
    assert name in json.dumps(shapes.problem_of(answer))


def test_a_path_that_the_proxy_refuses_is_not_allowed(admin: Caller, key: str) -> None:
    for path in ("/a/../b", "/a/%252e%252e/b", "/a//b", "/%255c"):
        answer = admin.get(f"/api-keys/{key}/permissions?method=GET&path={path}")
        if answer.expect(200, 400).status == 200 and path != "/a//b":
            assert answer.json["allowed"] is False, path


def test_two_different_credentials_conflict(world: World) -> None:
    """Design §4: present and equal is fine; different, or one repeated, is 400."""
    one, two = world.writer().token, world.user("viewer").token
    same = [("X-API-KEY", one), ("Authorization", f"Bearer {one}")]
    world.call("GET", "/api/1/api-keys", fields=same).expect(200)
    for fields in (
        [("X-API-KEY", one), ("Authorization", f"Bearer {two}")],
        [("X-API-KEY", one), ("X-API-KEY", one)],
        [("Authorization", f"Bearer {one}"), ("Authorization", f"Bearer {one}")],
    ):
        answer = world.call("GET", "/api/1/api-keys", fields=fields).expect(400)
        assert shapes.problem_of(answer)["code"] == "conflicting_credentials"
