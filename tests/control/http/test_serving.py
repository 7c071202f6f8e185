"""The listener bounds what it takes, and answers nonsense without repeating it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from gateway.control.http import serving
from gateway.control.http.serving import serve
from tests.control.http.conftest import HEAD, SECRET, Listener, read_one


@contextlib.asynccontextmanager
async def served(handler: Callable[[web.Request], object]) -> AsyncIterator[tuple[int, web.AppRunner]]:
    app = web.Application()
    app.router.add_get("/", handler)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    runner = await serve(app, bound, "gateway.tests", shutdown_s=0.1)
    try:
        yield bound.getsockname()[1], runner
    finally:
        await runner.cleanup()


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "request_",
    [
        f"{SECRET}\r\n\r\n",
        f"GET /{SECRET} HTTP/9.9\r\nHost: x\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-API-KEY : {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\n X-API-KEY: {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nX-API-KEY: {SECRET}\x00\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-API-KEY: {SECRET}\r\nTransfer-Encoding: {SECRET}\r\nHost: x\r\n\r\n",
        f"GET /?{SECRET}\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST /items HTTP/1.1\r\nHost: x\r\nX-API-KEY: {SECRET}\r\nContent-Length: 5\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-API-KEY: {SECRET}\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_without_a_word_of_it(
    listener: Listener, caplog: pytest.LogCaptureFixture, request_: str
) -> None:
    reader, writer = await listener.connect()
    writer.write(request_.encode("latin-1"))
    async with asyncio.timeout(20):
        got = await reader.read()
    writer.close()
    head, _, content = got.decode().partition("\r\n\r\n")
    assert " 400 Bad Request\r\n" in head
    assert "application/problem+json" in head
    assert "X-Request-Id: " in head
    assert "aiohttp" not in head
    assert SECRET not in head + content + caplog.text
    assert '"status": 400' in content


async def test_a_head_has_a_largest_field(listener: Listener) -> None:
    head = f"GET /who HTTP/1.1\r\nHost: x\r\nX-Long: {SECRET * 1000}\r\n\r\n"
    got = await listener.ask(head)
    assert got.status == 431
    assert SECRET not in got.content.decode()
    assert (await listener.get("/who", f"{HEAD}X-Long: {'x' * 16000}\r\n")).status == 200


async def test_a_parameter_that_is_far_too_long_is_told_by_its_name(listener: Listener) -> None:
    got = await listener.get(f"/open?limit={'1' * 60_000}")
    assert got.status == 400
    assert "limit" in got.content.decode()
    assert (await listener.get(f"/open?limit={'1' * 70_000}")).status == 431


async def test_a_head_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.2)
    async with served(hello) as (port, _):
        for sent in (b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()


async def test_a_head_that_comes_byte_by_byte_has_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.3)
    async with served(hello) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX: ")

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(trickle())
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        task.cancel()
        writer.close()


async def test_one_connection_too_many_is_closed_and_the_next_one_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 3)
    async with served(hello) as (port, runner):
        server = runner.server
        assert server is not None
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await until(lambda: len(server.connections) == 3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        first_reader, first = held[0]
        first.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_one(first_reader)).content == b"hello"
        first.close()
        await until(lambda: len(server.connections) == 2)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_one(reader)).status == 200
        for _, each in [*held[1:], (None, writer)]:
            each.close()


async def test_a_fault_outside_every_handler_is_told_shortly_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(request: web.Request) -> web.Response:
        raise RuntimeError("a fault")

    async with served(fail) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n")
        got = await read_one(reader)
        writer.close()
    assert got.status == 500
    assert b"fault" not in got.content
    assert "RuntimeError" in caplog.text


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such bound")
async def test_a_caller_who_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "UNREAD_S", 1)

    async def much(request: web.Request) -> web.Response:
        return web.Response(body=bytes(32 << 20))

    async with served(much) as (port, runner):
        server = runner.server
        assert server is not None
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", port))
        await asyncio.get_running_loop().sock_sendall(deaf, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(server.connections) == 1)
        await until(lambda: len(server.connections) == 0)
        deaf.close()
