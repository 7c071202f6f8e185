"""Large bodies cost no memory, whichever side is slow, and every byte arrives."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.wire.backend import Backend, Exchange
from tests.wire.client import Client, get
from tests.wire.product import Product

MIB = 1024 * 1024
BLOCK = bytes(range(256)) * 256
ALLOWED = 8 * MIB


class Peak:
    """The highest resident memory of a process while the block runs."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.base = self.most = product.resident

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self.most - self.base

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self.product.resident)


def blocks(total: int) -> Iterator[bytes]:
    for _ in range(total // len(BLOCK)):
        yield BLOCK


def warm(product: Product, path: str) -> None:
    with Client(product.port) as client:
        for _ in range(20):
            assert client.send(get(path, key=product.keys.viewer)).response().status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_response_to_a_slow_reader_costs_no_memory(
    gateway: Product, backend: Backend, path: str, framing: str
) -> None:
    total = 256 * MIB
    sent = 0

    def pour(exchange: Exchange) -> None:
        nonlocal sent
        if framing == "length":
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
            for block in blocks(total):
                exchange.send(block)
                sent += len(block)
            return
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for block in blocks(total):
            exchange.send(b"%x\r\n%b\r\n" % (len(block), block))
            sent += len(block)
        exchange.send(b"0\r\n\r\n")

    warm(gateway, path)
    backend.on(path, pour)
    with Client(gateway.port, receive_buffer=65536, timeout=30) as client, Peak(gateway) as peak:
        client.send(get(path, key=gateway.keys.viewer))
        assert client.head().status == 200
        time.sleep(0.5)
        assert sent < total // 2, "the gateway took it all though nobody read"
        got = client.buffered
        while got < total:
            data = client.sock.recv(MIB)
            assert data, "cut short"
            got += len(data)
    assert peak.grown < ALLOWED, f"{peak.grown / MIB:.1f} MiB more"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_upload_to_a_slow_backend_costs_no_memory(
    gateway: Product, backend: Backend, path: str, framing: str
) -> None:
    total = 256 * MIB
    release = threading.Event()

    def sip(exchange: Exchange) -> None:
        release.wait(20)
        for _ in exchange.body_pieces():
            pass
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    warm(gateway, path)
    backend.on(path, sip)
    field = f"Content-Length: {total}" if framing == "length" else "Transfer-Encoding: chunked"
    sent = 0

    def upload(client: Client) -> None:
        nonlocal sent
        for block in blocks(total):
            client.send(block if framing == "length" else b"%x\r\n%b\r\n" % (len(block), block))
            sent += len(block)
        if framing == "chunked":
            client.send(b"0\r\n\r\n")

    with Client(gateway.port, timeout=30) as client, Peak(gateway) as peak:
        client.send(get(path, field, method="POST", key=gateway.keys.editor))
        sender = threading.Thread(target=upload, args=(client,))
        sender.start()
        time.sleep(0.5)
        held = sent
        release.set()
        assert client.response().status == 200
        sender.join()
    assert held < total // 2, "the gateway took it all though the backend did not read"
    assert peak.grown < ALLOWED, f"{peak.grown / MIB:.1f} MiB more"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_both_ways_arrive_unchanged(
    gateway: Product, backend: Backend, path: str, framing: str
) -> None:
    total = 16 * MIB + 12345
    data = (BLOCK * (total // len(BLOCK) + 1))[:total]
    digests = []

    def digest(exchange: Exchange) -> None:
        state = hashlib.sha256()
        for piece in exchange.body_pieces():
            state.update(piece)
        digests.append(state.digest())
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total + data)

    backend.on(path, digest)
    with Client(gateway.port, timeout=30) as client:
        if framing == "length":
            raw = get(path, method="POST", key=gateway.keys.editor, body=data)
        else:
            pieces = (data[at : at + 70001] for at in range(0, total, 70001))
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            raw = get(path, "Transfer-Encoding: chunked", method="POST", key=gateway.keys.editor) + body
        response = client.send(raw).response()
    assert digests == [hashlib.sha256(data).digest()]
    assert hashlib.sha256(response.body).digest() == digests[0]


def test_event_stream_is_passed_on_as_it_comes(gateway: Product, backend: Backend, path: str) -> None:
    step = threading.Semaphore(0)

    def events(exchange: Exchange) -> None:
        exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(5):
            step.acquire()
            exchange.send(b"9\r\ndata: %d\n\n\r\n" % number)
        step.acquire()
        exchange.send(b"0\r\n\r\n")

    backend.on(path, events)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer))
        head = client.head()
        assert head.status == 200
        received = b""
        for number in range(5):
            step.release()
            while b"data: %d\n\n" % number not in received:
                data = client.sock.recv(4096)
                assert data
                received += data
        step.release()


def test_upload_is_passed_on_as_it_comes(gateway: Product, backend: Backend, path: str) -> None:
    seen: list[bytes] = []
    arrived = threading.Semaphore(0)

    def watch(exchange: Exchange) -> None:
        for piece in exchange.body_pieces():
            seen.append(piece)
            arrived.release()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    backend.on(path, watch)
    with Client(gateway.port) as client:
        client.send(get(path, "Content-Length: 6", method="POST", key=gateway.keys.editor))
        for piece in (b"ab", b"cd", b"ef"):
            client.send(piece)
            assert arrived.acquire(timeout=3), "the piece was held back"
        assert client.response().status == 200
    assert b"".join(seen) == b"abcdef"


def test_slow_reader_holds_up_nobody_else(gateway: Product, backend: Backend, path: str) -> None:
    def pour(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        try:
            for block in blocks(64 * MIB):
                exchange.send(block)
        except OSError:
            return

    backend.on(path, pour)
    slow = [
        Client(gateway.port, receive_buffer=4096).send(get(path, key=gateway.keys.viewer)) for _ in range(5)
    ]
    try:
        begun = time.monotonic()
        with Client(gateway.port) as client:
            for _ in range(50):
                assert client.send(get(path + "-other", key=gateway.keys.viewer)).response().status == 200
        assert time.monotonic() - begun < 3
    finally:
        for client in slow:
            client.sock.shutdown(socket.SHUT_RDWR)
            client.close()
