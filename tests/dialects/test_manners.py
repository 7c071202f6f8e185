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


def _raw(world: World, request: bytes) -> bytes:
    """Send bytes and return the first answer to them, whatever it looks like."""
    data = b""
    with Client(world.port, timeout=5) as client:
        client.send(request)
        while not _whole(data) and (more := client.sock.recv(65536)):
            data += more
    return data


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return end != b"" and length is not None and len(body) >= int(length[1])


ODD = {
    "HTTP/2.0": b"GET /api-keys HTTP/2.0\r\nHost: x\r\n\r\n",
    "two blanks": b"GET  /api-keys HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /api-keys\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no HTTP at all": b"canary\r\n\r\n",
    "NUL in the target": b"GET /canary\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "control in the query": b"GET /api-keys?key=canary\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "long target": b"GET /" + b"canary" * 4000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /api-keys HTTP/1.1\r\n\r\n",
    "two lengths": b"POST /api-keys HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "both framings": b"POST /api-keys HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /api-keys HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n",
    **{
        f"{name} {what}": b"GET /api-keys HTTP/1.1\r\nHost: x\r\n"
        + name.encode()
        + b": "
        + value
        + b"\r\n\r\n"
        for name in ("Authorization", "X-API-KEY", "Cookie")
        for what, value in (
            ("no ASCII", b"Bearer canary\xff\xfe"),
            ("control", b"Bearer canary\x01"),
            ("NUL", b"canary\x00"),
            ("two words", b"Bearer canary canary"),
            ("9 KB", b"Bearer " + b"canary" * 1500),
            ("100 KB", b"Bearer " + b"canary" * 17_000),
        )
    },
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_no_request_is_refused_without_an_echo_or_a_version(world: World, what: str) -> None:
    """It may hold a credential (pitfalls 104, 105). Missing ``Host`` alone may be overlooked."""
    data = _raw(world, ODD[what])
    status = data.split(b" ", 2)[1:2]
    assert status in ([b"400"], [b"401"], [b"404"], [b"405"], [b"414"], [b"431"], [b"505"], [b"501"]), data[
        :300
    ]
    for word in (b"canary", b"traceback", b"aiohttp", b"python"):
        assert word not in data.lower(), data[:600]
    assert b"canary" not in world.product.output.encode()
