"""``healthcheck`` asks the ops listener that the settings name, and ends with its verdict."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.cli.conftest import Gateway, refusal

Answer = Callable[[int, str], int]


@pytest.fixture
def ops() -> Iterator[Answer]:
    """Start an ops listener that gives one answer to /readyz; return its port."""
    servers: list[HTTPServer] = []

    def start(status: int, text: str) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/readyz" else 404)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_ready_is_zero(gateway: Gateway, ops: Answer) -> None:
    result = gateway("healthcheck", "--ops-listen", f"0.0.0.0:{ops(200, 'Ready.')}")
    assert (result.returncode, result.stdout) == (0, "Ready.\n")


def test_unready_is_one_and_why(gateway: Gateway, ops: Answer) -> None:
    result = gateway("healthcheck", GATEWAY_OPS_LISTEN=f"127.0.0.1:{ops(503, 'Draining.')}")
    assert "Draining." in refusal(result, 1)


def test_nobody_there_is_one(gateway: Gateway) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = refusal(gateway("healthcheck", "--ops-listen", f"127.0.0.1:{free.getsockname()[1]}"), 1)
    assert "nothing answers" in told
    assert told.endswith(": Connection refused")


def test_another_kind_of_server_is_one(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def speak() -> None:
            peer, _ = other.accept()
            with peer:
                peer.sendall(b"220 mail.example.com ESMTP\r\n")
                peer.recv(1000)

        threading.Thread(target=speak, daemon=True).start()
        told = refusal(gateway("healthcheck", "--ops-listen", f"127.0.0.1:{other.getsockname()[1]}"), 1)
    assert "is no gateway's ops listener" in told


def test_silence_is_one_after_two_seconds(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = refusal(gateway("healthcheck", "--ops-listen", f"127.0.0.1:{silent.getsockname()[1]}"), 1)
    assert "timed out" in told
