"""What a key may do, asked of the control API: the proxy's own decision, on the store as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.control.domain import KeyWish
from gateway.core.http1 import METHODS
from gateway.store.base import Store
from tests.control.dialects.tenancy import TENANT, Api
from tests.control.samples import ANN


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[Api]:
    async with Api(store, clock).serving() as api:
        yield api


@pytest.fixture
async def ann(api: Api) -> str:
    return await api.user("editor", "ann")


async def judged(api: Api, who: str, key: dict[str, Any], method: str, path: str, **more: str) -> Any:
    query = urlencode({"method": method, "path": path} | more)
    told = await api.ask("GET", f"/api-keys/{key['id']}/permissions?{query}", who)
    assert told.status == 200, told
    return told.json


def answer(reason: str | None, permission: str | None, route: str | None) -> dict[str, Any]:
    return {"allowed": reason is None, "reason": reason, "permission": permission, "route": route}


@pytest.mark.parametrize(
    ("role", "method", "path", "expected"),
    [
        ("viewer", "GET", "/a", answer(None, "viewer", "everything")),
        ("viewer", "HEAD", "/a?x=%2F&y={}|", answer(None, "viewer", "everything")),
        ("viewer", "POST", "/a", answer("permission_denied", "viewer", "everything")),
        ("viewer", "POST", "/search", answer(None, "viewer", "search")),
        ("viewer", "DELETE", "/search", answer("permission_denied", "viewer", "search")),
        ("editor", "DELETE", "/a", answer(None, "editor", "everything")),
        ("editor", "M-SEARCH", "/a", answer(None, "editor", "everything")),
        ("editor", "GET", "/open/x", answer(None, "editor", "open")),
        # Whom a route does not let in is not told that it is there.
        ("editor", "GET", "/theirs", answer("route_denied", "editor", None)),
        ("MediaEditor", "PUT", "/media/1", answer(None, "editor", "everything")),
        ("MediaEditor", "PUT", "/mediaX", answer("route_denied", "editor", None)),
        ("MediaViewer", "PUT", "/media/1", answer("permission_denied", "viewer", "everything")),
        # The path can be read in more than one way: the proxy says 400.
        ("editor", "GET", "/a/../b", answer("bad_request", "editor", None)),
        ("editor", "GET", "/a%2Fb", answer("bad_request", "editor", None)),
    ],
)
async def test_the_answer_is_what_the_proxy_decides(
    api: Api, ann: str, role: str, method: str, path: str, expected: dict[str, Any]
) -> None:
    key = await api.made(ann, permission=role)
    assert await judged(api, ann, key, method, path) == expected
    assert await judged(api, key["secretKey"], key, method, path) == expected


async def test_the_host_chooses_the_route(api: Api, ann: str) -> None:
    viewer, editor = await api.made(ann), await api.made(ann, permission="editor")
    host = {"host": "other.test:8080"}
    assert await judged(api, ann, editor, "GET", "/", **host) == answer(None, "editor", "other host")
    assert await judged(api, ann, viewer, "GET", "/", **host) == answer("route_denied", "viewer", None)
    assert await judged(api, ann, viewer, "GET", "/") == answer(None, "viewer", "everything")


async def test_every_method_that_is_forwarded_can_be_asked_about(api: Api, ann: str) -> None:
    key = await api.made(ann, permission="editor")
    for method in sorted(METHODS):
        assert (await judged(api, ann, key, method.decode(), "/a"))["allowed"], method


async def test_a_key_that_has_ended_may_do_nothing(api: Api, ann: str) -> None:
    revoked, rotated = await api.made(ann), await api.made(ann, permission="editor")
    await api.ask("DELETE", f"/api-keys/{revoked['id']}", ann)
    await api.ask("POST", f"/api-keys/{rotated['id']}/rotate", ann, {"overlap": "PT1H"})
    assert await judged(api, ann, revoked, "GET", "/a") == answer("key_revoked", "viewer", None)
    assert (await judged(api, ann, rotated, "PUT", "/a"))["allowed"]
    api.wait(hours=1)
    assert await judged(api, ann, rotated, "PUT", "/a") == answer("key_expired", "editor", None)


async def test_the_answer_follows_the_holder_at_once(api: Api, ann: str) -> None:
    """The key table of the test knows neither tenant nor user: what the store says now is what counts."""
    admin = await api.user("admin")
    key = await api.made(ann)
    await api.service.set_tenant(ANN, TENANT, api_keys_enabled=False)
    assert await judged(api, admin, key, "GET", "/a") == answer("holder_disabled", "viewer", None)
    await api.service.set_tenant(ANN, TENANT, api_keys_enabled=True)
    assert (await judged(api, admin, key, "GET", "/a"))["allowed"]


async def test_a_key_that_acts_for_a_user_may_no_more_than_she_may_now(api: Api, ann: str) -> None:
    admin = await api.user("admin")
    principal, _ = await api.logins.session_of(ann)
    made = await api.service.create_key_as(principal, ANN, KeyWish(name="hers", as_subject=True))
    key = {"id": made.record.id}
    assert await judged(api, admin, key, "PUT", "/a") == answer(None, "editor", "everything")
    await api.service.set_role(ANN, "ann@example.com", tenant=TENANT, role="viewer")
    assert await judged(api, admin, key, "PUT", "/a") == answer("permission_denied", "viewer", "everything")
    await api.service.enable_user(ANN, "ann@example.com", enabled=False)
    assert await judged(api, admin, key, "GET", "/a") == answer("holder_disabled", None, None)


async def test_a_role_that_is_no_longer_configured_may_do_nothing(api: Api, ann: str) -> None:
    key = await api.made(ann, permission="MediaEditor")
    api.forget_role("MediaEditor")
    assert await judged(api, ann, key, "GET", "/media") == answer("route_denied", None, None)


async def test_the_answer_says_when_the_proxy_would_not_know(api: Api, ann: str) -> None:
    key = await api.made(ann)
    api.clock[0] += 301
    assert (await judged(api, ann, key, "GET", "/a"))["reason"] == "key_table_stale"
    api.table.synced_at = None
    assert (await judged(api, ann, key, "GET", "/a"))["reason"] == "not_ready"


@pytest.mark.parametrize(
    ("query", "blamed"),
    [
        ("path=/a", "method"),
        ("method=GET", "path"),
        ("method=get&path=/a", "method"),
        ("method=BREW&path=/a", "method"),
        ("method=TRACE&path=/a", "method"),
        ("method=CONNECT&path=/a", "method"),
        ("method=&path=/a", "method"),
        ("method=G%C3%8BT&path=/a", "method"),
        ("method=GET&path=", "path"),
        ("method=GET&path=a", "path"),
        ("method=OPTIONS&path=*", "path"),
        ("method=GET&path=http://elsewhere/a", "path"),
        ("method=GET&path=/a%20b", "path"),
        ("method=GET&path=/a%20HTTP/1.1%0D%0AX-API-KEY:%20k", "path"),
        ("method=GET&path=/%C3%A4", "path"),
        ("method=GET&path=/a%23b", "path"),
        ("method=GET&path=/a%5Cb", "path"),
        ("method=GET&path=/%ED%A0%80", "path"),
        ("method=GET&path=/a&host=", "host"),
        ("method=GET&path=/a&host=a/b", "host"),
        ("method=GET&path=/a&host=a%0D%0Ab:1", "host"),
        ("method=GET&path=/a&path=/b", "path"),
        ("method=GET&path=/a&role=editor", "role"),
    ],
)
async def test_what_is_no_request_is_refused_by_its_parameter(
    api: Api, ann: str, query: str, blamed: str
) -> None:
    key = await api.made(ann)
    told = await api.ask("GET", f"/api-keys/{key['id']}/permissions?{query}", ann)
    assert (told.status, told.json["member"]) == (400, blamed)
