"""Three readers of one head: the gateway, h11 and llhttp must agree on whatever is let through.

The heads are made from valid and dubious pieces. What the gateway refuses must not reach the
backend; what it accepts is judged by the bytes the backend got: both other parsers must read them,
and alike: same method, target, fields, framing and body.
"""

from __future__ import annotations

import h11
import httptools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.backend import Backend, Request
from tests.wire.client import Client, Cut
from tests.wire.product import Product

METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"get", b"G ET", b""]
)
BLANK = st.sampled_from([b" "] * 12 + [b"  ", b"\t", b""])
END = st.sampled_from([b"\r\n"] * 30 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
TARGET = st.one_of(
    st.text("abc/%.~-_;:@!$&'()*+,=?0123", max_size=12).map(lambda text: b"/agree" + text.encode()),
    st.binary(max_size=4).map(lambda tail: b"/agree" + tail),
    st.sampled_from([b"*", b"http://gateway.test/agree", b"http://other.test/agree", b"agree", b"//agree"]),
)
VERSION = st.sampled_from(
    [b"HTTP/1.1"] * 10 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.1 ", b"http/1.1", b"HTTP/2.0"]
)
NAME = st.sampled_from(
    [
        b"X-A",
        b"x-b",
        b"Cookie",
        b"Accept",
        b"X_C",
        b"X-A ",
        b" X-A",
        b"",
        b"X:A",
        b"X\x00A",
        b"Connection",
        b"TE",
    ]
)
VALUE = st.one_of(
    st.text('ab ,;="\t', max_size=8).map(str.encode),
    st.binary(max_size=5),
    st.sampled_from([b"close", b"keep-alive", b"a\r\n b", b"a\nX-D: e", b"content-length", b"host"]),
)
FRAMING = st.sampled_from(
    [b""] * 4
    + [
        b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Content-Length: 03\r\n",
        b"Content-Length: 3\r\nContent-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        b"Transfer-Encoding: x, chunked\r\n", b"content-length:3\r\n", b"Content-Length : 3\r\n",
        b"Transfer-Encoding:\tchunked \r\n",
    ]
)  # fmt: skip
BODY = st.sampled_from(
    [
        b"",
        b"abc",
        b"3\r\nabc\r\n0\r\n\r\n",
        b"3;x\r\nabc\r\n0\r\nA: b\r\n\r\n",
        b"0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    first = draw(METHODS) + draw(BLANK) + draw(TARGET) + draw(BLANK) + draw(VERSION) + draw(END)
    host = draw(st.sampled_from([b"Host: gateway.test"] * 12 + [b"Host:", b"Host: a b", b"X: y"])) + draw(END)
    lines = b"".join(
        name + b":" + draw(st.sampled_from([b" ", b"", b"\t", b"  "])) + value + draw(END)
        for name, value in draw(st.lists(st.tuples(NAME, VALUE), max_size=3))
    )
    return first + host + b"{key}" + lines + draw(FRAMING) + b"\r\n" + draw(BODY)


class Llhttp:
    """What llhttp makes of one request."""

    def __init__(self, raw: bytes) -> None:
        self.target, self.body, self.done = b"", b"", False
        self.fields: list[tuple[bytes, bytes]] = []
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(raw)
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.done = True


def read_by_h11(raw: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert connection.trailing_data[0] == b"", "bytes are left over"
    return request.method, request.target, list(request.headers.raw_items()), body


def judge(request: Request) -> None:
    """Hold one recorded request to both judges and to our own reader."""
    raw = bytes(request.raw_head + request.raw_body)
    method, target, fields, body = read_by_h11(raw)
    other = Llhttp(raw)
    assert other.done, "llhttp waits for more"
    assert (method, target, body) == (other.method, other.target, other.body)
    assert (method, target, body) == (request.method, request.target, bytes(request.body))
    strip = [(name.lower(), value.strip(b" \t")) for name, value in other.fields]
    assert [(name.lower(), value.strip(b" \t")) for name, value in fields][: len(strip)] == strip[
        : len(fields)
    ]


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(head=heads())
def test_whatever_is_accepted_is_read_alike_by_other_parsers(
    gateway: Product, backend: Backend, head: bytes
) -> None:
    raw = head.replace(b"{key}", f"X-API-KEY: {gateway.keys.editor}\r\n".encode())
    count, before = len(backend.requests), backend.received
    with Client(gateway.port) as client:
        client.send(raw).half_close()
        statuses = []
        while True:
            try:
                response = client.response(raw[:5].strip(b"\r\n ")[:4])
            except (Cut, ConnectionError):
                break
            statuses.append(response.status)
            if response.says_close:
                break
    new = backend.requests[count:]
    if statuses and statuses[0] in (400, 405, 414, 431, 501, 505) and not new:
        assert backend.received == before
    for request in new:
        assert request.target.startswith((b"/agree", b"//agree")), request.raw_head
        if request.complete:
            judge(request)
