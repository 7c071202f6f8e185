"""What every answer of the control listener carries, and how what is not served is told."""

from __future__ import annotations

import asyncio
import re

import pytest

from gateway.control.http.tiers import RATES
from tests.control.http.conftest import HEAD, RAISED, SECRET, Listener, read_one

KEPT_BY_NOBODY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/who", 200),
        ("HEAD", "/who", 200),
        ("GET", "/open", 200),
        ("GET", "/items?limit=x", 400),
        ("GET", "/nowhere", 404),
        ("POST", "/who", 405),
        ("GET", "/fail/fault", 500),
    ],
)
async def test_every_answer_has_the_headers_that_keep_it_safe(
    listener: Listener, method: str, target: str, status: int
) -> None:
    got = await listener.get(target, method=method)
    assert got.status == status
    assert {name: got.fields.get(name) for name in KEPT_BY_NOBODY} == KEPT_BY_NOBODY
    assert re.fullmatch("[0-9a-f]{32}", got.fields["x-request-id"])
    assert "date" in got.fields
    assert "server" not in got.fields


async def test_https_is_said_to_stay_only_where_it_is(listener: Listener) -> None:
    assert "strict-transport-security" not in (await listener.get("/who")).fields


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        ("abc-1.2_Z", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("a/b", False),
        ("", False),
        ('"', False),
    ],
)
async def test_a_request_id_is_kept_if_it_is_harmless(listener: Listener, shown: str, kept: bool) -> None:
    got = await listener.get("/who", f"{HEAD}X-Request-Id: {shown}\r\n")
    assert (got.fields["x-request-id"] == shown) is kept
    actor = got.json["actor"]
    assert isinstance(actor, dict)
    assert actor["request_id"] == got.fields["x-request-id"]


async def test_a_fault_names_its_request(listener: Listener) -> None:
    got = await listener.get("/nowhere", f"{HEAD}X-Request-Id: mine\r\n")
    assert got.json["request_id"] == got.fields["x-request-id"] == "mine"


async def test_a_head_tells_what_a_get_would_without_content(listener: Listener) -> None:
    got, head = await listener.get("/who"), await listener.get("/who", method="HEAD")
    assert head.content == b""
    assert head.fields["content-length"] == got.fields["content-length"]
    assert head.fields["content-type"] == got.fields["content-type"] == "application/json"
    missing = await listener.get("/who", "Host: x\r\n", method="HEAD")
    assert (missing.status, missing.content) == (401, b"")


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/who", "DELETE, GET, HEAD"),
        ("DELETE", "/items", "GET, HEAD, POST, PUT"),
        ("PATCH", "/items/7", "GET, HEAD"),
        ("OPTIONS", "/who", "DELETE, GET, HEAD"),
        ("TRACE", "/who", "DELETE, GET, HEAD"),
        ("PROPFIND", "/who", "DELETE, GET, HEAD"),
    ],
)
async def test_a_method_that_is_not_served_is_told_those_that_are(
    listener: Listener, method: str, target: str, allowed: str
) -> None:
    got = await listener.get(target, method=method)
    assert (got.status, got.fields["allow"], got.json["code"]) == (405, allowed, "method_not_allowed")
    assert got.fields["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "target",
    ["/", "/items/", "/items//7", "/ITEMS", "/items/7/8", "/items/a%00b", "/items/a%0ab", "/x/../who", "*"],
)
async def test_what_is_not_served_is_absent_with_or_without_a_credential(
    listener: Listener, target: str
) -> None:
    for fields in (HEAD, "Host: x\r\n"):
        got = await listener.get(target, fields, method="OPTIONS" if target == "*" else "GET")
        assert (got.status, got.json["code"]) == (404, "not_found")


async def test_faults_are_told_in_the_shape_of_their_dialect(listener: Listener) -> None:
    for target, status, code in (
        ("/v1/fail/absent", 404, "not_found"),
        ("/v1/nowhere", 404, "not_found"),
        ("/api/v1/nowhere", 404, "not_found"),
        ("/v1/fail/fault", 500, "internal_error"),
        ("/v1/fail/invalid", 400, "invalid_request"),
    ):
        got = await listener.get(target)
        assert got.status == status
        assert got.fields["content-type"] == "application/json"
        (error,) = got.json["errors"]  # type: ignore[misc]
        assert (error["code"], error["status"]) == (code, status)
        assert error["meta"]["requestId"] == got.fields["x-request-id"]
        assert error.get("source") == ({"parameter": "name"} if status == 400 else None)
    got = await listener.get("/v1/fail/absent", "Host: x\r\n")
    assert (got.status, got.fields["content-type"]) == (401, "application/json")
    assert got.fields["www-authenticate"] == 'Bearer realm="gateway"'


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("invalid", 400, "invalid_request"),
        ("absent", 404, "not_found"),
        ("forbidden", 403, "forbidden"),
        ("conflict", 409, "conflict"),
        ("busy", 503, "overloaded"),
        ("store", 503, "store_unavailable"),
        ("fault", 500, "internal_error"),
        ("other", None, "refused"),
    ],
)
async def test_what_a_handler_raises_is_told_and_no_more_than_that(
    listener: Listener, caplog: pytest.LogCaptureFixture, how: str, status: int | None, code: str
) -> None:
    got = await listener.get(f"/fail/{how}")
    assert got.status == (status or RAISED[how].status)  # type: ignore[attr-defined]
    assert got.json["code"] == code
    assert got.json["status"] == got.status
    assert ("retry-after" in got.fields) is (got.status == 503)
    assert SECRET not in got.content.decode()
    assert SECRET not in caplog.text
    # A fault of ours is logged with its kind and place; what callers do wrong is not.
    assert ("RuntimeError" in caplog.text) is (how == "fault")


