"""The page at ``/docs``: everything from this server, nothing inline, and it works in a browser."""

from __future__ import annotations

import html.parser
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.control.docs.page import PATH, docs_routes
from gateway.control.http.listener import make_control
from tests.dialects.harness import ACME, World
from tests.wire.backend import Backend

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(html.parser.HTMLParser):
    """What a page loads, and what it would run without loading it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.inline: list[str] = []
        self._script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "style" or "style" in named or any(name.startswith("on") for name in named):
            self.inline.append(tag)
        if tag in ("script", "img"):
            self.loaded.append(named.get("src") or "")
        if tag == "link":
            self.loaded.append(named.get("href") or "")
        self._script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)


@pytest.fixture
async def client(aiohttp_client: Any) -> TestClient[Any, Any]:
    app: web.Application = make_control([], _unused(), _unused(), plain=docs_routes())
    client: TestClient[Any, Any] = await aiohttp_client(app)
    return client


def _unused() -> Any:
    """Stand in for what only endpoints use, of which there are none here."""
    return None


async def page(client: TestClient[Any, Any]) -> Page:
    async with client.get(PATH) as response:
        assert response.status == 200
        return Page(await response.text())


async def test_the_page_lets_a_browser_load_from_this_server_alone(client: TestClient[Any, Any]) -> None:
    async with client.get(PATH) as response:
        policy = dict(
            part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";")
        )
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.content_type == "text/html"
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(client: TestClient[Any, Any]) -> None:
    shown = await page(client)
    assert shown.inline == []
    assert [target for target in shown.loaded if not target.startswith(("/docs/", "data:"))] == []
    assert len([target for target in shown.loaded if target.endswith(".js")]) == 2


async def test_what_the_page_loads_is_served_and_kept_for_good(client: TestClient[Any, Any]) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css"}
    for target in (await page(client)).loaded:
        if target.startswith("data:"):
            continue
        async with client.get(target) as response:
            assert response.status == 200, target
            assert response.content_type == kinds[Path(target).suffix], target
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert await response.read()


async def test_nothing_else_is_served_beside_it(client: TestClient[Any, Any]) -> None:
    assets = next(target for target in (await page(client)).loaded if target.endswith(".css")).rpartition(
        "/"
    )[0]
    for name in ("docs.html", "page.py", "..%2fpage.py", "%2e%2e%2fpage.py", "swagger-ui.js"):
        async with client.get(f"{assets}/{name}") as response:
            assert response.status == 404, name
            assert response.content_type == "application/problem+json"


async def test_our_own_script_names_no_other_server(client: TestClient[Any, Any]) -> None:
    script = next(target for target in (await page(client)).loaded if target.endswith("/docs.js"))
    async with client.get(script) as response:
        text = await response.text()
    assert not re.search(r"https?:|//[a-z]+\.", re.sub(r"^ *//.*$", "", text, flags=re.MULTILINE))
    assert "validatorUrl: null" in text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("docs"), shared_backend.port)
    yield made
    made.product.stop()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_shows_the_description_and_tries_an_operation_with_a_key(world: World) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    key = world.cli_key("editor", ACME)
    complaints: list[str] = []
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page()
        shown.on("console", lambda message: message.type == "error" and complaints.append(message.text))
        shown.on("pageerror", lambda error: complaints.append(str(error)))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(f"http://127.0.0.1:{world.port}/docs")
        shown.click("button.authorize")
        scheme = shown.locator(".auth-container").filter(has_text="X-API-KEY")
        scheme.locator("input").first.fill(key["secretKey"])
        scheme.locator("button.authorize").click()
        shown.locator(".btn-done").last.click()
        operation = shown.locator("#operations-keys-listOrganisationKeys")
        operation.locator(".opblock-summary-control").click()
        operation.locator("button.try-out__btn").click()
        operation.locator("button.execute").click()
        told = operation.locator(".live-responses-table .response-col_description pre").first
        told.wait_for()
        assert '"keyId"' in told.inner_text()
        assert shown.evaluate("localStorage.length + sessionStorage.length") == 0
        browser.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{world.port}/", "data:"))] == []
