"""Properties of the grammar: any split reads alike, and whatever is accepted other parsers read alike."""

from __future__ import annotations

import itertools

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.chunked import ChunkedReader, encode_chunk
from gateway.core.http1 import RequestHead, head_fault, parse_request_head
from gateway.core.limits import Limits
from gateway.core.refusals import Reason
from gateway.core.response import Framing, ResponseHead, parse_response_head, response_framing

LIMITS = Limits(head_bytes=600, header_lines=12, target_bytes=60)

END = st.sampled_from([b"\r\n"] * 40 + [b"\n", b"\r", b"\r\r\n", b"\n\r\n"])
SOME_BYTES = st.binary(max_size=4)
FIRST = st.one_of(
    st.tuples(
        st.sampled_from(
            [b"GET"] * 6 + [b"POST", b"get", b"FROB", b"CONNECT", b"TRACE", b"OPTIONS", b"G(T", b""]
        ),
        st.sampled_from([b" "] * 9 + [b"  ", b"\t"]),
        st.one_of(
            st.sampled_from([b"/", b"/a/b?c=d", b"*", b"http://h/x", b"/..", b"/%2e", b"/" + b"a" * 60]),
            st.text('/a%.;#<"\\?2eE5cCfF~{}|^@:', max_size=14).map(lambda text: b"/" + text.encode()),
            SOME_BYTES,
        ),
        st.sampled_from([b" "] * 9 + [b"  "]),
        st.sampled_from(
            [b"HTTP/1.1"] * 9 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"RTSP/1.0", b"HTTP/1.1 ", b""]
        ),
    ).map(b"".join),
    st.binary(max_size=20),
)
FIELD = st.one_of(
    st.sampled_from([
        b"Host: h", b"Host: h", b"Host: i", b"Host:", b"Content-Length: 3", b"Content-Length: 03",
        b"Content-Length: 3, 3",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Connection: x-a, host, content-length", b"X-A: b", b"X-A : b", b" X-A: b", b"X-A b", b": b",
        b"X-A:",
        b"Upgrade: websocket", b"Expect: 100-continue", b"Content_Length: 3", b"X-Gateway-Role: admin",
        b"TE: trailers",
    ]),
    st.tuples(st.text("abAB-_!#09", min_size=1, max_size=5).map(str.encode), SOME_BYTES).map(b": ".join),
)  # fmt: skip


@st.composite
def heads(draw: st.DrawFn, host: bool = True) -> bytes:
    """A head with its blank line; sometimes valid, often not quite."""
    lines = draw(st.lists(FIELD, max_size=5))
    if host and draw(st.integers(0, 5)):
        lines.insert(0, b"Host: h")
    text = draw(FIRST) + draw(END)
    for line in lines:
        text += line + draw(END)
    return text + b"\r\n"


def judged(stream: bytes, edges: list[int]) -> RequestHead | Reason | None:
    """Read a head from ``stream`` as it arrives up to each edge, as a connection does."""
    for edge in [*edges, len(stream)]:
        data = stream[:edge]
        end = data.find(b"\r\n\r\n")
        if 0 <= end <= LIMITS.head_bytes - 4:
            return parse_request_head(data[:end], LIMITS)
        if len(data) >= LIMITS.head_bytes:
            return head_fault(data[: LIMITS.head_bytes], LIMITS) or Reason.HEAD_TOO_LARGE
        fault = head_fault(data, LIMITS)
        if fault is not None:
            return fault
    return None


@settings(max_examples=1500, deadline=None)
@given(head=heads(), cuts=st.lists(st.integers(0, 400), max_size=8), tail=st.binary(max_size=6))
@example(head=b"GET / HTTP/1.1\nHost: h\r\n\r\n", cuts=[5, 15], tail=b"")
@example(head=b"GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", cuts=list(range(30)), tail=b"")
@example(head=b"GET /" + b"a" * 60 + b" HTTP/1.1\r\n\r\n", cuts=[62, 63, 64, 65, 66], tail=b"")
@example(head=b"GET /" + b"a" * 61 + b"\x01 HTTP/1.1\r\n\r\n", cuts=[66, 67, 68], tail=b"")
def test_any_split_of_a_head_is_judged_alike(head: bytes, cuts: list[int], tail: bytes) -> None:
    stream = head + tail
    whole = judged(stream, [])
    assert judged(stream, sorted(cut % len(stream) for cut in cuts)) == whole
    assert judged(stream, list(range(1, len(stream)))) == whole


