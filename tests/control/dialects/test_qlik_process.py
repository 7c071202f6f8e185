"""Keys of ``003`` against the running product: both listeners, a real login, the command line beside it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.wire.backend import Backend
from tests.wire.product import Keys, Product, cli

PASSWORD = "correct horse battery staple"
KEYS = "/api/v1/api-keys"
WITHIN_S = 5.0


def ask(
    port: int, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Send one request to a listener; return the status, the JSON if it is some, and the field lines."""
    content = None if body is None else json.dumps(body)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if content is not None:
        sent["Content-Type"] = "application/json"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        read = response.read()
        told = json.loads(read) if "json" in response.headers.get("Content-Type", "") else read
        return response.status, told, response.headers


def becomes(status: int, port: int, path: str, **headers: str) -> bool:
    """Tell whether a request is answered with a status soon."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if ask(port, "GET", path, **headers)[0] == status:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def people(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, shared_backend: Backend
) -> Iterator[tuple[Product, str, str]]:
    """A running gateway and the login tokens of an editor and an admin."""
    directory = tmp_path_factory.mktemp("qlik")
    settings = {"control": {"public_url": "https://keys.example.com"}}
    running = Product(directory / "gateway", keys, shared_backend.port, settings, control=True)
    try:
        yield running, *_logged_in(running, directory)
        running.stop()
    finally:
        running.kill()


def _logged_in(running: Product, directory: Path) -> tuple[str, str]:
    file = directory / "password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    tokens = []
    for role in ("editor", "admin"):
        email = f"{role}@example.com"
        added = cli(
            "users", "add", email, "--tenant", "default", "--role", role, "--password-file", str(file),
            store=running.store,
        )  # fmt: skip
        assert added.returncode == 0, added.stderr
        basic = base64.b64encode(f"{email}:{PASSWORD}".encode()).decode()
        status, _, lines = ask(running.control_port, "POST", "/login", Authorization=f"Basic {basic}")
        assert status == 302
        tokens.append(lines["Set-Cookie"].split(";")[0].partition("=")[2])
    return tokens[0], tokens[1]


@pytest.mark.parametrize(
    "headers",
    [lambda token: {"Authorization": f"BEARER {token}"}, lambda token: {"X_API_KEY": token}],
    ids=["authorization", "x-api-key"],
)
def test_a_jwt_key_passes_the_proxy_in_either_header_and_dies_with_its_revocation(
    people: tuple[Product, str, str], headers: Callable[[str], dict[str, str]]
) -> None:
    running, editor, admin = people
    control, front = running.control_port, running.port
    tokens = []
    for _ in range(2):
        status, made, _ = ask(control, "POST", KEYS, {"description": "walk"}, **headers(editor))
        assert status == 201
        assert made["token"].count(".") == 2
        assert becomes(200, front, "/walk", **headers(made["token"]))
        tokens.append(made["token"])
    assert ask(front, "POST", "/walk", {}, **headers(tokens[0]))[0] == 200
    status, page, _ = ask(control, "GET", f"{KEYS}?limit=1", **headers(tokens[0]))
    assert status == 200
    assert page["links"]["next"]["href"].startswith(
        f"https://keys.example.com{KEYS}?limit=1&startingAfter=apk_"
    )
    ids = [key["id"] for key in ask(control, "GET", KEYS, **headers(editor))[1]["data"]]
    assert ask(control, "DELETE", f"{KEYS}/{ids[1]}", **headers(admin))[0] == 204
    assert ask(control, "DELETE", f"{KEYS}/{ids[0]}", **headers(tokens[1]))[0] == 204
    for token in tokens:
        assert becomes(401, front, "/walk", **headers(token))
        assert ask(front, "GET", "/walk", **headers(token))[1]["code"] == "key_revoked"
        assert token not in running.output


def test_switching_keys_off_over_http_stops_the_proxy_and_leaves_logins(
    people: tuple[Product, str, str],
) -> None:
    running, editor, admin = people
    control, front, config = running.control_port, running.port, f"{KEYS}/configs/default"
    as_editor, as_admin = {"Authorization": f"Bearer {editor}"}, {"Authorization": f"Bearer {admin}"}
    _, made, _ = ask(control, "POST", KEYS, {"description": "d", "expiry": "P1D"}, **as_editor)
    as_key = {"X_API_KEY": made["token"]}
    assert becomes(200, front, "/off", **as_key)
    off = [{"op": "replace", "path": "/api_keys_enabled", "value": False}]
    assert ask(control, "PATCH", config, off, **as_editor)[0] == 403
    assert ask(control, "PATCH", config, off, **as_admin)[0] == 204
    assert becomes(403, front, "/off", **as_key)
    assert ask(control, "GET", KEYS, **as_key)[0] == 403
    assert ask(control, "POST", KEYS, {"description": "d"}, **as_editor)[0] == 403
    shown = cli("tenants", "list", "--json", store=running.store)
    assert '"api_keys_enabled": false' in shown.stdout.lower()
    on = cli("tenants", "set", "default", "--api-keys-enabled", "true", store=running.store)
    assert on.returncode == 0, on.stderr
    assert ask(control, "GET", config, **as_editor)[1]["api_keys_enabled"] is True
    assert becomes(200, front, "/off", **as_key)
