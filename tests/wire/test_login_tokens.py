"""Login tokens at the wire: users of the command line, tokens signed with the key of the store."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from gateway.control.signing import Signing
from gateway.core.tokens import Digester
from gateway.keys.opening import opened_store
from gateway.store.base import Store
from gateway.store.login import end_token
from tests.conftest import Start
from tests.core.tokens import claims as sample_claims
from tests.core.tokens import private_key, signed
from tests.store.samples import ACTOR, audit, now_ms
from tests.wire.backend import Backend, eventually
from tests.wire.client import Client, Response, get
from tests.wire.product import Keys, Product, cli

T = TypeVar("T")
SOON_S = 2.0
"""How soon a change must be seen: a second, and one more for a busy machine."""


class Logins:
    """A running gateway whose users log in without a password: the test signs as the login would."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.ids: dict[str, str] = {}

    def in_store(self, work: Callable[[Store, Digester], Awaitable[T]]) -> T:
        async def run() -> T:
            url = f"sqlite:///{self.product.store}"
            async with opened_store(url, pepper=None, pepper_file=None) as (store, digester):
                return await work(store, digester)

        return asyncio.run(run())

    def users(self, *arguments: str) -> None:
        run = cli("users", *arguments, store=self.product.store)
        assert run.returncode == 0, run.stderr

    def add(self, name: str, role: str) -> str:
        """Make a user with a role in the default tenant; return her address."""
        email = f"{name}@example.com"
        password = self.product.directory / "password"
        password.write_text("correct horse battery staple")
        self.users("add", email, "--tenant", "default", "--role", role, "--password-file", str(password))
        listed = cli("users", "list", "--json", store=self.product.store)
        self.ids.update({user["email"]: user["id"] for user in json.loads(listed.stdout)})
        return email

    def token(self, email: str, *, clock: Callable[[], float] = time.time, **changes: Any) -> str:
        """Return a login token for a user, signed by the key that is active."""
        now = int(clock())
        claims = {
            "aud": "gateway:login",
            "sub": self.ids[email],
            "email": email,
            "tenant": "default",
            "role": "admin",  # what she was then counts for nothing
            "permission": "admin",
            "iat": now,
            "exp": now + 3600,
            "jti": f"tok_{secrets.token_hex(8)}",
        } | changes

        async def sign(store: Store, digester: Digester) -> str:
            return await Signing(store, digester).sign(claims)

        return self.in_store(sign)

    def rotate(self, clock: Callable[[], float] = time.time) -> None:
        async def rotate(store: Store, digester: Digester) -> None:
            await Signing(store, digester, clock=clock).rotate(ACTOR)

        self.in_store(rotate)

    def ask(self, raw: bytes, method: bytes = b"GET") -> Response:
        with Client(self.product.port) as client:
            return client.send(raw).response(method)

    def outcome(self, token: str, path: str, method: str = "GET") -> tuple[int, str | None]:
        response = self.ask(bearer(token, path, method), method.encode())
        return response.status, None if response.status == 200 else response.code

    def becomes(self, token: str, path: str, method: str, expected: tuple[int, str | None]) -> None:
        """Wait until a request has an outcome, as it must have soon after a change."""
        eventually(
            lambda: self.outcome(token, path, method) == expected,
            within=SOON_S,
            why=f"not {expected} in time",
        )


def bearer(token: str, path: str, method: str = "GET", *fields: str, body: bytes | None = None) -> bytes:
    content = b"" if body is None and method == "POST" else body
    return get(path, f"Authorization: BEARER {token}", *fields, method=method, body=content)


@pytest.fixture(scope="module")
def logins(start_shared: Start) -> Logins:
    return Logins(start_shared())


@pytest.fixture(scope="module")
def viewer(logins: Logins) -> str:
    email = logins.add("vera", "viewer")
    token = logins.token(email)
    logins.becomes(token, "/ready", "GET", (200, None))
    return token


@pytest.fixture(scope="module")
def editor(logins: Logins) -> str:
    email = logins.add("edith", "editor")
    token = logins.token(email)
    logins.becomes(token, "/ready", "GET", (200, None))
    return token


def test_a_viewer_reads_and_an_editor_writes(logins: Logins, viewer: str, editor: str, path: str) -> None:
    assert logins.outcome(viewer, path) == (200, None)
    assert logins.outcome(viewer, path, "POST") == (403, "permission_denied")
    assert logins.outcome(editor, path, "POST") == (200, None)


def test_an_admin_counts_as_editor(logins: Logins, backend: Backend, path: str) -> None:
    token = logins.token(logins.add("ada", "admin"))
    logins.becomes(token, path, "POST", (200, None))
    request = backend.requests_for(path)[-1]
    assert request.value(b"x-gateway-permission") == b"editor"
    assert request.value(b"x-gateway-role") == b"editor"


