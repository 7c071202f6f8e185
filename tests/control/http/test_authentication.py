"""Who asks: either header, a login token there, or a cookie that needs more proof to change anything."""

from __future__ import annotations

import base64
import json

import pytest

from tests.control.http.conftest import HEAD, Listener

LOGIN = "ann.login.token"
PROOF = "X-CSRF-Token: proof-for-j1\r\n"
ORIGIN = "Origin: http://keys.test\r\n"


def unsigned(audience: str) -> str:
    """Return a token of JWT shape that nobody has signed."""
    parts = ({"alg": "RS256", "kid": "k", "typ": "JWT"}, {"iss": "x", "aud": audience})
    texts = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return ".".join((*texts, "c2ln"))


@pytest.mark.parametrize(
    "fields",
    [
        "X-API-KEY: ann",
        "x-api-key:ann",
        "Authorization: BEARER ann",
        "Authorization: Bearer   ann",
        "Authorization: X-API-KEY ann",
        f"Authorization: BEARER {LOGIN}",
        f"X-API-KEY: {LOGIN}",
        "X-API-KEY: ann\r\nAuthorization: BEARER ann",
        "X-API-KEY: ann\r\nAuthorization: Basic eDp5",
    ],
)
async def test_a_credential_counts_in_either_header(listener: Listener, fields: str) -> None:
    got = await listener.get("/who", f"Host: x\r\n{fields}\r\n")
    assert (got.status, got.json["subject"]) == (200, "ann")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ("", 401, "credential_missing"),
        ("Authorization: Basic eDp5\r\n", 401, "credential_missing"),
        ("Cookie: other=ann.login.token\r\n", 401, "credential_missing"),
        ("X-API-KEY: \r\n", 401, "credential_malformed"),
        ("Authorization: BEARER\r\n", 401, "credential_malformed"),
        ("X-API-KEY: a b\r\n", 401, "credential_malformed"),
        ("X-API-KEY: a\xe4\r\n", 401, "credential_malformed"),
        ("X-API-KEY: " + "x" * 8193 + "\r\n", 401, "credential_malformed"),
        ("X-API-KEY: " + "x" * 8192 + "\r\n", 401, "key_unknown"),
        ("X-API-KEY: nobody\r\n", 401, "key_unknown"),
        ("X-API-KEY: ended\r\n", 401, "key_revoked"),
        ("X-API-KEY: some.other.token\r\n", 401, "token_invalid"),
        (f"X-API-KEY: {unsigned('gateway:key')}\r\n", 401, "key_unknown"),
        (f"X-API-KEY: {unsigned('gateway:login')}\r\n", 401, "token_invalid"),
        ("X-API-KEY: two.parts\r\n", 401, "key_unknown"),
        ("X-API-KEY: off\r\n", 403, "forbidden"),
        ("X-API-KEY: ann\r\nAuthorization: BEARER bob\r\n", 400, "conflicting_credentials"),
        ("X-API-KEY: ann\r\nX-API-KEY: ann\r\n", 400, "conflicting_credentials"),
        ("Authorization: BEARER ann\r\nAuthorization: BEARER ann\r\n", 400, "conflicting_credentials"),
    ],
)
async def test_what_proves_nobody_is_refused_for_what_it_is(
    listener: Listener, fields: str, status: int, code: str
) -> None:
    got = await listener.ask(f"GET /who HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode("latin-1"))
    assert (got.status, got.json["code"]) == (status, code)
    assert ("www-authenticate" in got.fields) is (status == 401)


async def test_nobody_is_asked_for_before_the_rest_is_judged_on_an_open_endpoint(listener: Listener) -> None:
    assert (await listener.get("/open", "Host: x\r\nX-API-KEY: nobody\r\n")).status == 200
    assert (await listener.get("/items?limit=x", "Host: x\r\n")).status == 401


def cookie(*more: str, host: str = "keys.test") -> str:
    return f"Host: {host}\r\nCookie: first=1; login={LOGIN}; last=2\r\n{''.join(more)}"


async def test_a_cookie_reads(listener: Listener) -> None:
    for method in ("GET", "HEAD"):
        got = await listener.get("/who", cookie(), method=method)
        assert got.status == 200
    got = await listener.get("/who", cookie())
    assert got.json["cookie"] is True


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ((PROOF, ORIGIN), 200),
        ((), 403),
        ((PROOF,), 403),
        ((ORIGIN,), 403),
        (("X-CSRF-Token: proof-for-j2\r\n", ORIGIN), 403),
        (("X-CSRF-Token: \r\n", ORIGIN), 403),
        (("X-CSRF-Token: \xe4\r\n", ORIGIN), 403),
        ((PROOF, "Origin: http://evil.test\r\n"), 403),
        ((PROOF, "Origin: https://keys.test\r\n"), 403),
        ((PROOF, "Origin: http://keys.test.evil.test\r\n"), 403),
        ((PROOF, "Origin: http://keys.test:81\r\n"), 403),
        ((PROOF, "Origin: null\r\n"), 403),
        ((PROOF, "Origin: \r\n"), 403),
        ((PROOF, "Referer: http://keys.test/\r\n"), 403),
    ],
)
async def test_a_cookie_changes_something_only_with_its_proof_from_its_own_page(
    listener: Listener, more: tuple[str, ...], status: int
) -> None:
    head = f"DELETE /who HTTP/1.1\r\n{cookie(*more)}\r\n".encode("latin-1")
    got = await listener.ask(head)
    assert got.status == status
    if status == 403:
        assert got.json["code"] == "csrf"


async def test_a_token_in_a_header_needs_no_proof_and_hides_the_cookie(listener: Listener) -> None:
    for credential in (f"Authorization: BEARER {LOGIN}\r\n", "X-API-KEY: bob\r\n"):
        got = await listener.get("/who", cookie(credential, "Origin: http://evil.test\r\n"), method="DELETE")
        assert got.status == 200
        assert got.json["cookie"] is not True
    got = await listener.get("/who", cookie("X-API-KEY: nobody\r\n"))
    assert got.status == 401, "a wrong key is not helped out by a cookie"


async def test_a_key_is_none_in_a_cookie(listener: Listener) -> None:
    got = await listener.get("/who", "Host: x\r\nCookie: login=ann\r\n")
    assert (got.status, listener.logins.asked) == (401, ["ann"])


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (f"login={LOGIN}; login={LOGIN}", 400, "conflicting_credentials"),
        (f"login=x; login={LOGIN}", 400, "conflicting_credentials"),
        (f"login={LOGIN}\r\nCookie: login=x", 400, "conflicting_credentials"),
        ("login=", 401, "credential_malformed"),
        ("login=a\xffb", 401, "credential_malformed"),
        ("login=" + "x" * 8193, 401, "credential_malformed"),
        (f'login="{LOGIN}"', 401, "token_invalid"),
        (f"Login={LOGIN}", 401, "credential_missing"),
    ],
)
async def test_a_cookie_that_is_not_clear_proves_nobody(
    listener: Listener, line: str, status: int, code: str
) -> None:
    got = await listener.ask(f"GET /who HTTP/1.1\r\nHost: x\r\nCookie: {line}\r\n\r\n".encode("latin-1"))
    assert (got.status, got.json["code"]) == (status, code)


async def test_who_asks_and_from_where_is_known_to_the_audit(listener: Listener) -> None:
    got = await listener.get("/who", f"{HEAD}X-Forwarded-For: 192.0.2.7\r\nX-Request-Id: r1\r\n")
    assert got.json["actor"] == {"name": "ann", "source": "127.0.0.1", "request_id": "r1"}
