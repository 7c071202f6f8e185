"""What a backend sends is held to the same strictness, and framed anew for the caller."""

from __future__ import annotations

import gzip
import time

import pytest

from tests.wire.backend import OK, PROMPTLY, Backend, Connection, Exchange, answer, eventually
from tests.wire.client import Client, Cut, Response, assert_date, assert_refused, get
from tests.wire.product import Product

R = b"HTTP/1.1 200 OK\r\n"
BAD_RESPONSES = [
    ("nothing", b""),
    ("noise", b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n"),
    ("text", b"hello world\r\n\r\n"),
    ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
    ("0.9", b"<html>hello</html>"),
    ("HTTP/2.0", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("HTTP/0.9", b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("RTSP/1.0", b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("ICY", b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("lower-case http", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 000", b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 099", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 600", b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status 999", b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status of two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status of four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status not a number", b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n"),
    ("no status", b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    ("two blanks before status", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("NUL in reason", b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n"),
    ("CR in reason", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
    ("LF after status line", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("escape in reason", b"HTTP/1.1 200 O\x1bK\r\nContent-Length: 0\r\n\r\n"),
    ("only LFs", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("NUL in value", R + b"X: a\0b\r\nContent-Length: 0\r\n\r\n"),
    ("CR in value", R + b"X: a\rb\r\nContent-Length: 0\r\n\r\n"),
    ("LF in value", R + b"X: a\nb\r\nContent-Length: 0\r\n\r\n"),
    ("control byte in value", R + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n"),
    ("DEL in value", R + b"X: a\x7fb\r\nContent-Length: 0\r\n\r\n"),
    ("blank before colon", R + b"X : a\r\nContent-Length: 0\r\n\r\n"),
    ("obs-fold", R + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
    ("empty name", R + b": a\r\nContent-Length: 0\r\n\r\n"),
    ("no colon", R + b"X\r\nContent-Length: 0\r\n\r\n"),
    ("bad name", R + b"X(: a\r\nContent-Length: 0\r\n\r\n"),
    ("name not ASCII", R + b"X\xe9: a\r\nContent-Length: 0\r\n\r\n"),
    ("both framings", R + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("two lengths", R + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    ("two equal lengths", R + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
    ("length list", R + b"Content-Length: 2, 2\r\n\r\nok"),
    ("length with sign", R + b"Content-Length: +2\r\n\r\nok"),
    ("length with underscore", R + b"Content-Length: 0_2\r\n\r\nok"),
    ("negative length", R + b"Content-Length: -2\r\n\r\nok"),
    ("empty length", R + b"Content-Length:\r\n\r\nok"),
    ("hex length", R + b"Content-Length: 0x2\r\n\r\nok"),
    ("length of 2^64", R + b"Content-Length: 18446744073709551616\r\n\r\nok"),
    ("unknown coding", R + b"Transfer-Encoding: gzip\r\n\r\nok"),
    ("gzip, chunked", R + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("chunked twice", R + b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (
        "chunked in two lines",
        R + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    ("chunked on 1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("empty coding", R + b"Transfer-Encoding:\r\n\r\nok"),
    ("head over 64 KiB", R + b"X: " + b"a" * 70000 + b"\r\nContent-Length: 0\r\n\r\n"),
    ("many lines over 64 KiB", R + b"X: aaaaaaaaaaaaaaa\r\n" * 4000 + b"Content-Length: 0\r\n\r\n"),
    ("endless head", R + b"X: " + b"a" * 200000),
    ("bad 100", b"HTTP/1.1 100 Con\0tinue\r\n\r\n" + OK),
    ("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ("close after 100", b"HTTP/1.1 100 Continue\r\n\r\n"),
]


@pytest.mark.parametrize("delivery", ["whole", "pieces"])
@pytest.mark.parametrize(("name", "raw"), BAD_RESPONSES, ids=[name for name, _ in BAD_RESPONSES])
def test_malformed_response_is_a_bad_gateway(
    gateway: Product, backend: Backend, path: str, name: str, raw: bytes, delivery: str
) -> None:
    def malformed(exchange: Exchange) -> None:
        exchange.read_body()
        size = len(raw) if delivery == "whole" else 7 if len(raw) < 500 else 20000
        for at in range(0, len(raw), size or 1):
            exchange.send(raw[at : at + size])
            if delivery == "pieces":
                time.sleep(0.0005)
        exchange.half_close()

    backend.on(path, malformed)
    with Client(gateway.port) as client:
        response = client.send(get(path, method="POST", key=gateway.keys.editor, body=b"abc")).response()
        assert_refused(response, 502, "upstream_protocol_error")
        assert response.interim == [] or name == "close after 100"
    (request,) = backend.requests_for(path)
    assert request.connection.ended.wait(PROMPTLY), "a connection that talks nonsense was kept"


BAD_BODIES = [
    ("length cut short", b"Content-Length: 10\r\n\r\nabc", b"abc"),
    ("chunk cut short", b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", b"abc"),
    ("no last chunk", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc"),
    ("last chunk without its end", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"abc"),
    ("bad chunk size", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x1\r\nd\r\n0\r\n\r\n", b"abc"),
    ("bare LF after size", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\nd\r\n0\r\n\r\n", b"abc"),
    ("chunk without line end", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", b"abc"),
    (
        "endless extension",
        b"Transfer-Encoding: chunked\r\n\r\n3;" + b"e" * 9000 + b"\r\nabc\r\n0\r\n\r\n",
        b"",
    ),
    ("huge chunk", b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc", b""),
    ("bad trailer", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nbad\r\n\r\n", b"abc"),
]


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize(("name", "raw", "body"), BAD_BODIES, ids=[name for name, _, _ in BAD_BODIES])
def test_response_that_breaks_off_is_cut_and_never_ended_properly(
    gateway: Product, backend: Backend, path: str, name: str, raw: bytes, body: bytes, ending: str
) -> None:
    def broken(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(R + raw)
        time.sleep(0.02)
        exchange.reset() if ending == "reset" else exchange.end()

    backend.on(path, broken)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer) + get(path + "?next", key=gateway.keys.viewer))
        try:
            response = client.response()
        except ConnectionResetError:
            pass
        except Cut as cut:
            assert (cut.head or Response(0, b"", [])).status == 200  # noqa: PT017
            assert body.startswith(cut.body)  # noqa: PT017
        else:
            assert_refused(response, 502, "upstream_protocol_error")
    with Client(gateway.port) as client:
        assert client.send(get(path + "x", key=gateway.keys.viewer)).response().status == 200


def test_response_that_breaks_off_is_cut_without_a_reset_though_much_was_sent_ahead(
    gateway: Product, backend: Backend, path: str
) -> None:
    def broken(exchange: Exchange) -> None:
        exchange.send(R + b"Content-Length: 10\r\n\r\nabc")
        exchange.end()

    backend.on(path, broken)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer) + get("/never") * 20000)
        with pytest.raises(Cut) as cut:
            client.response()
        assert cut.value.body == b"abc"


def test_close_delimited_response_that_is_reset_is_cut(gateway: Product, backend: Backend, path: str) -> None:
    def reset(exchange: Exchange) -> None:
        exchange.send(R + b"\r\nabc")
        time.sleep(0.1)
        exchange.reset()

    backend.on(path, reset)
    with Client(gateway.port) as client, pytest.raises((Cut, ConnectionResetError)):
        client.send(get(path, key=gateway.keys.viewer)).response()


@pytest.mark.parametrize(
    ("method", "raw", "status", "body", "framing"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", "length"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", "length"),
        ("GET", b"HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", "length"),
        ("GET", b"HTTP/1.1 299 Caf\xe9\r\nContent-Length: 3\r\n\r\nabc", 299, b"abc", "length"),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            200,
            b"abcd",
            "chunked",
        ),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
            200,
            b"",
            "chunked",
        ),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 200, b"", "none"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, b"", "none"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", 200, b"", "none"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n", 404, b"", "none"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", "none"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, b"", "none"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n", 304, b"", "none"),
        ("GET", b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", 205, b"", "length"),
        ("GET", b"HTTP/1.1 599 X\r\nContent-Length: 1\r\n\r\nx", 599, b"x", "length"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_response_is_framed_as_sent_and_both_connections_live_on(
    gateway: Product,
    backend: Backend,
    path: str,
    method: str,
    raw: bytes,
    status: int,
    body: bytes,
    framing: str,
) -> None:
    backend.on(path, answer(raw))
    with Client(gateway.port) as client:
        for _ in range(2):
            client.send(get(path, method=method, key=gateway.keys.viewer))
            response = client.response(method.encode())
            assert (response.status, response.body, response.framing) == (status, body, framing)
            assert_date(response)
            assert response.reason == raw.split(b"\r\n")[0].split(b" ", 2)[2]
            if method == "HEAD" or status == 304:
                lengths = [line[16:] for line in raw.split(b"\r\n") if line.startswith(b"Content-Length: ")]
                assert response.values("content-length") == lengths
        one, two = backend.requests_for(path)
        if one.connection is not two.connection:
            # Only after a response that tells of content and has none does a connection rest a moment.
            assert method == "HEAD" or b"Content-Length: 999" in raw

            def is_used_again() -> bool:
                client.send(get(path, method=method, key=gateway.keys.viewer)).response(method.encode())
                served = [id(request.connection) for request in backend.requests_for(path)]
                return len(set(served)) < len(served)

            eventually(is_used_again, why="the backend's connection was not used again")


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"),
        ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\nabc"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokX"),
        ("GET", OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK),
        ("GET", OK + b"\r\n"),
    ],
    ids=["HEAD", "204", "204 chunked", "304", "one byte", "a response", "after chunks", "an empty line"],
)
def test_bytes_after_a_response_end_the_backends_connection_and_are_never_delivered(
    gateway: Product, backend: Backend, path: str, method: str, raw: bytes
) -> None:
    backend.on(path, answer(raw))
    with Client(gateway.port) as client:
        client.send(get(path, method=method, key=gateway.keys.viewer))
        response = client.response(method.encode())
        assert response.status in (200, 204, 304)
        assert response.body in (b"", b"ok")
        other = client.send(get(path + "-other", key=gateway.keys.viewer)).response()
        assert other.body == b"ok"
        assert client.is_quiet()
    poisoned = backend.requests_for(path)[0]
    assert poisoned.connection.ended.wait(PROMPTLY)
    assert backend.requests_for(path + "-other")[0].connection is not poisoned.connection


def test_205_without_framing_ends_the_backends_connection(
    gateway: Product, backend: Backend, path: str
) -> None:
    """Nothing says where its content ends (RFC 9112 §6.3), and late content would be the next answer."""
    backend.on(path, lambda exchange: exchange.send(b"HTTP/1.1 205 Reset Content\r\n\r\n"))
    with Client(gateway.port) as client:
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 205
        assert backend.the_request_for(path).connection.ended.wait(PROMPTLY)


def test_bytes_that_come_while_idle_end_the_backends_connection(
    gateway: Product, backend: Backend, path: str
) -> None:
    def late(exchange: Exchange) -> None:
        exchange.send(OK)
        time.sleep(0.05)
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    backend.on(path, late)
    with Client(gateway.port) as client:
        assert client.send(get(path, key=gateway.keys.viewer)).response().body == b"ok"
        first = backend.requests_for(path)[0].connection
        assert first.ended.wait(PROMPTLY)
        other = client.send(get(path + "-other", key=gateway.keys.viewer)).response()
        assert other.body == b"ok"


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
    ],
    ids=["1.1", "1.0", "close"],
)
def test_close_delimited_response_is_delivered_whole(
    gateway: Product, backend: Backend, path: str, raw: bytes, version: str
) -> None:
    backend.on(path, answer(raw, end=True))
    with Client(gateway.port) as client:
        response = client.send(get(path, version=version, key=gateway.keys.viewer)).response()
        assert response.body == b"until the end"
        if version == "HTTP/1.1":
            assert response.framing == "chunked", "the caller must be able to tell that it is whole"
            assert client.send(get(path + "x", key=gateway.keys.viewer)).response().status == 200
        else:
            assert response.framing == "close"


@pytest.mark.parametrize("keep", [True, False])
def test_http_1_0_caller_never_gets_chunks_nor_interim_responses(
    gateway: Product, backend: Backend, path: str, keep: bool
) -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    backend.on(path, answer(raw + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
    fields = ["Connection: keep-alive"] if keep else []
    with Client(gateway.port) as client:
        response = client.send(get(path, *fields, version="HTTP/1.0", key=gateway.keys.viewer)).response()
        assert response.interim == []
        assert (response.body, response.framing) == (b"abcde", "close")
        assert b"chunked" not in response.raw_head.lower()
        assert b"keep-alive" not in b",".join(response.values("connection")).lower()


def test_http_1_0_caller_keeps_its_connection_when_it_asks(
    gateway: Product, backend: Backend, path: str
) -> None:
    raw = get(path, "Connection: Keep-Alive", version="HTTP/1.0", key=gateway.keys.viewer)
    with Client(gateway.port) as client:
        for _ in range(2):
            response = client.send(raw).response()
            assert response.framing == "length"
            assert b"keep-alive" in b",".join(response.values("connection")).lower()
        client.send(get(path, version="HTTP/1.0", key=gateway.keys.viewer))
        assert client.response().status == 200
        client.expect_closed()


@pytest.mark.parametrize("raw_version", ["1.0", "1.1 close"])
def test_backend_that_closes_is_not_used_again_and_the_caller_is_kept(
    gateway: Product, backend: Backend, path: str, raw_version: str
) -> None:
    raw = OK.replace(b"HTTP/1.1", b"HTTP/1.0")
    if raw_version == "1.1 close":
        raw = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    backend.on(path, answer(raw))
    with Client(gateway.port) as client:
        for _ in range(2):
            response = client.send(get(path, key=gateway.keys.viewer)).response()
            assert response.body == b"ok"
            assert not response.says_close, "the backend's Connection is not the caller's"
    one, two = backend.requests_for(path)
    assert one.connection is not two.connection
    assert one.connection.ended.wait(PROMPTLY)


def test_http_1_0_backend_may_keep_its_connection(gateway: Product, backend: Backend, path: str) -> None:
    raw = OK.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    backend.on(path, answer(raw))
    with Client(gateway.port) as client:
        for _ in range(2):
            assert client.send(get(path, key=gateway.keys.viewer)).response().body == b"ok"


def test_interim_responses_are_relayed_in_order(gateway: Product, backend: Backend, path: str) -> None:
    hints = [b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\nConnection: close\r\n\r\n" % n for n in range(3)]
    processing = b"HTTP/1.1 102 Processing\r\n\r\n"
    backend.on(path, answer(b"".join(hints) + processing + OK))
    with Client(gateway.port) as client:
        for _ in range(2):
            response = client.send(get(path, key=gateway.keys.viewer)).response()
            assert [r.status for r in response.interim] == [103, 103, 103, 102]
            assert [r.values("link") for r in response.interim[:3]] == [[b"</0>"], [b"</1>"], [b"</2>"]]
            assert response.body == b"ok"
            for interim in response.interim:
                assert not interim.values("content-length") + interim.values("transfer-encoding")
                assert not interim.says_close
            assert not response.says_close


def test_ten_interim_responses_pass_and_a_flood_does_not(
    gateway: Product, backend: Backend, path: str
) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    backend.on(path, answer(hint * 10 + OK))
    backend.on(path + "-flood", answer(hint * 500 + OK))
    with Client(gateway.port) as client:
        assert len(client.send(get(path, key=gateway.keys.viewer)).response().interim) == 10
        response = client.send(get(path + "-flood", key=gateway.keys.viewer)).response()
        assert len(response.interim) <= 10
        if response.status != 200:
            assert_refused(response, 502, "upstream_protocol_error")


def test_interim_response_with_framing_fields_leaves_without_them(
    gateway: Product, backend: Backend, path: str
) -> None:
    backend.on(path, answer(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: x\r\n\r\n" + OK))
    with Client(gateway.port) as client:
        response = client.send(get(path, key=gateway.keys.viewer)).response()
        assert response.status in (200, 502)
        if response.status == 200:
            assert response.body == b"ok"
            assert all(not interim.values("content-length") for interim in response.interim)


def test_date_of_the_backend_is_kept_and_a_missing_one_is_added(
    gateway: Product, backend: Backend, path: str
) -> None:
    date = b"Sun, 06 Nov 1994 08:49:37 GMT"
    backend.on(path, answer(b"HTTP/1.1 200 OK\r\nDate: " + date + b"\r\nContent-Length: 0\r\n\r\n"))
    with Client(gateway.port) as client:
        assert client.send(get(path, key=gateway.keys.viewer)).response().value("date") == date
        assert client.send(get(path + "-none", key=gateway.keys.viewer)).response().value("date")


def test_hop_by_hop_fields_of_the_backend_end_here(gateway: Product, backend: Backend, path: str) -> None:
    fields = (
        b"Connection: keep-alive, X-Private, Content-Length\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Connection: x\r\nTE: trailers\r\n"
        b"Trailer: X\r\nUpgrade: h2c\r\nX-Private: 1\r\nX-Public: 2\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"Server: backend/1.0\r\n"
    )
    backend.on(path, answer(OK.replace(b"Content-Type: text/plain\r\n", fields)))
    with Client(gateway.port) as client:
        response = client.send(get(path, key=gateway.keys.viewer)).response()
    for name in ("keep-alive", "proxy-connection", "te", "trailer", "upgrade", "x-private"):
        assert not response.values(name), name
    assert response.body == b"ok"
    assert response.values("x-public") == [b"2"]
    assert response.values("set-cookie") == [b"a=1", b"b=2"]
    assert response.value("server") == b"backend/1.0"


def test_bodies_pass_as_they_are(gateway: Product, backend: Backend, path: str) -> None:
    packed = gzip.compress(b"text " * 1000)
    head = b'HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\nETag: W/"x"\r\n\r\n' % len(
        packed
    )
    backend.on(path, answer(head + packed))
    with Client(gateway.port) as client:
        response = client.send(get(path, "Accept-Encoding: gzip", key=gateway.keys.viewer)).response()
    assert response.body == packed
    assert response.value("content-encoding") == b"gzip"
    assert response.value("etag") == b'W/"x"'
    assert backend.the_request_for(path).value(b"accept-encoding") == b"gzip"


def test_response_arriving_byte_by_byte_is_the_same(gateway: Product, backend: Backend, path: str) -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw += b"3\r\nabc\r\n0\r\nX: y\r\n\r\n"

    def drip(exchange: Exchange) -> None:
        exchange.read_body()
        for at in range(len(raw)):
            exchange.send(raw[at : at + 1])

    backend.on(path, drip)
    with Client(gateway.port) as client:
        for _ in range(3):
            response = client.send(get(path, key=gateway.keys.viewer)).response()
            assert [r.status for r in response.interim] == [103]
            assert response.body == b"abc"


def test_backend_that_answers_before_it_is_asked_is_not_believed(product: type[Product], path: str) -> None:
    """A response that waits on a fresh connection belongs to no request of ours."""
    eager = Backend()

    def speak_first(connection: Connection) -> None:
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    eager.on_connect = speak_first
    try:
        alone = product(upstream_port=eager.port)
        with Client(alone.port) as client:
            client.send(get(path, key=alone.keys.viewer) + get(path, key=alone.keys.viewer))
            bodies = []
            for _ in range(2):
                try:
                    bodies.append(client.response().status)
                except (Cut, ConnectionError):
                    break
        eventually(lambda: eager.connections)
        assert eager.connections[0].ended.wait(PROMPTLY), "a connection out of step was kept"
    finally:
        eager.close()
