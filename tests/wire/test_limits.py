"""Limits are exact, and every deadline ends what it binds (small limits, deadlines of one second)."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable

import pytest

from tests.wire.backend import PROMPTLY, Backend, Exchange, answer, eventually, ok
from tests.wire.client import Client, Cut, assert_refused, chunked, get
from tests.wire.product import Product

HEAD_BYTES, HEADER_LINES, TARGET_BYTES, BODY_BYTES = 2048, 20, 512, 65536


def padded(size: int, key: str | None, path: str = "/fits") -> bytes:
    """A request head of exactly ``size`` bytes, from the request line through the blank line."""
    bare = len(get(path, "X-Pad: ", key=key))
    return get(path, "X-Pad: " + "p" * (size - bare), key=key)


Deliver = Callable[[Client, bytes], object]


def at_once(client: Client, raw: bytes) -> None:
    client.send(raw)


def bytewise(client: Client, raw: bytes) -> None:
    client.send_pieces(raw[i : i + 1] for i in range(len(raw)))


def in_tens(client: Client, raw: bytes) -> None:
    client.send_pieces((raw[i : i + 10] for i in range(0, len(raw), 10)), pause=0.0002)


DELIVERIES = pytest.mark.parametrize("deliver", [at_once, bytewise, in_tens])


@DELIVERIES
@pytest.mark.parametrize("keyed", [True, False])
def test_head_is_limited_to_the_byte(hasty: Product, backend: Backend, deliver: Deliver, keyed: bool) -> None:
    key = hasty.keys.viewer if keyed else None
    fits, over = padded(HEAD_BYTES, key), padded(HEAD_BYTES + 1, key)
    assert len(fits) == HEAD_BYTES
    with Client(hasty.port) as client:
        deliver(client, fits)
        assert client.response().status == (200 if keyed else 401)
        before = backend.received
        deliver(client, over)
        response = client.response()
        assert_refused(response, 431, "head_too_large")
        client.expect_closed()
    assert backend.received == before


@DELIVERIES
@pytest.mark.parametrize("keyed", [True, False])
def test_target_is_limited_to_the_byte(
    hasty: Product, backend: Backend, deliver: Deliver, keyed: bool
) -> None:
    key = hasty.keys.viewer if keyed else None
    with Client(hasty.port) as client:
        deliver(client, get("/" + "a" * (TARGET_BYTES - 1), key=key))
        assert client.response().status == (200 if keyed else 401)
        before = backend.received
        deliver(client, get("/" + "a" * TARGET_BYTES, key=key))
        assert_refused(client.response(), 414, "target_too_long")
        client.expect_closed()
    assert backend.received == before


@DELIVERIES
@pytest.mark.parametrize("keyed", [True, False])
def test_field_lines_are_counted(hasty: Product, backend: Backend, deliver: Deliver, keyed: bool) -> None:
    key = hasty.keys.viewer if keyed else None
    own = HEADER_LINES - (2 if keyed else 1)
    with Client(hasty.port) as client:
        deliver(client, get("/lines", *["a: b"] * own, key=key))
        assert client.response().status == (200 if keyed else 401)
        before = backend.received
        deliver(client, get("/lines", *["a: b"] * (own + 1), key=key))
        assert_refused(client.response(), 431, "head_too_large")
        client.expect_closed()
    assert backend.received == before


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET /" + b"a" * 5000, 414, "target_too_long"),
        (b"GET /x HTTP/1.1\r\nX: " + b"a" * 5000, 431, "head_too_large"),
        (b"GET /x HTTP/1.1\r\n" + b"a" * 5000, 431, "head_too_large"),
        (b"GET /x HTTP/1.1\r\n" + b"a:b\r\n" * 500, 431, "head_too_large"),
    ],
    ids=["target", "value", "name", "lines"],
)
def test_endless_head_is_refused_before_its_end(hasty: Product, raw: bytes, status: int, code: str) -> None:
    with Client(hasty.port) as client:
        client.send(raw)
        assert_refused(client.response(), status, code)
        client.expect_closed()


def test_endless_first_line_without_a_target_is_refused(hasty: Product) -> None:
    with Client(hasty.port) as client:
        client.send(b"A" * 5000)
        response = client.response()
        assert response.status in (400, 414, 431, 501)
        client.expect_closed()


def test_default_limits_hold(gateway: Product, path: str) -> None:
    key = gateway.keys.viewer
    with Client(gateway.port) as client:
        client.send(padded(32768, key, path))
        assert client.response().status == 200
        client.send(get(path, *["a: b"] * 126, key=key))
        assert client.response().status == 200
        client.send(get(path + "?" + "a" * (8192 - len(path) - 1), key=key))
        assert client.response().status == 200
        client.send(padded(32769, key, path))
        assert_refused(client.response(), 431, "head_too_large")
    with Client(gateway.port) as client:
        client.send(get(path, *["a: b"] * 127, key=key))
        assert_refused(client.response(), 431, "head_too_large")
    with Client(gateway.port) as client:
        client.send(get(path + "?" + "a" * (8192 - len(path)), key=key))
        assert_refused(client.response(), 414, "target_too_long")


def test_body_of_declared_length_over_the_limit_is_refused_after_authentication(
    hasty: Product, backend: Backend, path: str
) -> None:
    with Client(hasty.port) as client:
        client.send(get(path, f"Content-Length: {BODY_BYTES + 1}", method="POST"))
        assert_refused(client.response(), 401, "credential_missing")
    with Client(hasty.port) as client:
        client.send(get(path, f"Content-Length: {BODY_BYTES + 1}", method="POST", key=hasty.keys.viewer))
        assert_refused(client.response(), 403, "permission_denied")
    with Client(hasty.port) as client:
        client.send(get(path, f"Content-Length: {BODY_BYTES + 1}", method="POST", key=hasty.keys.editor))
        assert_refused(client.response(), 413, "body_too_large")
        client.expect_closed()
    assert not backend.requests_for(path)
    with Client(hasty.port) as client:
        client.send(get(path, method="POST", key=hasty.keys.editor, body=b"b" * BODY_BYTES))
        assert client.response().status == 200


def test_chunked_body_is_limited_to_the_byte_and_never_ends_at_the_backend(
    hasty: Product, backend: Backend, path: str
) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=hasty.keys.editor)
    half = b"b" * (BODY_BYTES // 2)
    with Client(hasty.port) as client:
        client.send(head + chunked(half, half))
        assert client.response().status == 200
    assert len(backend.the_request_for(path).body) == BODY_BYTES
    with Client(hasty.port) as client:
        client.send_pieces([head, chunked(half, half, b"b")])
        assert_refused(client.response(), 413, "body_too_large")
        client.rest()
    for request in backend.requests_for(path)[1:]:
        assert request.connection.ended.wait(PROMPTLY)
        assert not request.complete


def test_extensions_of_many_chunks_are_limited_each(hasty: Product, path: str) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=hasty.keys.editor)
    extension = b";" + b"e" * 1000
    with Client(hasty.port) as client:
        client.send(head + (b"1" + extension + b"\r\nx\r\n") * 20 + b"0\r\n\r\n")
        assert client.response().status == 200


def test_endless_chunk_extension_is_refused(hasty: Product, backend: Backend, path: str) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=hasty.keys.editor)
    with Client(hasty.port) as client:
        client.send_pieces([head, b"1;", *[b"e" * 1024] * 8])
        assert_refused(client.response(), 400, "bad_request")
    assert all(not request.complete for request in backend.requests_for(path))


@pytest.mark.parametrize(
    "trailers", [b"a: b\r\n" * 200, b"x: " + b"y" * 40000 + b"\r\n"], ids=["many", "long"]
)
def test_trailers_count_in_the_limits(gateway: Product, backend: Backend, path: str, trailers: bytes) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=gateway.keys.editor)
    with Client(gateway.port) as client:
        client.send_pieces([head, chunked(b"abc", trailers=trailers)])
        assert_refused(client.response(), (400, 431), ("bad_request", "head_too_large"))
        client.rest()
    for request in backend.requests_for(path):
        assert request.connection.ended.wait(PROMPTLY)
        assert not request.complete


def test_many_tiny_chunks_are_passed_on_without_stalling_others(
    gateway: Product, backend: Backend, path: str
) -> None:
    body = b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n"

    def swallow(exchange: Exchange) -> None:
        """Take the raw bytes first: decoding them here would hold up this process, not the gateway."""
        exchange.connection.swallow_through(b"0\r\n\r\n")
        ok(exchange)

    backend.on(path, swallow)
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=gateway.keys.editor)
    with concurrent.futures.ThreadPoolExecutor(1) as pool, Client(gateway.port, timeout=30) as client:
        sending = pool.submit(lambda: client.send(head + body).response())
        waits = []
        with Client(gateway.port) as other:
            while not sending.done():
                begun = time.monotonic()
                assert other.send(get(path)).response().status == 401
                waits.append(time.monotonic() - begun)
        assert sending.result().status == 200
    (upload,) = [request for request in backend.requests_for(path) if request.method == b"POST"]
    assert len(upload.body) == 200_000
    waits.sort()
    # A loop that stalls at each read shows here as seconds; a busy machine as tenths.
    assert waits[len(waits) // 2] < 0.5, f"others waited {waits[-1]:.3f} s"


# Deadlines. Each row does something slowly and says how the connection must end.


def slow_head(client: Client, hasty: Product, path: str) -> None:
    client.send(b"GET /never HT")


def trickled_head(client: Client, hasty: Product, path: str) -> None:
    """The deadline is for the whole head: a byte now and then does not prolong it."""
    client.send_pieces([b"GET /never HTTP/1.1\r\n", *[b"X: y\r\n"] * 12], pause=0.2)


def slow_body(client: Client, hasty: Product, path: str) -> None:
    client.send(get(path, "Content-Length: 10", method="POST", key=hasty.keys.editor) + b"abc")


def slow_chunk(client: Client, hasty: Product, path: str) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=hasty.keys.editor)
    client.send(head + b"5\r\nab")


def second_head(client: Client, hasty: Product, path: str) -> None:
    client.send(get(path, key=hasty.keys.viewer))
    assert client.response().status == 200
    client.send(b"GET /ne")


@pytest.mark.parametrize("stall", [slow_head, trickled_head, slow_body, slow_chunk, second_head])
def test_request_that_does_not_arrive_in_time_is_408(
    hasty: Product, backend: Backend, path: str, stall: Callable[[Client, Product, str], None]
) -> None:
    begun = time.monotonic()
    with Client(hasty.port) as client:
        stall(client, hasty, path)
        assert_refused(client.response(), 408, "request_timeout")
        assert 0.5 < time.monotonic() - begun < 4
        client.rest()
    for request in backend.requests_for(path):
        if request.method == b"POST":
            assert request.connection.ended.wait(3), "the backend was left with half a body"
            assert not request.complete


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "after a request"])
def test_idle_connection_is_closed_silently(hasty: Product, path: str, used: bool) -> None:
    with Client(hasty.port) as client:
        if used:
            assert client.send(get(path, key=hasty.keys.viewer)).response().status == 200
        begun = time.monotonic()
        client.expect_closed(within=4)
        assert 0.5 < time.monotonic() - begun < 3.5


def test_empty_lines_alone_do_not_hold_a_connection(hasty: Product) -> None:
    with Client(hasty.port) as client:
        client.send(b"\r\n")
        rest = client.rest(within=4)
    assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ")


def test_slow_but_steady_body_is_served(hasty: Product, backend: Backend, path: str) -> None:
    head = get(path, "Content-Length: 8", method="POST", key=hasty.keys.editor)
    with Client(hasty.port) as client:
        client.send_pieces([head, *[b"x"] * 8], pause=0.25)
        assert client.response().status == 200
    assert bytes(backend.the_request_for(path).body) == b"x" * 8


def test_backend_that_stalls_in_mid_response_is_cut(hasty: Product, backend: Backend, path: str) -> None:
    def stall(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        exchange.wait_for_end()

    backend.on(path, stall)
    with Client(hasty.port) as client:
        client.send(get(path, key=hasty.keys.viewer))
        with pytest.raises(Cut) as cut:
            client.response()
    assert cut.value.body == b"abc"


def test_slow_response_that_keeps_coming_is_served(hasty: Product, backend: Backend, path: str) -> None:
    def drip(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            time.sleep(0.25)
            exchange.send(b"x")

    backend.on(path, drip)
    with Client(hasty.port) as client:
        assert client.send(get(path, key=hasty.keys.viewer)).response().body == b"x" * 8


def test_client_that_does_not_read_is_cut(hasty: Product, backend: Backend, path: str) -> None:
    ended = []

    def pour(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            for _ in range(1000):
                exchange.send(b"x" * 100_000)
        except OSError:
            ended.append("reset")

    backend.on(path, pour)
    with Client(hasty.port, receive_buffer=4096) as client:
        client.send(get(path, key=hasty.keys.viewer))
        eventually(lambda: ended, within=5, why="a client that does not read is served for ever")


def test_client_that_does_not_read_its_refusals_is_cut(hasty: Product) -> None:
    """The answers to pipelined requests are owed to a reader: without one, nothing piles up."""
    raw = get("/x") * 200
    with Client(hasty.port, receive_buffer=4096, timeout=2) as client:
        grown = hasty.resident
        with pytest.raises((TimeoutError, ConnectionError)):
            client.send(raw * 4000)
        assert hasty.resident - grown < 16 * 1024 * 1024


def test_a_thousand_slow_heads_are_gone_by_their_deadline_while_others_are_served(
    hasty: Product, backend: Backend, path: str
) -> None:
    crowd = [Client(hasty.port).send(b"GET /never HTTP/1.1\r\nX: ") for _ in range(1000)]
    begun = time.monotonic()
    try:
        waits = []
        while time.monotonic() - begun < 1.0:
            at = time.monotonic()
            with Client(hasty.port) as good:
                assert good.send(get(path, key=hasty.keys.viewer)).response().status == 200
            waits.append(time.monotonic() - at)
        for client in crowd:
            assert_refused(client.response(), 408, "request_timeout")
            client.rest()
        assert time.monotonic() - begun < 6
        assert sorted(waits)[len(waits) // 2] < 0.1
    finally:
        for client in crowd:
            client.close()
    eventually(lambda: hasty.metric("gateway_downstream_connections") < 50, within=3)


def test_idle_upstream_connection_is_ended_by_its_deadline(
    hasty: Product, backend: Backend, path: str
) -> None:
    with Client(hasty.port) as client:
        assert client.send(get(path, key=hasty.keys.viewer)).response().status == 200
    assert backend.the_request_for(path).connection.ended.wait(4)


def test_keep_alive_timeout_of_the_backend_shortens_the_idle_time(
    gateway: Product, backend: Backend, path: str
) -> None:
    backend.on(path, answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=2\r\n\r\nok"))
    with Client(gateway.port) as client:
        response = client.send(get(path, key=gateway.keys.viewer)).response()
        assert not response.values("keep-alive") or b"timeout=2" not in response.values("keep-alive")
    begun = time.monotonic()
    assert backend.the_request_for(path).connection.ended.wait(4)
    assert time.monotonic() - begun < 2.2, "a second less than the backend's own timeout"
