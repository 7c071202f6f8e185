"""The ops listener over a real socket: what a probe and a scrape see."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.control.http.serving import serve
from gateway.control.ops import Status, make_ops
from gateway.core.model import TableState
from gateway.observe import Gauges, Observer, make_registry


@dataclass
class Gateway:
    """What the listener is asked about; a test sets it."""

    started: tuple[bool, str] = (True, "Listeners are bound.")
    ready: tuple[bool, str] = (True, "Ready.")
    port: int = 0
    observer: Observer = field(default_factory=Observer)

    def registry(self) -> CollectorRegistry:
        gauges = Gauges(
            downstream_connections=lambda: 3,
            upstream_connections=lambda: [("sites", "idle", 2)],
            key_table_keys=lambda: 7,
            key_table_age_s=lambda: 0.25,
            store_up=lambda: True,
            key_table_state=lambda: TableState.AGING,
            key_table_loads=lambda: 2,
            store_clock_skew_s=lambda: -0.25,
            canary_at_s=lambda: 1_700_000_000.5,
            canary_age_s=lambda: 3.5,
        )
        return make_registry(self.observer, gauges, "1.2.3")


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[ClientSession]:
    listener = socket.create_server(("127.0.0.1", 0))
    gateway.port = listener.getsockname()[1]
    status = Status(started=lambda: gateway.started, ready=lambda: gateway.ready)
    runner = await serve(make_ops(gateway.registry(), status), listener, "gateway.ops")
    try:
        async with ClientSession(f"http://127.0.0.1:{gateway.port}") as session:
            yield session
    finally:
        await runner.cleanup()


async def test_metrics_are_an_exposition_that_prometheus_reads() -> None:
    async with serving(Gateway()) as session, session.get("/metrics") as response:
        text = await response.text()
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"gateway_build_info", "gateway_rejections", "process_cpu_seconds", "python_info"} <= names


async def test_metrics_speak_openmetrics_to_who_asks_for_it() -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with serving(Gateway()) as session, session.get("/metrics", headers=accept) as response:
        text = await response.text()
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
async def test_a_healthy_gateway_says_so_in_a_sentence(path: str) -> None:
    async with serving(Gateway()) as session, session.get(path) as response:
        text = await response.text()
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    assert text.endswith(".\n")


async def test_unready_is_503_with_the_reason_and_alive_all_the_same() -> None:
    gateway = Gateway(ready=(False, "Draining: no new work is taken."))
    async with serving(gateway) as session:
        async with session.get("/readyz") as ready:
            assert ready.status == 503
            assert await ready.text() == "Draining: no new work is taken.\n"
        async with session.get("/livez") as live:
            assert live.status == 200
        async with session.get("/startupz") as started:
            assert started.status == 200


async def test_readiness_is_asked_at_each_probe() -> None:
    gateway = Gateway(ready=(False, "The key table has not been loaded yet."))
    async with serving(gateway) as session:
        async with session.get("/readyz") as before:
            assert before.status == 503
        gateway.ready = (True, "Ready; the store has not answered for 3 s.")
        async with session.get("/readyz") as after:
            assert after.status == 200
            assert "store" in await after.text()


async def test_startup_is_refused_until_listeners_are_bound() -> None:
    gateway = Gateway(started=(False, "Listeners are not bound yet."))
    async with serving(gateway) as session, session.get("/startupz") as response:
        assert response.status == 503


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metricsx", "/admin", "/readyz/x"])
async def test_anything_else_is_404(path: str) -> None:
    async with serving(Gateway()) as session, session.get(path) as response:
        assert response.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_only_get_and_head_are_served(method: str) -> None:
    async with serving(Gateway()) as session, session.request(method, "/metrics") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD"


async def test_head_has_the_length_and_no_body() -> None:
    async with serving(Gateway()) as session, session.head("/readyz") as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 0
        assert await response.read() == b""


async def test_no_answer_names_the_software_or_may_be_cached() -> None:
    async with serving(Gateway()) as session:
        for path in ("/metrics", "/livez", "/nothing"):
            async with session.get(path) as response:
                assert "Server" not in response.headers
                assert response.headers["Cache-Control"] == "no-store"


async def test_a_broken_request_leaves_no_trace_of_its_bytes(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    canary = b"gw_live_canary"
    gateway = Gateway()
    with caplog.at_level(logging.DEBUG):
        async with serving(gateway):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-API-KEY : " + canary + b"\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert canary.decode() not in caplog.text
    output = capfd.readouterr()
    assert canary.decode() not in output.out + output.err