def test_the_backend_learns_who_she_is_and_never_the_token(
    logins: Logins, backend: Backend, viewer: str, path: str
) -> None:
    spoofs = ("X-Gateway-Key-Id: apk_1", "X_Gateway_Subject: mallory", "X-HTTP-Method-Override: DELETE")
    assert logins.ask(bearer(viewer, path, "GET", *spoofs)).status == 200
    request = backend.the_request_for(path)
    identity = {name.lower(): value for name, value in request.fields if b"gateway-" in name.lower()}
    assert identity == {
        b"x-gateway-subject": logins.ids["vera@example.com"].encode(),
        b"x-gateway-tenant": b"default",
        b"x-gateway-role": b"viewer",
        b"x-gateway-permission": b"viewer",
    }
    assert viewer.encode() not in request.raw_head
    assert not request.values(b"x-http-method-override")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["Authorization: BEARER {}"], 200),
        (["Authorization: Bearer {}"], 200),
        (["X-API-KEY: {}"], 200),
        (["Authorization: X-API-KEY {}"], 200),
        (["X-API-KEY: {}", "Authorization: Bearer {}"], 200),
        (["X-API-KEY: {}", "Authorization: Bearer {}x"], 400),
        (["X-API-KEY: {}", "X-API-KEY: {}"], 400),
        (["Authorization: Bearer {}="], 401),
        (["Authorization: Bearer {}", "Authorization: Basic eDp5"], 400),
        (["Authorization: Basic {}"], 401),
        (["Cookie: cqloudLoginToken={}"], 401),
    ],
)
def test_both_headers_carry_a_token_as_they_carry_a_key(
    logins: Logins, viewer: str, path: str, fields: list[str], expected: int
) -> None:
    assert logins.ask(get(path, *(line.format(viewer) for line in fields))).status == expected


def test_a_token_in_the_query_is_none(logins: Logins, viewer: str, path: str) -> None:
    assert logins.ask(get(f"{path}?token={viewer}")).code == "credential_missing"


def test_a_change_of_role_holds_for_the_token_she_has(logins: Logins, path: str) -> None:
    email = logins.add("changing", "viewer")
    token = logins.token(email)
    logins.becomes(token, path, "POST", (403, "permission_denied"))
    logins.users("set", email, "--tenant", "default", "--role", "editor")
    logins.becomes(token, path, "POST", (200, None))
    logins.users("set", email, "--tenant", "default", "--role", "viewer")
    logins.becomes(token, path, "POST", (403, "permission_denied"))
    logins.users("set", email, "--enabled", "false")
    logins.becomes(token, path, "GET", (403, "holder_disabled"))
    logins.users("set", email, "--enabled", "true")
    logins.becomes(token, path, "GET", (200, None))
    logins.users("remove", email, "--yes")
    logins.becomes(token, path, "GET", (403, "holder_disabled"))


def test_a_logged_out_token_is_dead_and_her_others_live(logins: Logins, viewer: str, path: str) -> None:
    token = logins.token("vera@example.com", jti="tok_out")
    assert logins.outcome(token, path) == (200, None)

    async def log_out(store: Store, _: Digester) -> None:
        change = audit("login.end", "ended_token", "tok_out")
        await store.write(end_token("tok_out", "subject_1", now_ms() + 3_600_000, now_ms(), change))

    logins.in_store(log_out)
    logins.becomes(token, path, "GET", (401, "token_invalid"))
    assert logins.outcome(viewer, path) == (200, None)


def test_a_rotation_keeps_old_tokens_until_they_end(product: Start, path: str) -> None:
    logins = Logins(product())
    email = logins.add("vera", "viewer")
    before = logins.token(email)
    logins.becomes(before, path, "GET", (200, None))
    logins.rotate()
    after = logins.token(email)
    logins.becomes(after, path, "GET", (200, None))
    assert logins.outcome(before, path) == (200, None)
    # What was signed by a key that was retired two hours ago has ended, whatever it says of itself.
    forged_to_last = logins.token(email, exp=int(time.time()) + 86400)
    assert logins.outcome(forged_to_last, path) == (200, None)
    logins.rotate(clock=lambda: time.time() - 7200)
    logins.becomes(forged_to_last, path, "GET", (401, "token_expired"))
    assert logins.outcome(before, path) == (200, None), "the first was retired just now"


def test_a_token_that_ends_is_told_so(logins: Logins, viewer: str, path: str) -> None:
    ends_at = int(time.time()) + 2
    token = logins.token("vera@example.com", exp=ends_at)
    with Client(logins.product.port) as client:
        assert client.send(bearer(token, path)).response().status == 200
        eventually(
            lambda: client.send(bearer(token, path)).response().code == "token_expired",
            within=5,
            why="the token did not end",
        )
        assert time.time() >= ends_at


