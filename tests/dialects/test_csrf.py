"""The console's cookie (pitfall 83): a credential of the control plane alone, and for writes only with
the session's CSRF token from our own origin.

Reading: the token is ``csrfToken`` of ``GET /api/1/session``, sent as ``X-CSRF-Token``; our origin is
that of ``control.public_url``.
"""

from __future__ import annotations

import dataclasses

import pytest

from tests.dialects import shapes
from tests.dialects.client import COOKIE, Answer, Caller, call
from tests.dialects.harness import ACME, PUBLIC_URL, World

OURS = ("Origin", PUBLIC_URL)
WISH = {"name": "by cookie", "ttl": 1, "permission": "viewer"}


@dataclasses.dataclass
class Browser:
    """Somebody whose browser holds the cookie."""

    cookie: Caller
    csrf: tuple[str, str]


def browser_of(world: World, role: str = "editor") -> Browser:
    caller = world.user(role)
    cookie = Caller(world.port, caller.token, (("Cookie", f"{COOKIE}={caller.token}"),), caller.user_id)
    token = cookie.get("/api/1/session").expect(200).json["csrfToken"]
    assert isinstance(token, str)
    assert token
    return Browser(cookie, ("X-CSRF-Token", token))


@pytest.fixture(scope="module")
def browser(world: World) -> Browser:
    return browser_of(world)


@pytest.fixture(scope="module")
def others(world: World) -> Browser:
    return browser_of(world)


def test_the_cookie_reads(browser: Browser) -> None:
    for path in ("/api/1/api-keys", "/v1/api-keys", "/api-keys", "/api/1/session"):
        browser.cookie.get(path).expect(200)


def test_the_session_tells_who_and_until_when(world: World) -> None:
    caller = world.user("admin")
    told = caller.get("/api/1/session").expect(200).json
    assert (told["email"], told["tenantId"], told["permission"]) == (caller.email, ACME, "admin")
    assert not told.get("csrfToken"), "a token in a header needs none"
    assert caller.token not in str(told)


def test_both_together_write(world: World, browser: Browser) -> None:
    made = browser.cookie.post("/api/1/api-keys", WISH, fields=[OURS, browser.csrf]).expect(201).json
    world.keep_secret(made["apiToken"])
    browser.cookie.delete(f"/api/1/api-keys/{made['keyId']}", fields=[OURS, browser.csrf]).expect(200)


BAD = {
    "nothing": [],
    "origin alone": [OURS],
    "origin and an empty token": [OURS, ("X-CSRF-Token", "")],
    "origin and a guess": [OURS, ("X-CSRF-Token", "0" * 64)],
    "foreign origin": [("Origin", "https://evil.example")],
}


def _refuse(answer: Answer) -> None:
    shapes.problem_of(answer.expect(403))


@pytest.mark.parametrize("what", BAD)
def test_a_write_without_the_token_is_refused(browser: Browser, what: str) -> None:
    _refuse(browser.cookie.post("/api/1/api-keys", WISH, fields=BAD[what]))


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "https://evil.example",
        "null",
        "",
        "http://keys.example.com",
        "https://keys.example.com:8443",
        "https://keys.example.com.evil.example",
        "https://keys.example.com/",
        "https://a@keys.example.com",
        "https://evil.example https://keys.example.com",
        "https://KEYS.example.co",
    ],
)
def test_a_write_from_another_origin_is_refused_though_it_has_the_token(
    browser: Browser, origin: str | None
) -> None:
    fields = [browser.csrf] + ([("Origin", origin)] if origin is not None else [])
    _refuse(browser.cookie.post("/api/1/api-keys", WISH, fields=fields))


def test_two_origins_are_refused(browser: Browser) -> None:
    fields = [OURS, ("Origin", "https://evil.example"), browser.csrf]
    browser.cookie.post("/api/1/api-keys", WISH, fields=fields).expect(403, 400)


def test_the_token_of_another_session_is_refused(browser: Browser, others: Browser) -> None:
    _refuse(browser.cookie.post("/api/1/api-keys", WISH, fields=[OURS, others.csrf]))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/1/api-keys"),
        ("DELETE", "/api/1/api-keys/1"),
        ("POST", "/v1/api-keys"),
        ("PATCH", "/v1/api-keys/apk_x"),
        ("DELETE", "/v1/api-keys/apk_x"),
        ("PATCH", f"/v1/api-keys/configs/{ACME}"),
        ("POST", "/api-keys"),
        ("DELETE", "/api-keys/apk_x"),
        ("POST", "/api-keys/apk_x/rotate"),
        ("PUT", f"/api/1/tenants/{ACME}/subjects/subject_x/role"),
        ("POST", "/logout"),
    ],
)
def test_every_unsafe_endpoint_asks_for_the_token(
    world: World, browser: Browser, method: str, path: str
) -> None:
    answer = browser.cookie.ask(method, path, {}, fields=[OURS]).expect(403)
    (shapes.errors_of if path.startswith("/v1/") else shapes.problem_of)(answer)
    browser.cookie.get("/api/1/session").expect(200)


def test_a_credential_beside_the_cookie_needs_no_csrf_token(world: World, browser: Browser) -> None:
    """Who can set the header is no other site's form. Reading: the header decides, the cookie is idle."""
    caller = world.writer()
    made = caller.post("/api/1/api-keys", WISH, fields=browser.cookie.fields).expect(201).json
    world.keep_secret(made["apiToken"])
    assert made["createdBy"] == caller.email


def test_the_cookie_is_no_credential_on_the_data_path(world: World, browser: Browser) -> None:
    answer = call(world.proxy_port, "GET", "/x", fields=browser.cookie.fields).expect(401)
    assert answer.json["code"] == "credential_missing"


@pytest.mark.parametrize("value", ["", "x", "a.b.c", "gw_live_" + "0" * 50])
def test_a_bad_cookie_proves_nobody(world: World, value: str) -> None:
    world.call("GET", "/api/1/session", fields=[("Cookie", f"{COOKIE}={value}")]).expect(401)


def test_an_api_key_in_the_cookie_proves_nobody(world: World) -> None:
    """The cookie holds a login token and nothing else."""
    key = world.qwilt_key(world.writer(), permission="editor")["apiToken"]
    world.call("GET", "/api/1/session", fields=[("Cookie", f"{COOKIE}={key}")]).expect(401)


def test_two_cookies_of_the_name_are_never_taken_for_the_other(world: World, browser: Browser) -> None:
    """A neighbouring host can plant one beside ours: 400 or 401 if they differ, or the first alone counts."""
    both = [("Cookie", f"{COOKIE}=a.b.c; {COOKIE}={browser.cookie.token}")]
    world.call("GET", "/api/1/session", fields=both).expect(400, 401)


def test_logging_out_ends_the_session_and_takes_the_cookie_back(world: World) -> None:
    mine = browser_of(world)
    answer = mine.cookie.post("/logout", fields=[OURS, mine.csrf]).expect(204, 200)
    (line,) = answer.values("set-cookie")
    assert line.startswith(f"{COOKIE}=")
    assert mine.cookie.token not in line
    assert "max-age=0" in line.lower() or "expires=thu, 01 jan 1970" in line.lower()
    mine.cookie.get("/api/1/session").expect(401)
    mine.cookie.post("/api/1/api-keys", WISH, fields=[OURS, mine.csrf]).expect(401)