@pytest.mark.parametrize("size", [590, 599, 600, 601, 602, 603, 604, 700])
def test_size_of_a_head_is_judged_alike_for_any_split(size: int) -> None:
    bare = b"GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"
    stream = bare.replace(b"X: ", b"X: " + b"a" * (size - len(bare)))
    assert len(stream) == size
    whole = judged(stream, [])
    assert isinstance(whole, RequestHead) == (size <= LIMITS.head_bytes)
    assert judged(stream, list(range(1, size))) == whole


SECTIONS = st.lists(FIELD, max_size=4).map(lambda lines: b"".join(line + b"\r\n" for line in lines))
FIRST_LINES = st.sampled_from([
    b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://h/x HTTP/1.1", b"GET http://h/x HTTP/1.0",
    b"OPTIONS * HTTP/1.1",
    b"POST /b HTTP/1.1", b"GET http://i/y HTTP/1.0", b"GET http://h HTTP/1.1", b"GET /%2f HTTP/1.0",
])  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(one=FIRST_LINES, two=FIRST_LINES, section=SECTIONS, host=st.booleans())
@example(one=b"GET http://h/x HTTP/1.0", two=b"GET /x HTTP/1.0", section=b"X-A: b\r\n", host=False)
@example(one=b"GET http://h/x HTTP/1.0", two=b"GET http://i/y HTTP/1.0", section=b"X-A: b\r\n", host=False)
def test_what_a_request_means_does_not_depend_on_the_one_before(
    one: bytes, two: bytes, section: bytes, host: bool
) -> None:
    """A repeated field section may be remembered, but never with what another request line made of it."""
    lines = ((b"Host: h\r\n" if host else b"") + section).removesuffix(b"\r\n")
    first = parse_request_head(one + b"\r\n" + lines, LIMITS)
    if not isinstance(first, RequestHead):
        return
    second = two + b"\r\n" + lines
    assert parse_request_head(second, LIMITS, first.fields) == parse_request_head(second, LIMITS)


class Llhttp:
    """What llhttp makes of a request's head."""

    def __init__(self, raw: bytes) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.whole = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(raw)
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.whole = True


@settings(max_examples=1500, deadline=None)
@given(head=heads())
@example(head=b"OPTIONS * HTTP/1.1\r\n\r\n")
@example(head=b"GET http://h/ HTTP/1.1\r\n\r\n")
@example(head=b"GET http://h/x HTTP/1.0\r\n\r\n")
def test_head_that_is_accepted_is_read_alike_by_h11_and_llhttp(head: bytes) -> None:
    mine = judged(head, [])
    if not isinstance(mine, RequestHead):
        return
    end = head.index(b"\r\n\r\n")
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=4096)
    connection.receive_data(head[: end + 4])
    theirs = connection.next_event()
    assert isinstance(theirs, h11.Request)
    assert theirs.method == mine.method
    asked = theirs.target
    assert asked == mine.target or asked.lower().startswith(b"http://")
    kept = [
        (name.lower(), value.strip(b" \t"))
        for name, _, value in (line.partition(b":") for line in mine.fields.lines)
    ]
    if asked != mine.target:
        # RFC 9112 §3.2.2: the authority of an absolute form stands in for Host.
        name, value = kept.pop(0)
        assert (name, value) == (b"host", asked[len(b"http://") :].partition(b"/")[0].partition(b"?")[0])
    for name, value in kept:
        # h11 folds the case of a Transfer-Encoding and judges lengths itself; the rest is byte for byte.
        assert (name, value) in theirs.headers or name in (b"transfer-encoding", b"connection")
    lengths = [int(value) for name, value in theirs.headers if name == b"content-length"]
    assert lengths == ([mine.fields.content_length] if mine.fields.content_length >= 0 else [])
    assert any(name == b"transfer-encoding" for name, _ in theirs.headers) == mine.fields.chunked
    if not mine.fields.upgrade:
        llhttp = Llhttp(head[: end + 4])
        assert llhttp.whole
        assert (llhttp.method, llhttp.target) == (mine.method, asked)
        assert llhttp.fields == [
            (name, value.strip(b" \t")) for name, value in theirs.headers.raw_items()
        ] or all(field in llhttp.fields for field in kept)