@pytest.mark.parametrize(
    ("changes", "header", "code"),
    [
        ({"aud": "gateway:key"}, {}, "key_unknown"),
        ({"aud": "gateway:assertion"}, {}, "token_invalid"),
        ({"iss": "https://stranger.example.com"}, {}, "token_invalid"),
        ({}, {"kid": "../../etc/passwd"}, "token_invalid"),
        ({}, {"crit": ["exp"]}, "token_invalid"),
        ({}, {"alg": "none"}, "token_invalid"),
        ({}, {"alg": "HS256"}, "token_invalid"),
        ({}, {}, "token_invalid"),
    ],
)
def test_a_strangers_token_is_refused_and_nothing_of_it_is_told(
    logins: Logins, viewer: str, path: str, changes: dict[str, Any], header: dict[str, Any], code: str
) -> None:
    kid = json.loads(_decoded(viewer.split(".")[0]))["kid"]
    now = int(time.time())
    content = sample_claims(iat=now, exp=now + 60, sub=logins.ids["vera@example.com"], **changes)
    token = signed(content, key=private_key("rsa"), **({"kid": kid} | header)).decode()
    response = logins.ask(bearer(token, path))
    assert (response.status, response.code) == (401, code)
    assert response.value("www-authenticate") == (
        b'Bearer realm="gateway", error="invalid_token", error_description="the '
        + (b"key is unknown" if code == "key_unknown" else b"token is invalid")
        + b'"'
    )
    for piece in token.split("."):
        assert piece.encode() not in response.body


def test_content_and_what_follows_wait_for_the_check(
    logins: Logins, editor: str, backend: Backend, path: str
) -> None:
    token = logins.token("edith@example.com")  # never seen before
    body = secrets.token_bytes(100_000)
    with Client(logins.product.port) as client:
        client.send(
            bearer(token, path, "POST", body=body)
            + bearer(token[:-4] + "AAAA", f"{path}/forged")
            + get(f"{path}/last", f"Authorization: Bearer {token}", method="HEAD")
        )
        assert client.response().status == 200
        assert client.response().code == "token_invalid"
        assert client.response(b"HEAD").status == 200
    assert backend.the_request_for(path).body == body
    assert not backend.requests_for(f"{path}/forged")


def test_the_log_names_the_tenant_and_no_key(logins: Logins, viewer: str, path: str) -> None:
    logins.outcome(viewer, path)
    logins.outcome(viewer, path, "POST")

    def lines() -> list[dict[str, Any]]:
        text = logins.product.access_log.read_text()
        return [line for line in map(json.loads, text.splitlines()) if line["target"] == path]

    eventually(lambda: len(lines()) == 2, why="two lines in the access log")
    assert [(line["key_id"], line["tenant"], line["status"]) for line in lines()] == [
        (None, "default", 200),
        (None, "default", 403),
    ]
    assert viewer not in logins.product.output


def test_a_switched_off_tenant_goes_on_logging_in(logins: Logins, viewer: str, keys: Keys, path: str) -> None:
    def switch(word: str) -> None:
        run = cli("tenants", "set", "default", "--api-keys-enabled", word, store=logins.product.store)
        assert run.returncode == 0, run.stderr

    switch("false")
    try:
        logins.becomes(keys.viewer, path, "GET", (403, "holder_disabled"))
        assert logins.outcome(viewer, path) == (200, None)
    finally:
        switch("true")
        logins.becomes(keys.viewer, path, "GET", (200, None))


def test_an_anonymous_route_takes_our_tokens_out_and_judges_none(
    routed: Product, backend: Backend, path: str
) -> None:
    for number, (audience, left) in enumerate([("gateway:login", 0), ("gateway:key", 0), ("backend", 1)]):
        token = signed(sample_claims(aud=audience, iss="https://anywhere")).decode()
        with Client(routed.port) as client:
            assert client.send(bearer(token, f"/public{path}/{number}")).response().status == 200
        assert len(backend.the_request_for(f"{path}/{number}").values(b"authorization")) == left


def test_a_flood_of_bad_signatures_lets_keys_and_logins_through(
    logins: Logins, viewer: str, keys: Keys, path: str
) -> None:
    """Every forged token is new and well-shaped; those who are known never wait behind them."""
    stem = viewer.rpartition(".")[0]
    forged = [f"{stem}.{_encoded(secrets.token_bytes(256))}" for _ in range(1500)]
    outcomes: list[tuple[int, str | None]] = []

    def flood(tokens: list[str]) -> None:
        for token in tokens:
            outcomes.append(logins.outcome(token, path))

    threads = [threading.Thread(target=flood, args=(forged[start::6],)) for start in range(6)]
    for thread in threads:
        thread.start()
    known = []
    while any(thread.is_alive() for thread in threads):
        known += [logins.outcome(token, path) for token in (keys.viewer, viewer)]
    for thread in threads:
        thread.join()
    assert len(known) > 10
    assert set(known) == {(200, None)}
    assert len(outcomes) == len(forged)
    assert set(outcomes) <= {(401, "token_invalid"), (503, "overloaded")}


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
