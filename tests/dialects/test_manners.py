"""Manners of the control plane's answers: methods, unknown paths, HEAD, caching, security fields, CORS."""

from __future__ import annotations

import re

import pytest

from tests.dialects import shapes
from tests.dialects.client import Answer
from tests.dialects.harness import ACME, World
from tests.wire.client import Client

# Every endpoint of design §8 with a method or more, and what else there may be.
ALLOWED = {
    "/api/1/api-keys": {"GET", "POST"},
    "/api/1/api-keys/1": {"GET", "DELETE"},
    "/v1/api-keys": {"GET", "POST"},
    "/v1/api-keys/apk_x": {"GET", "PATCH", "DELETE"},
    f"/v1/api-keys/configs/{ACME}": {"GET", "PATCH"},
    "/api/v1/api-keys": {"GET", "POST"},
    "/api/v1/api-keys/apk_x": {"GET", "PATCH", "DELETE"},
    f"/api/v1/api-keys/configs/{ACME}": {"GET", "PATCH"},
    "/api-keys": {"GET", "POST"},
    "/api-keys/apk_x": {"GET", "DELETE"},
    "/api-keys/apk_x/rotate": {"POST"},
    "/api-keys/apk_x/permissions": {"GET"},
    "/login": {"GET", "POST"},
    "/logout": {"POST"},
    "/.well-known/jwks.json": {"GET"},
    "/openapi.json": {"GET"},
    "/docs": {"GET"},
    "/api/1/audit": {"GET"},
}
PUBLIC = ("/.well-known/jwks.json", "/openapi.json", "/docs")


@pytest.mark.parametrize("path", ALLOWED)
def test_other_methods_are_405_with_allow(world: World, path: str) -> None:
    caller = world.writer("admin")
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"} - ALLOWED[path]:
        answer = caller.ask(method, path).expect(405)
        allow = set((answer.value("allow") or "").replace(" ", "").split(","))
        assert allow - {"HEAD", "OPTIONS"} == ALLOWED[path], method
        (shapes.errors_of if "/v1/" in path else shapes.problem_of)(answer)


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api",
        "/api/1",
        "/api/1/api-keys/1/2",
        "/v1",
        "/v1/api-keys/configs",
        "/api-keys/apk_x/nowhere",
        "/API-KEYS",
        "/api-keys/",
        "//api-keys",
        "/api-keys/apk_x/rotate/",
        "/login/",
        "/metrics",
        "/readyz",
        "/.git/config",
        "/openapi.yaml",
    ],
)
def test_an_unknown_path_is_404_in_the_shape_of_its_dialect(world: World, path: str) -> None:
    """Pitfall 58: nothing of other listeners is here. A trailing slash makes another path."""
    answer = world.writer("admin").get(path).expect(404)
    (shapes.errors_of if path.startswith("/v1/") else shapes.problem_of)(answer)


@pytest.mark.parametrize("path", ["/api/1/api-keys", "/v1/api-keys", "/api-keys", *PUBLIC])
def test_head_is_get_without_its_body(world: World, path: str) -> None:
    caller = world.user("viewer", world.tenant())
    head, get = caller.ask("HEAD", path).expect(200), caller.get(path).expect(200)
    assert head.body == b""
    assert head.value("content-type") == get.value("content-type")
    assert head.value("content-length") in (get.value("content-length"), None)


def _everywhere(world: World) -> list[Answer]:
    caller = world.writer()
    paths = ["/api/1/api-keys", "/v1/api-keys", "/api-keys", "/api/1/session", "/nowhere", "/login", *PUBLIC]
    answers = [caller.get(path) for path in paths]
    answers += [world.call("GET", "/api-keys"), caller.post("/api-keys", []), caller.ask("PUT", "/api-keys")]
    return [*answers, caller.delete("/v1/api-keys/apk_x")]


def test_every_answer_has_a_request_id_and_tells_no_version(world: World) -> None:
    for answer in _everywhere(world):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.value("x-request-id") or ""), answer
        assert not re.search(r"aiohttp|python|\d", answer.value("server") or "", re.IGNORECASE)
        assert answer.value("x-content-type-options") == "nosniff"