def decode(data: bytes, edges: list[int]) -> tuple[bytes, bool, bool, bytes]:
    reader = ChunkedReader()
    content = b""
    marks = [0, *edges, len(data)]
    rest = b""
    for start, stop in itertools.pairwise(marks):
        if reader.done:
            rest += data[start:stop]
        elif not reader.broken and start < stop:
            content += reader.feed(data[start:stop])
            if reader.done:
                rest = reader.rest
    return content, reader.done, reader.broken, rest


PIECES = st.sampled_from([
    b"3\r\nabc\r\n", b"1\r\nx\r\n", b"a;e=1\r\n0123456789\r\n", b"00000002\r\nok\r\n", b"0\r\n\r\n",
    b"0\r\nT: t\r\n\r\n", b"3\nabc\r\n",
    b"3\r\nabcd\r\n", b"g\r\n", b"000000003\r\nabc\r\n", b"3 \r\nabc\r\n", b"3;\x00\r\nabc\r\n",
    b"0\n\r\n", b"0\r\nbad\r\n\r\n", b"+3\r\nabc\r\n",
    b"\r\n", b"0\r\nX : y\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"-1\r\n", b"0x3\r\nabc\r\n",
])  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(
    pieces=st.lists(PIECES | st.binary(max_size=4), max_size=6),
    cuts=st.lists(st.integers(0, 200), max_size=10),
)
def test_any_split_of_a_chunked_body_reads_alike(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    whole = decode(data, [])
    split = decode(data, sorted(cut % (len(data) + 1) for cut in cuts))
    bytewise = decode(data, list(range(1, len(data))))
    assert split[1:3] == bytewise[1:3] == whole[1:3]
    if not whole[2]:
        assert split == bytewise == whole


@settings(max_examples=800, deadline=None)
@given(pieces=st.lists(PIECES | st.binary(max_size=4), max_size=6))
def test_chunked_body_that_is_accepted_is_read_alike_by_h11(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    content, done, broken, rest = decode(data, [])
    if not done:
        return
    assert not broken
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert isinstance(connection.next_event(), h11.Request)
    theirs = b""
    while isinstance(event := connection.next_event(), h11.Data):
        theirs += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert theirs == content
    assert connection.trailing_data[0] == rest


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_decoding_undoes_encoding(pieces: list[bytes]) -> None:
    wire = b"".join(encode_chunk(piece) for piece in pieces) + b"0\r\n\r\n"
    assert decode(wire, []) == (b"".join(pieces), True, False, b"")


STATUS = st.sampled_from([
    b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 999 X", b"HTTP/2.0 200 OK", b"HTTP/1.1 200 O\0K", b"HTTP/1.1 20 OK", b"HTTP/1.1  200 OK",
    b"HTTP/1.1 103 Hints",
])  # fmt: skip
RESPONSE_FIELD = st.sampled_from([
    b"Content-Length: 3", b"Content-Length: 4", b"Content-Length: 03", b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"X-A: b", b"X-A : b", b"X-A: \x01", b" X: y", b"Set-Cookie: a=b",
    b"Transfer-Encoding: gzip, chunked",
    b"Date: x",
])  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(
    status=STATUS,
    lines=st.lists(RESPONSE_FIELD, max_size=4),
    method=st.sampled_from([b"GET", b"HEAD", b"POST"]),
)
def test_response_that_is_accepted_is_framed_as_h11_frames_it(
    status: bytes, lines: list[bytes], method: bytes
) -> None:
    head = b"\r\n".join([status, *lines])
    mine = parse_response_head(head)
    if mine is None:
        return
    assert isinstance(mine, ResponseHead)
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(head + b"\r\n\r\n")
    theirs = connection.next_event()
    assert isinstance(theirs, h11.Response | h11.InformationalResponse)
    assert theirs.status_code == mine.status
    if isinstance(theirs, h11.InformationalResponse):
        return
    framing = response_framing(mine, method)
    connection.receive_data(b"3\r\nabc\r\n0\r\n\r\n" if framing == Framing.CHUNKED else b"abcd")
    event = connection.next_event()
    if framing == Framing.NONE or (framing == Framing.LENGTH and mine.content_length == 0):
        assert isinstance(event, h11.EndOfMessage)
    else:
        assert isinstance(event, h11.Data)
        limit = mine.content_length if framing == Framing.LENGTH else 3 if framing == Framing.CHUNKED else 4
        assert len(bytes(event.data)) == limit
