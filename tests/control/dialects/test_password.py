"""A user changes her own password by showing the present one; nobody else does it that way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.control.dialects.login import LoginDialect
from gateway.control.dialects.login_shapes import CookieForm
from gateway.control.login import LoginService
from gateway.control.signing import Signing
from gateway.control.throttle import LIMITS
from gateway.store.base import Store
from tests.control.api import COOKIE, PASSWORD, Api
from tests.control.samples import ANN, DIGESTER, FastHasher
from tests.store.samples import audited

PATH = "/api/1/password"
NEW = "another good password"
CHANGE = {"current": PASSWORD, "new": NEW}


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[Api]:
    api = Api(store, clock)
    signing = Signing(store, DIGESTER, clock=lambda: clock[0])
    logins = LoginService(store, DIGESTER, api.service, signing, FastHasher())
    login = LoginDialect(api.service, logins, signing, CookieForm(COOKIE, 60))
    async with api.serving(login=login):
        yield api
    await logins.close()


async def knows(api: Api, password: str) -> bool:
    return await api.service.check_password("eve@example.com", password) is not None


async def test_who_shows_the_present_password_gets_another(api: Api) -> None:
    eve = await api.user("eve", "viewer")
    told = await api.ask("PUT", PATH, eve, CHANGE)
    assert (told.status, told.json) == (204, None)
    assert await knows(api, NEW)
    assert not await knows(api, PASSWORD)
    (row,) = [row for row in await audited(api.store) if row.action == "user.password"]
    assert (row.actor, row.tenant_id) == ("eve@example.com", "default")
    text = f"{told} {await audited(api.store)}"
    assert NEW not in text
    assert PASSWORD not in text


@pytest.mark.parametrize(
    ("members", "blamed"),
    [
        ({"current": "wrong"}, "current"),
        ({"current": ""}, "current"),
        ({"current": PASSWORD + "\x07"}, "current"),
        ({"current": "x" * 1025}, "current"),
        ({"current": None}, "current"),
        ({"new": "short"}, "new"),
        ({"new": "with\x07a bell"}, "new"),
        ({"new": "x" * 1025}, "new"),
        ({"new": "ä" * 600}, "new"),
        ({"new": 12345678}, "new"),
        ({"user": "ann"}, "user"),
    ],
)
async def test_what_cannot_be_changes_nothing(api: Api, members: dict[str, object], blamed: str) -> None:
    eve = await api.user("eve", "viewer")
    told = await api.ask("PUT", PATH, eve, CHANGE | members)
    assert (told.status, told.json["member"]) == (400, blamed)
    assert await knows(api, PASSWORD)
    sent = str(next(iter(members.values())))
    assert not sent or sent not in told.json["detail"]


async def test_a_key_changes_no_password_not_even_one_that_acts_as_her(api: Api) -> None:
    eve = await api.user("eve", "editor")
    own = (await api.made(eve, permission="editor"))["apiToken"]
    acting = (await api.ask("POST", "/v1/api-keys", eve, {"description": "acts as me"})).json["token"]
    for key in (own, acting):
        assert (await api.ask("PUT", PATH, key, CHANGE)).status == 403
    assert (await api.ask("PUT", PATH, None, CHANGE)).status == 401
    assert await knows(api, PASSWORD)


async def test_a_cookie_alone_changes_no_password(api: Api) -> None:
    eve = await api.user("eve", "viewer")
    origin = str(api.client.make_url("/")).rstrip("/")
    for fields, status in (
        ({}, 403),
        ({"Origin": origin}, 403),
        ({"X-CSRF-Token": f"csrf of {eve}", "Origin": "http://evil.test"}, 403),
        ({"X-CSRF-Token": f"csrf of {eve}", "Origin": origin}, 204),
    ):
        told = await api.ask("PUT", PATH, None, CHANGE, {"Cookie": f"{COOKIE}={eve}", **fields})
        assert told.status == status, fields


async def test_guesses_count_as_attempts_to_log_in_do_even_at_once(api: Api) -> None:
    eve = await api.user("eve", "viewer")
    guesses = [
        api.ask("PUT", PATH, eve, CHANGE | {"current": f"guess {n}"}) for n in range(LIMITS.per_pair + 5)
    ]
    statuses = [told.status for told in await asyncio.gather(*guesses)]
    assert (statuses.count(400), statuses.count(429)) == (LIMITS.per_pair, 5)
    told = await api.ask("PUT", PATH, eve, CHANGE)
    assert told.status == 429
    assert int(told.headers["Retry-After"]) > 0
    assert await knows(api, PASSWORD)


async def test_a_password_of_her_own_lets_her_into_another_organisation(api: Api) -> None:
    await api.service.add_tenant(ANN, "acme")
    ann, mallory = await api.user("ann", "admin"), await api.user("mallory", "admin", "acme")
    new = {"email": "eve@example.com", "role": "viewer", "password": PASSWORD}
    assert (await api.ask("POST", "/api/1/tenants/acme/users", mallory, new)).status == 201
    joins = {"email": "eve@example.com", "role": "viewer"}
    assert (await api.ask("POST", "/api/1/tenants/default/users", ann, joins)).status == 409
    eve = api.logins.log_in(await api.service.show_user("eve@example.com"), "acme")
    assert (await api.ask("PUT", PATH, eve, CHANGE)).status == 204
    assert (await api.ask("POST", "/api/1/tenants/default/users", ann, joins)).status == 201