def test_a_request_id_of_the_callers_is_kept_if_it_is_one(world: World) -> None:
    given = "a-Request_1.2"
    assert world.call("GET", "/api-keys", fields=[("X-Request-Id", given)]).value("x-request-id") == given
    for bad in ("", "x" * 129, 'a"b', "a b", "\u00e9"):
        answer = world.call("GET", "/api-keys", fields=[("X-Request-Id", bad)])
        assert answer.value("x-request-id") not in (bad, None, "")


def test_no_answer_invites_other_origins(world: World) -> None:
    """No CORS unless configured: neither the answers nor a preflight say a word of it."""
    origin = [("Origin", "https://evil.example")]
    preflight = [
        *origin,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "x-api-key"),
    ]
    caller = world.writer()
    for path in ("/api-keys", "/v1/api-keys", "/api/1/api-keys", "/login", "/.well-known/jwks.json"):
        for answer in (caller.get(path, fields=origin), world.call("OPTIONS", path, fields=preflight)):
            told = [name for name, _ in answer.fields if name.lower().startswith("access-control-")]
            assert told == [], path


def test_answers_that_carry_a_token_or_a_key_are_not_stored(world: World) -> None:
    caller = world.user("editor")
    wishes = {
        "/api/1/api-keys": {"name": "n", "ttl": 1, "permission": "viewer"},
        "/v1/api-keys": {"description": "d"},
        "/api-keys": {"name": "n", "tenantId": ACME},
    }
    made = [caller.post(path, wish).expect(201) for path, wish in wishes.items()]
    made.append(caller.post(f"/api-keys/{made[-1].json['id']}/rotate", {}).expect(201))
    for answer in made:
        members = answer.json
        token = members.get("apiToken") or members.get("token") or members["secretKey"]
        world.keep_secret(token.rpartition(".")[2])
        assert "no-store" in (answer.value("cache-control") or "")
    for path in [*wishes, "/api/1/session", "/api/1/audit"]:
        assert "no-store" in (caller.get(path).value("cache-control") or ""), path


def test_documents_for_browsers_are_held_by_a_strict_policy(world: World) -> None:
    answer = world.call("GET", "/docs").expect(200)
    assert (answer.value("content-type") or "").startswith("text/html")
    policy = answer.value("content-security-policy") or ""
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert "unsafe-eval" not in policy
    assert not re.search(r'(?:src|href)="(?:https?:)?//', answer.text), "assets are served here"


def test_the_description_is_openapi_3_1_and_names_every_endpoint(world: World) -> None:
    description = world.call("GET", "/openapi.json").expect(200).json
    assert re.fullmatch(r"3\.1\.\d+", description["openapi"])
    known = {
        (re.sub(r"\{[^}]*\}", "{}", path), method.upper())
        for path, methods in description["paths"].items()
        for method in methods
    }
    for path, methods in ALLOWED.items():
        if path in ("/openapi.json", "/docs"):
            continue
        template = re.sub(r"/(1|apk_x|acme)(?=/|$)(?<!/api/1)", "/{}", path)
        for method in methods:
            assert (template, method) in known, f"{method} {template} is not described"


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /api-keys HTTP/2.0",
        b"GET  /api-keys HTTP/1.1",
        b"GET /api-keys",
        b"\x16\x03\x01",
        b"GET /a\x00b HTTP/1.1",
    ],
)
def test_what_is_no_http_gets_no_traceback(world: World, request_line: bytes) -> None:
    with Client(world.port) as client:
        client.send(request_line + b"\r\nHost: x\r\n\r\n")
        data = client.sock.recv(65536)
    assert b"Traceback" not in data
    assert b"aiohttp" not in data.lower()
    assert not data.startswith((b"HTTP/1.1 2", b"HTTP/1.1 5", b"HTTP/1.0 2", b"HTTP/1.0 500"))
