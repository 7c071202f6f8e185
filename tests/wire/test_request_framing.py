"""Malformed requests: each gets its status and a closed connection, and nothing reaches the backend.

Every row is sent three times: without a key (it must not become 401: the message is judged before
the credential), with an editor's key (it must not be forwarded), and byte by byte.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.wire.backend import PROMPTLY, Backend
from tests.wire.client import Client, Response, assert_refused, chunked, get
from tests.wire.product import Product


class Bad(NamedTuple):
    """``raw`` holds ``{key}`` where a whole credential line may stand."""

    name: str
    raw: bytes
    status: int | tuple[int, ...] = 400
    code: str | tuple[str, ...] = "bad_request"


H = b"Host: gateway.test\r\n{key}"
NOT_CHUNKED = ((400, 501), ("bad_request", "not_implemented"))


def line(text: bytes) -> bytes:
    """A request whose first line is ``text``."""
    return text + b"\r\n" + H + b"\r\n"


def header(text: bytes) -> bytes:
    """A request with one more field line."""
    return b"GET /never HTTP/1.1\r\n" + H + text + b"\r\n\r\n"


def framing(*lines: bytes, body: bytes = b"abc") -> bytes:
    return b"POST /never HTTP/1.1\r\n" + H + b"".join(text + b"\r\n" for text in lines) + b"\r\n" + body


def host(*values: bytes) -> bytes:
    lines = b"".join(b"Host: " + value + b"\r\n" for value in values)
    return b"GET /never HTTP/1.1\r\n" + lines + b"{key}\r\n"


FIRST_LINES = [
    Bad("version 0.9 without version", line(b"GET /never")),
    Bad("HTTP/0.9", line(b"GET /never HTTP/0.9"), 505, "version_not_supported"),
    Bad("HTTP/1.2", line(b"GET /never HTTP/1.2"), 505, "version_not_supported"),
    Bad("HTTP/2.0", line(b"GET /never HTTP/2.0"), 505, "version_not_supported"),
    Bad("HTTP/3.0", line(b"GET /never HTTP/3.0"), 505, "version_not_supported"),
    Bad("RTSP/1.0", line(b"GET /never RTSP/1.0")),
    Bad("ICE/1.0", line(b"GET /never ICE/1.0")),
    Bad("lower-case http", line(b"GET /never http/1.1")),
    Bad("HTTP/1", line(b"GET /never HTTP/1")),
    Bad("HTTP/1.", line(b"GET /never HTTP/1.")),
    Bad("HTTP/1.10", line(b"GET /never HTTP/1.10")),
    Bad("HTTP/11", line(b"GET /never HTTP/11")),
    Bad("HTTP/A.B", line(b"GET /never HTTP/A.B")),
    Bad("space after version", line(b"GET /never HTTP/1.1 ")),
    Bad("tab after version", line(b"GET /never HTTP/1.1\t")),
    Bad("word after version", line(b"GET /never HTTP/1.1 x")),
    Bad("two spaces after method", line(b"GET  /never HTTP/1.1")),
    Bad("two spaces before version", line(b"GET /never  HTTP/1.1")),
    Bad("tab after method", line(b"GET\t/never HTTP/1.1")),
    Bad("tab before version", line(b"GET /never\tHTTP/1.1")),
    Bad("space before method", line(b" GET /never HTTP/1.1")),
    Bad("space in target", line(b"GET /ne ver HTTP/1.1")),
    Bad("no target", line(b"GET HTTP/1.1")),
    Bad("empty target", line(b"GET  HTTP/1.1")),
    Bad("only a method", line(b"GET")),
    Bad("method with @", line(b"G@T /never HTTP/1.1")),
    Bad("method with NUL", line(b"GE\0T /never HTTP/1.1")),
    Bad("method with colon", line(b"GET: /never HTTP/1.1")),
    Bad("binary noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n"),
    Bad("asterisk with GET", line(b"GET * HTTP/1.1")),
    Bad("asterisk with HEAD", line(b"HEAD * HTTP/1.1")),
    Bad("asterisk with POST", line(b"POST * HTTP/1.1")),
    Bad("two asterisks", line(b"OPTIONS ** HTTP/1.1")),
    Bad("no leading slash", line(b"GET never HTTP/1.1")),
    Bad("only a query", line(b"GET ?never HTTP/1.1")),
    Bad("fragment", line(b"GET /never#x HTTP/1.1")),
    Bad("fragment in query", line(b"GET /never?a=1#x HTTP/1.1")),
    Bad("less-than in path", line(b"GET /never< HTTP/1.1")),
    Bad("greater-than in path", line(b"GET /never> HTTP/1.1")),
    Bad("quote in path", line(b'GET /never" HTTP/1.1')),
    Bad("less-than in query", line(b"GET /never?a=< HTTP/1.1")),
    Bad("quote in query", line(b'GET /never?a=" HTTP/1.1')),
    Bad("backslash in path", line(b"GET /ne\\ver HTTP/1.1")),
    Bad("NUL in target", line(b"GET /ne\0ver HTTP/1.1")),
    Bad("control byte in target", line(b"GET /ne\x01ver HTTP/1.1")),
    Bad("DEL in target", line(b"GET /ne\x7fver HTTP/1.1")),
    Bad("control byte in query", line(b"GET /never?\x0b HTTP/1.1")),
    Bad("UTF-8 in path", line("GET /nevér HTTP/1.1".encode())),
    Bad("byte 0xff in query", line(b"GET /never?\xff HTTP/1.1")),
    Bad("bare CR in target", line(b"GET /ne\rver HTTP/1.1")),
    Bad("bare LF after first line", b"GET /never HTTP/1.1\n" + H + b"\r\n"),
    Bad("all lines end in bare LF", b"GET /never HTTP/1.1\nHost: gateway.test\n{key}\n"),
    Bad("bare CR after first line", b"GET /never HTTP/1.1\r" + H + b"\r\n"),
    Bad("two CRs after first line", b"GET /never HTTP/1.1\r\r\n" + H + b"\r\n"),
    Bad("three empty lines before", b"\r\n\r\n\r\n" + header(b"X: y")),
    Bad("bare LF before", b"\n" + header(b"X: y")),
    Bad("unknown method", line(b"FROB /never HTTP/1.1"), 501, "not_implemented"),
    Bad("lower-case method", line(b"get /never HTTP/1.1"), 501, "not_implemented"),
    Bad("mixed-case method", line(b"Get /never HTTP/1.1"), 501, "not_implemented"),
    Bad("known method with a tail", line(b"GETX /never HTTP/1.1"), 501, "not_implemented"),
    Bad("known method cut short", line(b"GE /never HTTP/1.1"), 501, "not_implemented"),
    Bad("method of one token character", line(b"! /never HTTP/1.1"), 501, "not_implemented"),
    Bad("RTSP method", line(b"DESCRIBE rtsp://x HTTP/1.1"), (400, 501), ("bad_request", "not_implemented")),
    Bad("RTSP method on a path", line(b"SETUP /never HTTP/1.1"), 501, "not_implemented"),
    Bad("long unknown method", line(b"A" * 60 + b" /never HTTP/1.1"), 501, "not_implemented"),
    Bad(
        "endless unknown method",
        line(b"A" * 300 + b" /never HTTP/1.1"),
        (400, 501),
        ("bad_request", "not_implemented"),
    ),
    Bad(
        "HTTP/2 preface",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        (400, 505),
        ("bad_request", "version_not_supported"),
    ),
    Bad("CONNECT", line(b"CONNECT gateway.test:443 HTTP/1.1"), 405, "method_not_allowed"),
    Bad(
        "CONNECT on a path",
        line(b"CONNECT /never HTTP/1.1"),
        (400, 405),
        ("bad_request", "method_not_allowed"),
    ),
    Bad("TRACE", line(b"TRACE /never HTTP/1.1"), 405, "method_not_allowed"),
]

TARGETS = [
    Bad("absolute-form with another host", line(b"GET http://other.test/never HTTP/1.1")),
    Bad("absolute-form with userinfo", line(b"GET http://u:p@gateway.test/never HTTP/1.1")),
    Bad("absolute-form with empty userinfo", line(b"GET http://@gateway.test/never HTTP/1.1")),
    Bad("absolute-form https", line(b"GET https://gateway.test/never HTTP/1.1")),
    Bad("absolute-form ftp", line(b"GET ftp://gateway.test/never HTTP/1.1")),
    Bad("absolute-form without host", line(b"GET http:///never HTTP/1.1")),
    Bad("absolute-form with one slash", line(b"GET http:/never HTTP/1.1")),
    Bad("absolute-form with another port", line(b"GET http://gateway.test:81/never HTTP/1.1")),
    Bad("absolute-form with a bad port", line(b"GET http://gateway.test:8x/never HTTP/1.1")),
    Bad("authority-form with GET", line(b"GET gateway.test:80 HTTP/1.1")),
    *(
        Bad(f"path {path.decode()}", line(b"GET " + path + b" HTTP/1.1"))
        for path in (
            b"/a/../never", b"/..", b"/../never", b"/a/./never", b"/.", b"/a/%2e%2e/never", b"/%2E%2e/never",
            b"/a/.%2e/never", b"/a/%2e./never", b"/%2e/never", b"/a/%2e", b"/a/%2f/never", b"/a%2Fnever",
            b"/a%5cnever", b"/a%5Cnever", b"/never%00", b"/never%0a", b"/never%0D", b"/never%1f",
            b"/never%7f",
            b"/never%", b"/never%2", b"/never%zz", b"/never%2x", b"/never%%41", b"/%c0%ae%c0%ae/never",
            b"/%c0%afnever", b"/%e0%80%afnever",
        )
    ),
]  # fmt: skip

HOSTS = [
    Bad("no Host", b"GET /never HTTP/1.1\r\n{key}\r\n"),
    Bad("asterisk without Host", b"OPTIONS * HTTP/1.1\r\n{key}\r\n"),
    Bad("asterisk with empty Host", b"OPTIONS * HTTP/1.1\r\nHost:\r\n{key}\r\n"),
    Bad("absolute-form without Host", b"GET http://gateway.test/never HTTP/1.1\r\n{key}\r\n"),
    Bad("two equal Hosts", host(b"gateway.test", b"gateway.test")),
    Bad("two Hosts", host(b"gateway.test", b"other.test")),
    Bad("two Hosts, case", b"GET /never HTTP/1.1\r\nHost: a.test\r\nhOST: a.test\r\n{key}\r\n"),
    Bad("two Hosts on 1.0", b"GET /never HTTP/1.0\r\nHost: a.test\r\nHost: a.test\r\n{key}\r\n"),
    Bad("empty Host", host(b"")),
    Bad("Host of blanks", host(b"  ")),
    Bad("Host list", host(b"a.test, b.test")),
    Bad("Host list without blank", host(b"a.test,b.test")),
    Bad("Host with userinfo", host(b"u@gateway.test")),
    Bad("Host with path", host(b"gateway.test/never")),
    Bad("Host with query", host(b"gateway.test?x")),
    Bad("Host with fragment", host(b"gateway.test#x")),
    Bad("Host with backslash", host(b"gateway.test\\x")),
    Bad("Host with blank", host(b"gateway test")),
    Bad("Host with tab", host(b"gateway\ttest")),
    Bad("Host with scheme", host(b"http://gateway.test")),
    Bad("Host with a word for port", host(b"gateway.test:http")),
    Bad("Host with two ports", host(b"gateway.test:1:2")),
    Bad("Host of only a port", host(b":80")),
    Bad("Host with open bracket", host(b"[::1")),
    Bad("Host with tail after bracket", host(b"[::1]x")),
    Bad("Host not ASCII", host("gätewäy.test".encode())),
    Bad("Host with quote", host(b'"gateway.test"')),
    Bad("Host with less-than", host(b"<gateway.test>")),
]

FIELDS = [
    Bad("space before colon", header(b"X-A : b")),
    Bad("tab before colon", header(b"X-A\t: b")),
    Bad("space before colon of Host", b"GET /never HTTP/1.1\r\nHost : gateway.test\r\n{key}\r\n"),
    Bad("space before colon of Content-Length", framing(b"Content-Length : 3")),
    Bad(
        "space before colon of Transfer-Encoding",
        framing(b"Transfer-Encoding : chunked", body=chunked(b"abc")),
    ),
    Bad("obs-fold with space", header(b"X-A: b\r\n c")),
    Bad("obs-fold with tab", header(b"X-A: b\r\n\tc")),
    Bad("obs-fold on the first line", b"GET /never HTTP/1.1\r\n X: y\r\n" + H + b"\r\n"),
    Bad("obs-fold of blanks", header(b"X-A: b\r\n ")),
    Bad("obs-fold in Host", b"GET /never HTTP/1.1\r\nHost:\r\n gateway.test\r\n{key}\r\n"),
    Bad("bare LF ends a line", header(b"X-A: b\nX-C: d")),
    Bad("bare LF in value", header(b"X-A: b\nc")),
    Bad("bare CR in value", header(b"X-A: b\rc")),
    Bad("bare CR ends a line", header(b"X-A: b\rX-C: d")),
    Bad("two CRs end a line", header(b"X-A: b\r")),
    Bad("NUL in value", header(b"X-A: b\0c")),
    Bad("NUL in name", header(b"X-\0A: b")),
    Bad("empty name", header(b": b")),
    Bad("no colon", header(b"X-A b")),
    Bad("only a name", header(b"X-A")),
    Bad("blank before name", header(b" X-A: b")),
    Bad("control byte in value", header(b"X-A: b\x01c")),
    Bad("vertical tab in value", header(b"X-A: b\x0bc")),
    Bad("form feed in value", header(b"X-A: b\x0cc")),
    Bad("escape in value", header(b"X-A: b\x1bc")),
    Bad("DEL in value", header(b"X-A: b\x7fc")),
    *(
        Bad(f"{chr(byte)!r} in name", header(b"X" + bytes([byte]) + b"A: b"))
        for byte in b'"(),/;<=>?@[]\\{} \x7f\xe9\x01'
    ),
    Bad("blank line ended by bare LF", b"GET /never HTTP/1.1\r\n" + H + b"\n"),
    Bad("blank line ended by CR CR LF", b"GET /never HTTP/1.1\r\n" + H + b"\r\r\n"),
    Bad("CR without LF at the end", b"GET /never HTTP/1.1\r\n" + H + b"\rX\r\n\r\n"),
]

LENGTHS = [
    *(
        Bad(f"Content-Length {value!r}", framing(b"Content-Length: " + value))
        for value in (
            b"003", b"00", b"+3", b"-3", b"-0", b"3 3", b"3, 3", b"3,3", b"3,", b",3", b"3;", b"3.0", b"3e0",
            b"0x3", b"1_0", b"\xef\xbc\x91\xef\xbc\x92", b"", b" ", b"three", b"3\x00",
            b"3\x0b", b"\x0b3", b"3 x",
            b"'3'",
        )
    ),
    Bad("two equal Content-Lengths", framing(b"Content-Length: 3", b"Content-Length: 3")),
    Bad("two Content-Lengths", framing(b"Content-Length: 3", b"Content-Length: 4")),
    Bad("two Content-Lengths apart", framing(b"Content-Length: 3", b"X: y", b"content-length: 3")),
    Bad("Content-Length and chunked", framing(b"Content-Length: 3", b"Transfer-Encoding: chunked")),
    Bad("chunked and Content-Length", framing(b"Transfer-Encoding: chunked", b"Content-Length: 3")),
    Bad("Content-Length 0 and chunked", framing(b"Content-Length: 0", b"Transfer-Encoding: chunked")),
    Bad("length and unknown coding", framing(b"Content-Length: 3", b"Transfer-Encoding: x"), *NOT_CHUNKED),
    Bad("Content_Length", framing(b"Content_Length: 3")),
    Bad("content_length", framing(b"Content-Length: 3", b"content_length: 3")),
    Bad("Transfer_Encoding", framing(b"Transfer_Encoding: chunked")),
    Bad("transfer_encoding", framing(b"Content-Length: 3", b"transfer_encoding: chunked")),
]  # fmt: skip

OVERFLOWING = [b"18446744073709551615", b"18446744073709551616", b"18446744073709551619", b"9" * 1000]

CODINGS = [
    *(
        Bad(
            f"Transfer-Encoding {value!r}",
            framing(b"Transfer-Encoding: " + value, body=chunked(b"abc")),
            *NOT_CHUNKED,
        )
        for value in (
            b"gzip", b"identity", b"xchunked", b"chunkedx", b"gzip, chunked", b"gzip,chunked",
            b"identity, chunked",
            b"x", b"chunked, gzip", b"chunked, identity", b"chunked;q=1", b"chunked; a=b", b"chun ked",
        )
    ),
    *(
        Bad(f"Transfer-Encoding {value!r}", framing(b"Transfer-Encoding: " + value, body=chunked(b"abc")))
        for value in (
            b",chunked", b"chunked,", b", chunked", b"chunked, chunked", b"chunked,chunked", b"", b",",
            b'"chunked"',
            b"\x0bchunked", b"chunked\x0b", b"\x00chunked", b"chunked\x00",
        )
    ),
    Bad(
        "two chunked lines",
        framing(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=chunked(b"abc")),
    ),
    Bad(
        "coding in two lines",
        framing(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=chunked(b"abc")),
        *NOT_CHUNKED,
    ),
    Bad(
        "coding in two lines, chunked first",
        framing(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=chunked(b"abc")),
        *NOT_CHUNKED,
    ),
    Bad(
        "chunked on HTTP/1.0",
        b"POST /never HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    ),
    Bad(
        "chunked on HTTP/1.0 with keep-alive",
        b"POST /never HTTP/1.0\r\n" + H + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    Bad(
        "obs-fold before chunked",
        framing(b"Transfer-Encoding:\r\n chunked", body=chunked(b"abc")),
    ),
]  # fmt: skip

WEBSOCKET = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
UPGRADES = [
    Bad(
        "websocket with a body", b"GET /never HTTP/1.1\r\n" + H + WEBSOCKET + b"Content-Length: 3\r\n\r\nabc"
    ),
    Bad(
        "websocket with a chunked body",
        b"GET /never HTTP/1.1\r\n" + H + WEBSOCKET + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"),
    ),
    Bad(
        "websocket by POST with a body",
        b"POST /never HTTP/1.1\r\n" + H + WEBSOCKET + b"Content-Length: 3\r\n\r\nabc",
    ),
]

BAD = FIRST_LINES + TARGETS + HOSTS + FIELDS + LENGTHS + CODINGS + UPGRADES


@pytest.fixture(params=BAD, ids=lambda bad: bad.name)
def bad(request: pytest.FixtureRequest) -> Bad:
    return request.param  # type: ignore[no-any-return]


def method_of(raw: bytes) -> bytes:
    return b"HEAD" if raw.startswith(b"HEAD ") else b"GET"


def refused(gateway: Product, backend: Backend, raw: bytes, bad: Bad, piecewise: bool = False) -> Response:
    """Send ``raw``; expect the refusal, the close, and a backend that saw nothing of it."""
    before = backend.received
    with Client(gateway.port) as client:
        if piecewise:
            client.send_pieces(raw[i : i + 1] for i in range(len(raw)))
        else:
            client.send(raw)
        response = client.response(method_of(raw))
        assert_refused(response, bad.status, bad.code, method=method_of(raw))
        assert response.says_close
        client.expect_closed()
    assert backend.received == before, "something reached the backend"
    return response


def test_malformed_request_is_refused_before_authentication(
    gateway: Product, backend: Backend, bad: Bad
) -> None:
    refused(gateway, backend, bad.raw.replace(b"{key}", b""), bad)


def test_malformed_request_is_refused_with_a_good_key(gateway: Product, backend: Backend, bad: Bad) -> None:
    credential = f"X-API-KEY: {gateway.keys.editor}\r\n".encode()
    response = refused(gateway, backend, bad.raw.replace(b"{key}", credential), bad)
    assert gateway.keys.editor.encode() not in response.raw_head + response.body
    assert b"never" not in response.raw_head + response.body, "the refusal echoes the request"


def test_malformed_request_is_refused_byte_by_byte(gateway: Product, backend: Backend, bad: Bad) -> None:
    credential = f"X-API-KEY: {gateway.keys.editor}\r\n".encode()
    refused(gateway, backend, bad.raw.replace(b"{key}", credential), bad, piecewise=True)


@pytest.mark.parametrize("length", OVERFLOWING, ids=["2^64-1", "2^64", "2^64+3", "1000 digits"])
def test_length_that_no_integer_holds_is_no_small_one(
    gateway: Product, backend: Backend, length: bytes
) -> None:
    """It is over any limit on bodies, and that is told after authentication; or it is malformed."""
    raw = framing(b"Content-Length: " + length)
    bad = Bad("", raw, (400, 413), ("bad_request", "body_too_large"))
    refused(gateway, backend, raw.replace(b"{key}", f"X-API-KEY: {gateway.keys.editor}\r\n".encode()), bad)
    before = backend.received
    with Client(gateway.port) as client:
        response = client.send(raw.replace(b"{key}", b"")).response()
        assert_refused(response, (400, 401), ("bad_request", "credential_missing"))
    assert backend.received == before


@pytest.mark.parametrize(
    "first",
    [b"CONNECT gateway.test:443", b"TRACE /never", b"FROB /never"],
    ids=lambda first: first.split()[0].decode(),
)
def test_method_that_is_refused_by_name_lists_what_is_allowed_and_ignores_later_bytes(
    gateway: Product, backend: Backend, first: bytes
) -> None:
    raw = (line(first + b" HTTP/1.1") + get("/never", key=gateway.keys.editor)).replace(b"{key}", b"")
    with Client(gateway.port) as client:
        response = client.send(raw).response()
        client.expect_closed()
    if response.status == 405:
        allow = response.value("allow")
        assert allow
        methods = allow.replace(b" ", b"").split(b",")
        assert b"GET" in methods
        assert b"TRACE" not in methods
        assert b"CONNECT" not in methods
    assert not backend.requests_for("/never")


BAD_CHUNKS = [
    ("bare LF after size", b"3\nabc\r\n0\r\n\r\n"),
    ("bare CR after size", b"3\rabc\r\n0\r\n\r\n"),
    ("0x before size", b"0x3\r\nabc\r\n0\r\n\r\n"),
    ("plus before size", b"+3\r\nabc\r\n0\r\n\r\n"),
    ("minus before size", b"-3\r\nabc\r\n0\r\n\r\n"),
    ("blank after size", b"3 \r\nabc\r\n0\r\n\r\n"),
    ("tab after size", b"3\t\r\nabc\r\n0\r\n\r\n"),
    ("blank before size", b" 3\r\nabc\r\n0\r\n\r\n"),
    ("underscore in size", b"0_3\r\nabc\r\n0\r\n\r\n"),
    ("empty size", b"\r\nabc\r\n0\r\n\r\n"),
    ("size not a number", b"g\r\nabc\r\n0\r\n\r\n"),
    ("size of UTF-8 digits", "\uff13\r\nabc\r\n0\r\n\r\n".encode()),
    ("extension without size", b";a=b\r\nabc\r\n0\r\n\r\n"),
    ("bare LF in extension", b"3;a=b\nabc\r\n0\r\n\r\n"),
    ("bare CR in extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("NUL in extension", b"3;a\0b\r\nabc\r\n0\r\n\r\n"),
    ("data longer than size", b"3\r\nabcd\r\n0\r\n\r\n"),
    ("data without line end", b"3\r\nabc0\r\n\r\n"),
    ("bare LF after data", b"3\r\nabc\n0\r\n\r\n"),
    ("bare CR after data", b"3\r\nabc\r0\r\n\r\n"),
    ("CR and another byte after data", b"3\r\nabc\rX0\r\n\r\n"),
    ("size of sixteen F", b"FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"),
    ("size of 2^64+3", b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size of nine digits", b"000000003\r\nabc\r\n0\r\n\r\n"),
    ("size with 200 zeros", b"0" * 200 + b"3\r\nabc\r\n0\r\n\r\n"),
    ("last chunk of nine zeros", b"3\r\nabc\r\n000000000\r\n\r\n"),
    ("bare LF after last chunk", b"3\r\nabc\r\n0\n\r\n"),
    ("bare LF at the end", b"3\r\nabc\r\n0\r\n\n"),
    ("bare CR at the end", b"3\r\nabc\r\n0\r\n\rX"),
    ("extension of 5 KiB", b"3;" + b"a" * 5120 + b"\r\nabc\r\n0\r\n\r\n"),
    ("trailer without colon", b"3\r\nabc\r\n0\r\nbad\r\n\r\n"),
    ("trailer with blank before colon", b"3\r\nabc\r\n0\r\nX : y\r\n\r\n"),
    ("trailer folded", b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n"),
    ("trailer with bare LF", b"3\r\nabc\r\n0\r\nX: y\n\r\n"),
    ("trailer with bare CR", b"3\r\nabc\r\n0\r\nX: y\rz\r\n\r\n"),
    ("trailer with NUL", b"3\r\nabc\r\n0\r\nX: y\0\r\n\r\n"),
    ("trailer with empty name", b"3\r\nabc\r\n0\r\n: y\r\n\r\n"),
]


@pytest.mark.parametrize("pieces", ["whole", "bytewise"])
@pytest.mark.parametrize(("name", "body"), BAD_CHUNKS, ids=[name for name, _ in BAD_CHUNKS])
def test_malformed_chunked_body_never_ends_at_the_backend(
    gateway: Product, backend: Backend, path: str, name: str, body: bytes, pieces: str
) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST", key=gateway.keys.editor)
    with Client(gateway.port) as client:
        if pieces == "whole":
            client.send(head + body)
        else:
            client.send(head).send_pieces(body[i : i + 1] for i in range(len(body)))
        response = client.response()
        assert_refused(response, 400, "bad_request")
        assert response.says_close
        client.expect_closed()
    for request in backend.requests_for(path):
        assert request.connection.ended.wait(PROMPTLY), "the backend's connection was left open"
        assert not request.complete, f"the backend saw a finished body: {bytes(request.raw_body)!r}"


@pytest.mark.parametrize(("name", "body"), BAD_CHUNKS, ids=[name for name, _ in BAD_CHUNKS])
def test_malformed_chunked_body_after_a_refusal_is_never_read_as_a_request(
    gateway: Product, backend: Backend, path: str, name: str, body: bytes
) -> None:
    head = get(path, "Transfer-Encoding: chunked", method="POST")
    before = backend.received
    with Client(gateway.port) as client:
        client.send(head + body + get("/never", key=gateway.keys.editor))
        response = client.response()
        assert response.status in (400, 401)
        assert response.code in ("bad_request", "credential_missing")
        rest = client.rest()
    if response.status == 401 and rest:
        assert rest.startswith(b"HTTP/1.1 400 "), rest
        assert rest.count(b"HTTP/1.1 ") == 1
    assert backend.received == before


def test_a_finished_chunked_body_passes_with_the_same_decoded_bytes(
    gateway: Product, backend: Backend, path: str
) -> None:
    body = b'3\r\nabc\r\n00000003;ext=1;q="x"\r\ndef\r\nA\r\n0123456789\r\n0\r\n\r\n'
    with Client(gateway.port) as client:
        request = get(path, "Transfer-Encoding: chunked", method="POST", key=gateway.keys.editor)
        assert client.send(request + body).response().status == 200
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
    first = backend.requests_for(path)[0]
    assert bytes(first.body) == b"abcdef0123456789"
    assert b"ext" not in first.raw_body, "a chunk extension was forwarded"


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_up_to_two_empty_lines_before_a_request_are_skipped(gateway: Product, path: str, lines: int) -> None:
    with Client(gateway.port) as client:
        for _ in range(2):
            raw = b"\r\n" * lines + get(path, key=gateway.keys.viewer)
            assert client.send(raw).response().status == 200


@pytest.mark.parametrize("key", ["none", "viewer"])
def test_options_asterisk_is_answered_here(gateway: Product, backend: Backend, key: str) -> None:
    before = backend.received
    with Client(gateway.port) as client:
        key_of = {"none": None, "viewer": gateway.keys.viewer}[key]
        response = client.send(get("*", method="OPTIONS", key=key_of)).response()
        assert response.status in ((200, 204) if key_of else (200, 204, 401))
        assert client.send(get("/", key=gateway.keys.viewer)).response().status == 200
    assert backend.requests[-1].target == b"/" or backend.received > before
    assert not backend.requests_for("*")


@pytest.mark.parametrize(
    ("raw", "target", "sees_host"),
    [
        (b"GET http://gateway.test/abs?q=1 HTTP/1.1\r\nHost: gateway.test\r\n", b"/abs?q=1", b"gateway.test"),
        (b"GET http://gateway.test HTTP/1.1\r\nHost: gateway.test\r\n", b"/", b"gateway.test"),
        (b"GET http://gateway.test?q HTTP/1.1\r\nHost: gateway.test\r\n", b"/?q", b"gateway.test"),
        (b"GET HTTP://gateway.test:8/ HTTP/1.1\r\nHost: gateway.test:8\r\n", b"/", b"gateway.test:8"),
        (b"GET /a?{}|^`[]' HTTP/1.1\r\nHost: [::1]:80\r\n", b"/a?{}|^`[]'", b"[::1]:80"),
        (
            b"GET /~a/b.c/%41%c3%a9;p=1?%zz&%00 HTTP/1.1\r\nHost: a\r\n",
            b"/~a/b.c/%41%c3%a9;p=1?%zz&%00",
            b"a",
        ),
        (b"GET /...?x HTTP/1.1\r\nHost: 127.0.0.1:80\r\n", b"/...?x", b"127.0.0.1:80"),
        (b"GET /.a/..b/c. HTTP/1.1\r\nHost: EXAMPLE.test\r\n", b"/.a/..b/c.", None),
    ],
    ids=[
        "absolute",
        "absolute-bare",
        "absolute-query",
        "absolute-port",
        "query-raw",
        "path",
        "dots",
        "dotfiles",
    ],
)
def test_valid_target_reaches_the_backend_with_the_same_bytes(
    gateway: Product, backend: Backend, raw: bytes, target: bytes, sees_host: bytes | None
) -> None:
    with Client(gateway.port) as client:
        whole = raw + f"X-API-KEY: {gateway.keys.viewer}\r\n\r\n".encode()
        response = client.send(whole).response()
    assert response.status == 200, response.body
    (request,) = [r for r in backend.requests if r.target == target][-1:]
    assert request.request_line == b"GET " + target + b" HTTP/1.1"
    assert sees_host is None or request.value(b"host") == sees_host


def test_http_1_0_without_host_reaches_the_backend_with_exactly_one(
    gateway: Product, backend: Backend, path: str
) -> None:
    with Client(gateway.port) as client:
        client.send(get(path, version="HTTP/1.0", host=None, key=gateway.keys.viewer))
        assert client.response().status == 200
        client.expect_closed()
    assert backend.the_request_for(path).value(b"host")


@pytest.mark.parametrize("token", ["h2c", "TLS/1.0", "foo, bar", "websocket"])
def test_upgrade_is_stripped_and_the_request_goes_on_as_plain_http(
    gateway: Product, backend: Backend, path: str, token: str
) -> None:
    method, body = ("GET", b"") if token == "websocket" else ("POST", b"abc")
    fields = [f"Upgrade: {token}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"]
    with Client(gateway.port) as client:
        first = get(path, *fields, method=method, key=gateway.keys.editor, body=body or None)
        client.send(first + get(path + "?second", key=gateway.keys.viewer))
        assert client.response().status == 200
        assert client.response().status == 200
    one, two = backend.requests_for(path)
    assert bytes(one.body) == body
    assert not one.values(b"upgrade")
    assert not one.values(b"http2-settings")
    assert two.target == path.encode() + b"?second"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_backend_that_switches_protocols_unasked_is_a_bad_gateway(
    gateway: Product, backend: Backend, path: str, version: str
) -> None:
    def switch(exchange):  # type: ignore[no-untyped-def]
        exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        exchange.wait_for_end()

    backend.on(path, switch)
    fields = ["Upgrade: websocket", "Connection: Upgrade"]
    with Client(gateway.port) as client:
        response = client.send(get(path, *fields, version=version, key=gateway.keys.editor)).response()
        assert_refused(response, 502, "upstream_protocol_error")


def test_bad_second_request_is_refused_after_the_first_is_answered(
    gateway: Product, backend: Backend, path: str
) -> None:
    good = get(path, key=gateway.keys.viewer)
    with Client(gateway.port) as client:
        client.send(good + b"GET /never HTTP/1.1\r\nHost : x\r\n\r\n" + good)
        assert client.response().status == 200
        assert_refused(client.response(), 400, "bad_request")
        client.expect_closed()
    assert len(backend.requests_for(path)) == 1


def test_trailers_never_count_as_header_fields(gateway: Product, backend: Backend, path: str) -> None:
    trailers = f"X-API-KEY: {gateway.keys.editor}\r\nHost: evil.test\r\nContent-Length: 9\r\n".encode()
    trailers += b"X-Gateway-Subject: evil\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n"
    body = chunked(b"abc", trailers=trailers)
    with Client(gateway.port) as client:
        client.send(get(path, "Transfer-Encoding: chunked", method="POST") + body)
        assert client.response().status == 401
    before = len(backend.requests_for(path))
    assert before == 0
    with Client(gateway.port) as client:
        head = get(path, "Transfer-Encoding: chunked", method="POST", key=gateway.keys.editor)
        client.send(head + body)
        assert client.response().status == 200
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
    request = backend.requests_for(path)[0]
    assert bytes(request.body) == b"abc"
    assert request.value(b"host") == b"gateway.test"
    everything = bytes(request.connection.received)
    assert gateway.keys.editor.encode() not in everything
    assert b"evil" not in everything
