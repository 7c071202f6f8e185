"""``/login``, ``/logout``, the session and the signing keys, over HTTP in process."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from gateway.control.dialects.login import LoginDialect
from gateway.control.dialects.login_shapes import CookieForm
from gateway.control.domain import DomainService
from gateway.control.http.authentication import Authentication
from gateway.control.http.listener import make_control
from gateway.control.http.tiers import Tiers
from gateway.control.lifetime import rfc3339
from gateway.control.login import LoginService
from gateway.control.signing import Signing
from gateway.control.throttle import LIMITS
from gateway.store.base import Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher
from tests.store.samples import audited

EMAIL, PASSWORD, COOKIE = "ann@example.com", "ein Paßwort: with a colon", "sessionToken"
Client = TestClient[Any, Any]


def basic(email: str = EMAIL, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{email}:{password}".encode()).decode()}


@pytest.fixture
def domain(store: Store, clock: list[float]) -> DomainService:
    return DomainService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0])


@pytest.fixture
def signing(store: Store, clock: list[float]) -> Signing:
    return Signing(store, DIGESTER, clock=lambda: clock[0])


@pytest.fixture
def monotonic() -> list[float]:
    return [0.0]


@pytest.fixture
async def client(
    store: Store, domain: DomainService, signing: Signing, monotonic: list[float]
) -> AsyncIterator[Client]:
    await domain.add_user(ANN, EMAIL, tenant="default", role="editor", password=PASSWORD)
    await domain.add_tenant(ANN, "acme")
    await domain.add_user(ANN, EMAIL, tenant="acme", role="viewer")
    logins = LoginService(store, DIGESTER, domain, signing, FastHasher())
    cookie = CookieForm(COOKIE, 21600, "example.com")
    dialect = LoginDialect(domain, logins, signing, cookie, lambda: monotonic[0])
    authentication = Authentication(domain, logins, cookie=COOKIE, origins=["https://keys.example.com"])
    app = make_control(dialect.endpoints(), authentication, Tiers(lambda: monotonic[0]))
    async with TestClient(TestServer(app)) as client:
        yield client
    await logins.close()


async def ask(client: Client, method: str, path: str, **options: Any) -> ClientResponse:
    client.session.cookie_jar.clear()
    return await client.request(method, path, allow_redirects=False, **options)


async def token_of(client: Client, query: str = "") -> str:
    answer = await ask(client, "GET", f"/login{query}", headers=basic())
    assert answer.status == 302, await answer.text()
    return answer.headers["Set-Cookie"].partition(";")[0].removeprefix(f"{COOKIE}=")


async def test_the_cookie_is_written_as_configured(client: Client) -> None:
    answer = await ask(client, "POST", "/login", headers=basic())
    token, _, attributes = answer.headers["Set-Cookie"].partition("; ")
    assert token.startswith(f"{COOKIE}=eyJ")
    assert attributes == "Path=/; Domain=example.com; Max-Age=21600; HttpOnly; Secure; SameSite=Lax"
    assert (answer.status, await answer.text()) == (302, "OK")
    told = {name: answer.headers[name] for name in ("Content-Type", "Vary", "Cache-Control")}
    assert told == {
        "Content-Type": "text/plain; charset=UTF-8", "Vary": "Origin", "Cache-Control": "no-store"
    }  # fmt: skip
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("next_path", "location"),
    [
        ("/", "/"),
        ("/console/?tab=keys#top", "/console/?tab=keys#top"),
        ("/a b/ü", "/a%20b/%C3%BC"),
        ("/a%20b", "/a%20b"),
        ("/?to=//elsewhere.example", "/?to=//elsewhere.example"),
    ],
)
async def test_next_is_a_path_of_this_server(client: Client, next_path: str, location: str) -> None:
    answer = await ask(client, "GET", "/login", params={"next": next_path}, headers=basic())
    assert (answer.status, answer.headers["Location"]) == (302, location)


@pytest.mark.parametrize(
    "next_path",
    ["", "//elsewhere.example", "///", "/\\elsewhere.example", "\\\\elsewhere.example", "https://elsewhere.example",
     "elsewhere", "/\t/elsewhere.example", "/a\r\nSet-Cookie: a=b", "/\x7f", " /", "/" + "x" * 2048],
)  # fmt: skip
async def test_next_is_nothing_else_and_no_password_is_looked_at(
    client: Client, store: Store, next_path: str
) -> None:
    answer = await ask(client, "GET", "/login", params={"next": next_path}, headers=basic())
    assert answer.status == 400
    assert (await answer.json())["member"] == "next"
    assert not any(row.action.startswith("login.") for row in await audited(store))


@pytest.mark.parametrize(
    "value",
    ["Basic", "Basic ", "Basic !", "Basic YQ", "Basic YWJj", "Basic Og==", "Basic YTo=", "Basic OmE=",
     "Basic /////w==", "Bearer abc", "Digest x", "Basic a b", "x", "Basic YTpi, Basic YTpi"],
)  # fmt: skip
async def test_what_is_no_name_with_a_password_is_challenged(client: Client, value: str) -> None:
    answer = await ask(client, "GET", "/login", headers={"Authorization": value})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="gateway", charset="UTF-8"'
    assert "Set-Cookie" not in answer.headers


async def test_the_scheme_is_read_in_any_case_and_two_of_them_are_a_conflict(client: Client) -> None:
    value = basic()["Authorization"].partition(" ")[2]
    assert (await ask(client, "GET", "/login", headers={"Authorization": f"bASIC  {value}"})).status == 302
    twice = [("Authorization", f"Basic {value}")] * 2
    assert (await ask(client, "GET", "/login", headers=twice)).status == 400


async def test_too_many_failures_are_told_with_when_to_come_back(client: Client) -> None:
    for _ in range(LIMITS.per_pair):
        assert (await ask(client, "GET", "/login", headers=basic(password="canary"))).status == 401
    answer = await ask(client, "GET", "/login", headers=basic())
    assert (answer.status, (await answer.json())["code"]) == (429, "rate_limited")
    assert answer.headers["Retry-After"] == str(LIMITS.window_ms // 1000)


async def test_an_organisation_that_is_not_hers_is_forbidden(client: Client) -> None:
    token = await token_of(client, "?orgId=acme")
    assert jwt.decode(token, options={"verify_signature": False})["tenant"] == "acme"
    for name in ("nowhere", ""):
        assert (await ask(client, "GET", f"/login?orgId={name}", headers=basic())).status == 403


async def test_a_session_says_who_asks_and_gives_a_page_what_it_needs(
    client: Client, domain: DomainService
) -> None:
    token = await token_of(client)
    expected = {
        "user": (await domain.show_user(EMAIL)).user.id,
        "email": EMAIL,
        "tenantId": "default",
        "permission": "editor",
        "role": "editor",
        "expiresAt": rfc3339((NOW_MS // 1000 + 3600) * 1000),
        "csrfToken": None,
        "tenants": [{"tenantId": "acme", "role": "viewer"}, {"tenantId": "default", "role": "editor"}],
    }
    answer = await ask(client, "GET", "/api/1/session", headers={"X-API-KEY": token})
    assert await answer.json() == expected
    answer = await ask(client, "GET", "/api/1/session", cookies={COOKIE: token})
    shown = await answer.json()
    assert len(shown["csrfToken"]) == 64
    assert shown | {"csrfToken": None} == expected
    other = await ask(client, "GET", "/api/1/session", cookies={COOKIE: await token_of(client)})
    assert (await other.json())["csrfToken"] != shown["csrfToken"]
    assert (await ask(client, "GET", "/api/1/session")).status == 401


async def test_a_key_has_a_session_to_show_and_none_to_end(client: Client, domain: DomainService) -> None:
    made = await domain.create_key(ANN, tenant="acme", name="k", permission="MediaEditor", ttl="1d")
    headers = {"X-API-KEY": made.token}
    assert await (await ask(client, "GET", "/api/1/session", headers=headers)).json() == {
        "user": made.record.subject_id,
        "email": None,
        "tenantId": "acme",
        "permission": "editor",
        "role": "MediaEditor",
        "expiresAt": rfc3339(made.record.expires_at),
        "csrfToken": None,
        "tenants": [{"tenantId": "acme", "role": "MediaEditor"}],
    }
    assert (await ask(client, "POST", "/logout", headers=headers)).status == 403
    assert (await ask(client, "GET", "/api/1/session", headers=headers)).status == 200


async def test_logging_out_ends_the_token_and_clears_the_cookie(client: Client) -> None:
    token, other = await token_of(client), await token_of(client)
    bearer = {"Authorization": f"BEARER {token}"}
    answer = await ask(client, "POST", "/logout", headers=bearer)
    assert (answer.status, await answer.read()) == (204, b"")
    cleared = f"{COOKIE}=; Path=/; Domain=example.com; Max-Age=0; HttpOnly; Secure; SameSite=Lax"
    assert answer.headers["Set-Cookie"] == cleared
    assert (await ask(client, "GET", "/api/1/session", headers=bearer)).status == 401
    assert (await ask(client, "GET", "/api/1/session", cookies={COOKIE: token})).status == 401
    assert (await ask(client, "POST", "/logout", headers=bearer)).status == 401
    assert (await ask(client, "GET", "/api/1/session", cookies={COOKIE: other})).status == 200


async def test_a_page_of_elsewhere_logs_nobody_out(client: Client) -> None:
    token = await token_of(client)
    shown = await (await ask(client, "GET", "/api/1/session", cookies={COOKIE: token})).json()
    ours = {"Origin": "https://keys.example.com", "X-CSRF-Token": shown["csrfToken"]}
    for wrong in (
        {},
        {"Origin": ours["Origin"]},
        {"X-CSRF-Token": ours["X-CSRF-Token"]},
        ours | {"Origin": "https://elsewhere.example"},
        ours | {"X-CSRF-Token": "0" * 64},
    ):
        assert (await ask(client, "POST", "/logout", cookies={COOKIE: token}, headers=wrong)).status == 403
    assert (await ask(client, "GET", "/logout", cookies={COOKIE: token})).status == 405
    assert (await ask(client, "GET", "/api/1/session", cookies={COOKIE: token})).status == 200
    assert (await ask(client, "POST", "/logout", cookies={COOKIE: token}, headers=ours)).status == 204


async def test_signing_keys_are_shown_while_their_signatures_count(
    client: Client, signing: Signing, clock: list[float], monotonic: list[float]
) -> None:
    async def kids() -> list[str]:
        monotonic[0] += 1
        answer = await ask(client, "GET", "/.well-known/jwks.json")
        assert answer.headers["Cache-Control"] == "public, max-age=300"
        keys = (await answer.json())["keys"]
        assert all(set(key) == {"kty", "use", "alg", "kid", "n", "e"} for key in keys)
        return [key["kid"] for key in keys]

    assert await kids() == []
    token = await token_of(client)
    first = jwt.get_unverified_header(token)["kid"]
    assert await kids() == [first]
    clock[0] += 1
    second = (await signing.rotate(ANN)).kid
    assert await kids() == [first, second]
    assert jwt.get_unverified_header(await token_of(client))["kid"] == second
    clock[0] += signing.token_ttl_ms / 1000
    assert await kids() == [second]
    assert (await ask(client, "GET", "/api/1/session", headers={"X-API-KEY": token})).status == 401


async def test_nothing_that_was_typed_or_signed_is_logged(
    client: Client, caplog: pytest.LogCaptureFixture, store: Store, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    caplog.set_level("ERROR", "aiohttp.access")  # the test server's; the listener has none
    token = await token_of(client)
    answers = [
        await ask(client, "GET", "/login", headers=basic("c4n4ry-name", "c4n4ry-password")),
        await ask(client, "GET", "/login", headers={"Authorization": "Basic c4n4ry"}),
        await ask(client, "GET", "/login?next=c4n4ry", headers=basic()),
        await ask(client, "GET", "/login?orgId=c4n4ry", headers=basic()),
        await ask(client, "GET", "/api/1/session", headers={"X-API-KEY": "c4n4ry.c4n4ry.c4n4ry"}),
        await ask(client, "GET", "/api/1/session", cookies={COOKIE: "c4n4ry.c4n4ry.c4n4ry"}),
    ]
    text = "".join([await answer.text() + str(answer.headers) for answer in answers])
    await store.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if "pepper" not in file.name)
    for secret in ("c4n4ry", PASSWORD, token.rpartition(".")[2]):
        assert secret not in caplog.text + text
        assert secret.encode() not in kept
