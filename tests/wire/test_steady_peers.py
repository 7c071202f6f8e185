"""Who is slow but steady is served; only who stands still is cut off, and soon."""

from __future__ import annotations

import threading
import time

import pytest

from tests.wire.backend import OK, Backend, Exchange
from tests.wire.client import Client, Cut, assert_refused, get
from tests.wire.product import Product

MIB = 1 << 20


@pytest.mark.parametrize("rest", [0, 4 * MIB], ids=["backend done", "backend waits"])
def test_a_slow_but_steady_reader_gets_the_whole_response(
    hasty: Product, backend: Backend, path: str, rest: int
) -> None:
    """Its deadline is one second; what the kernel holds takes it several."""
    total = 3 * MIB + rest

    def pour(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total + b"x" * total)

    backend.on(path, pour)
    got = 0
    with Client(hasty.port, receive_buffer=16384, timeout=5) as client:
        client.send(get(path, key=hasty.keys.viewer))
        assert client.head().status == 200
        got = client.buffered
        slow_until = time.monotonic() + 4
        while got < total:
            data = client.sock.recv(65536)
            assert data, f"cut off after {got} bytes"
            got += len(data)
            if time.monotonic() < slow_until:
                time.sleep(0.1)
    assert got == total


def test_a_backend_that_ends_in_mid_upload_without_a_word_is_noticed_at_once(
    gateway: Product, backend: Backend, path: str
) -> None:
    """It has stopped reading too, so the loop would wait for ever before it calls the connection lost."""
    over = threading.Event()

    def end_early(exchange: Exchange) -> None:
        time.sleep(0.3)
        exchange.half_close()
        over.wait(10)

    backend.on(path, end_early)
    begun = time.monotonic()
    with Client(gateway.port) as client:
        client.send(get(path, f"Content-Length: {64 * MIB}", method="POST", key=gateway.keys.editor))
        sender = threading.Thread(target=_send_in_vain, args=(client,))
        sender.start()
        try:
            assert_refused(client.response(), 502, "upstream_protocol_error")
            assert time.monotonic() - begun < 3
        finally:
            over.set()
            client.abandon()
            sender.join()


def _send_in_vain(client: Client) -> None:
    try:
        client.sock.sendall(b"x" * (64 * MIB))
    except OSError:
        return


def test_a_response_that_breaks_off_while_an_upload_waits_is_cut_at_once(
    gateway: Product, backend: Backend, path: str
) -> None:
    over = threading.Event()

    def end_early(exchange: Exchange) -> None:
        time.sleep(0.3)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        exchange.half_close()
        over.wait(10)

    backend.on(path, end_early)
    with Client(gateway.port, timeout=3) as client:
        client.send(get(path, f"Content-Length: {64 * MIB}", method="POST", key=gateway.keys.editor))
        sender = threading.Thread(target=_send_in_vain, args=(client,))
        sender.start()
        try:
            with pytest.raises((Cut, ConnectionError)):
                client.response()
        finally:
            over.set()
            client.abandon()
            sender.join()


def test_a_backend_that_resets_or_speaks_as_soon_as_it_accepts_is_a_bad_gateway_at_once(
    product: type[Product], path: str
) -> None:
    behaviours = [lambda c: c.reset(), lambda c: c.end(), lambda c: c.sock.sendall(OK)]
    own = Backend()
    try:
        gateway = product(upstream_port=own.port)
        for number in range(60):
            own.on_connect = behaviours[number % 3]
            own.end_connections()
            begun = time.monotonic()
            with Client(gateway.port) as client:
                method = "POST" if number % 2 else "GET"
                response = client.send(get(path, method=method, key=gateway.keys.editor)).response()
            assert response.status in (200, 502), response.status
            assert time.monotonic() - begun < 3
        assert "Traceback" not in gateway.stderr
    finally:
        own.close()