async def test_each_tier_has_its_rate_and_says_what_is_left(listener: Listener) -> None:
    write, read = RATES["write"], RATES["read"]
    reader, writer = await listener.connect()

    async def ask(method: str, who: str) -> tuple[int, dict[str, str]]:
        writer.write(f"{method} /who HTTP/1.1\r\nHost: x\r\nX-API-KEY: {who}\r\n\r\n".encode())
        got = await read_one(reader)
        return got.status, got.fields

    status, fields = await ask("DELETE", "ann")
    assert fields["ratelimit-policy"] == f'"write";q={write.quota};w=60'
    assert fields["ratelimit"].startswith(f'"write";r={write.quota - 1};t=')
    answers = [await ask("DELETE", "ann") for _ in range(write.quota + 20)]
    refused = [fields for status, fields in answers if status == 429]
    assert 0 < len(refused) <= 21
    assert 1 <= int(refused[-1]["retry-after"]) <= 60
    assert refused[-1]["ratelimit"].startswith('"write";r=0;')
    # Neither another caller nor another tier pays for it.
    assert (await ask("DELETE", "bob"))[0] == 200
    status, fields = await ask("GET", "ann")
    assert (status, fields["ratelimit-policy"]) == (200, f'"read";q={read.quota};w=60')
    writer.close()


async def test_the_same_caller_is_one_by_whichever_header(listener: Listener) -> None:
    quota = RATES["write"].quota
    for n in range(quota // 2):
        fields = "X-API-KEY: ann\r\n" if n % 2 else "Authorization: BEARER ann\r\n"
        got = await listener.get("/who", f"Host: x\r\n{fields}", method="DELETE")
    assert f"r={quota // 2}" in got.fields["ratelimit"] or f"r={quota // 2 + 1}" in got.fields["ratelimit"]


async def test_pipelined_requests_are_answered_in_order(listener: Listener) -> None:
    reader, writer = await listener.connect()
    writer.write(b"".join(f"GET /items/{n} HTTP/1.1\r\n{HEAD}\r\n".encode() for n in range(20)))
    for n in range(20):
        assert (await read_one(reader)).json["path"] == {"id": str(n)}
    writer.close()


@pytest.mark.parametrize(
    ("version", "fields", "status"),
    [
        ("HTTP/2.0", HEAD, 505),
        ("HTTP/1.1", f"{HEAD}Content-Length: 18446744073709551615\r\n", 413),
        ("HTTP/1.1", f"{HEAD}Content-Length: 00000000000000000000\r\n", 413),
        ("HTTP/1.1", f"{HEAD}Transfer-Encoding: gzip, chunked\r\n", 501),
        ("HTTP/1.1", f"{HEAD}Transfer-Encoding: ,chunked\r\n", 501),
        ("HTTP/1.1", HEAD.replace("Host: keys.test", 'Host: x<"y'), 400),
        ("HTTP/1.1", HEAD.replace("Host: keys.test", "Host: x:99999"), 400),
        ("HTTP/1.1", HEAD.replace("Host: keys.test", "Host: ann@x"), 400),
    ],
)
async def test_a_head_that_another_reader_takes_otherwise_ends_the_connection(
    listener: Listener, version: str, fields: str, status: int
) -> None:
    """httptools reads these, and of 2^64-1 bytes none: what follows would be whose?"""
    reader, writer = await listener.connect()
    writer.write(f"GET /who {version}\r\n{fields}\r\n".encode())
    got = await read_one(reader)
    assert (got.status, got.json["status"]) == (status, status)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_caller_of_http_1_0_is_answered_and_left(listener: Listener) -> None:
    reader, writer = await listener.connect()
    writer.write(f"GET /who HTTP/1.0\r\n{HEAD}\r\n".encode())
    assert (await read_one(reader)).status == 200
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
