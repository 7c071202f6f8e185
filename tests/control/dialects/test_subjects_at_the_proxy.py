"""A running gateway: what is told of a key's permissions is what happens, and a role works at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tests.wire.product import Product

SETTINGS = {
    "roles": {"MediaEditor": {"permission": "editor", "routes": ["/media"]}},
    "routes": [
        {"path": "/media", "upstream": "backend", "name": "media"},
        {"path": "/search", "upstream": "backend", "name": "search", "read_methods": ["POST"]},
        {"path": "/theirs", "upstream": "backend", "tenants": ["somebody-else"]},
    ],
}


def ask(port: int, method: str, path: str, key: str, body: Any = None) -> tuple[int, Any]:
    """Ask with a key; return status and JSON, if that is what came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"X-API-KEY": key, "Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, json.loads(text) if is_json else None


def by_and_by(happened: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def made(product: Product, **members: str) -> dict[str, Any]:
    status, key = ask(product.control_port, "POST", "/api-keys", product.keys.editor, {"name": "n"} | members)
    assert status == 201, key
    secret = key["secretKey"]
    assert by_and_by(lambda: ask(product.port, "GET", "/media", secret)[0] != 401, 5)
    return dict(key)


def test_what_is_told_of_a_key_is_what_happens(product: Callable[..., Product]) -> None:
    running = product(SETTINGS, control=True)
    wanted = [
        (method, path)
        for method in ("GET", "POST", "DELETE")
        for path in ("/media/1", "/mediaX", "/search", "/theirs", "/a/../b", "/media/%2e%2e/theirs")
    ]
    seen = set()
    for permission in ("viewer", "editor", "MediaEditor"):
        key = made(running, permission=permission)
        for method, path in wanted:
            query = urlencode({"method": method, "path": path})
            asked = f"/api-keys/{key['id']}/permissions?{query}"
            status, told = ask(running.control_port, "GET", asked, running.keys.editor)
            assert status == 200, told
            status, problem = ask(running.port, method, path, key["secretKey"])
            assert (status == 200) is told["allowed"], (permission, method, path, told)
            assert (problem["code"] if problem else None) == told["reason"]
            seen.add(told["reason"])
    assert seen == {None, "permission_denied", "route_denied", "no_route", "bad_request"}


def test_a_role_works_at_the_proxy_within_a_second(product: Callable[..., Product]) -> None:
    running = product(SETTINGS, control=True)
    key = made(running)
    _, successor = ask(running.control_port, "POST", f"/api-keys/{key['id']}/rotate", running.keys.editor)
    role = f"/api/1/tenants/default/subjects/{key['subjectId']}/role"
    secrets = [key["secretKey"], successor["secretKey"]]
    assert by_and_by(lambda: ask(running.port, "GET", "/media", secrets[1])[0] == 200, 5)

    def writes(path: str) -> list[int]:
        return [ask(running.port, "PUT", path, secret)[0] for secret in secrets]

    assert writes("/media") == [403, 403]
    for wanted, path, before, after in (
        ("MediaEditor", "/media", 403, 200),
        ("editor", "/search", 403, 200),
        ("viewer", "/search", 200, 403),
    ):
        assert writes(path) == [before, before]
        status, told = ask(running.control_port, "PUT", role, running.keys.editor, {"role": wanted})
        assert (status, told["role"]) == (200, wanted)
        assert by_and_by(lambda path=path, after=after: writes(path) == [after, after], 1), wanted
    for secret in secrets:
        assert secret not in running.output
