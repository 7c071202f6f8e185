"""A caller on a raw socket, with a strict reader of responses.

Whatever RFC 9112 forbids a server to send fails the test that reads it.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ([\t\x20-\x7e\x80-\xff]*)\Z")
FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*\Z")


class Cut(Exception):  # noqa: N818
    """The response ended before it was whole; ``body`` is what came of it."""

    def __init__(self, head: Response | None, body: bytes) -> None:
        super().__init__(f"cut after {len(body)} bytes of body: {head}")
        self.head = head
        self.body = body


@dataclass
class Response:
    """One response. ``framing`` is ``none``, ``length``, ``chunked`` or ``close``."""

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    framing: str = "none"
    interim: list[Response] = field(default_factory=list)
    raw_head: bytes = b""

    def values(self, name: str) -> list[bytes]:
        wanted = name.lower().encode()
        return [value for other, value in self.fields if other.lower() == wanted]

    def value(self, name: str) -> bytes | None:
        values = self.values(name)
        assert len(values) < 2, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def says_close(self) -> bool:
        options = b",".join(self.values("connection")).lower().replace(b" ", b"").split(b",")
        return b"close" in options

    @property
    def problem(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def code(self) -> str | None:
        """The ``code`` of a refusal's body; None when it is not a refusal."""
        return self.problem["code"] if self.value("content-type") == b"application/problem+json" else None


def parse_head(raw: bytes) -> Response:
    """Read a status line and field lines strictly."""
    lines = raw[:-4].split(b"\r\n")
    match = STATUS_LINE.match(lines[0])
    assert match, f"not a status line: {lines[0]!r}"
    fields = []
    for line in lines[1:]:
        parts = FIELD_LINE.match(line)
        assert parts, f"not a field line: {line!r}"
        fields.append((parts[1], parts[2]))
    return Response(int(match[1]), match[2], fields, raw_head=raw)


class Client:
    """One connection to the gateway."""

    def __init__(self, port: int, timeout: float = 8.0, *, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self._buffer = bytearray()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Client:
        self.sock.sendall(data)
        return self

    def send_pieces(self, pieces: Iterable[bytes], pause: float = 0.0) -> Client:
        """Send each piece by itself; a gateway that closes in between ends the sending."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.sock.sendall(piece)
                if pause:
                    time.sleep(pause)
        return self

    def half_close(self) -> Client:
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def head(self) -> Response:
        """Read one head, interim or final, without its body."""
        while (at := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._fill():
                raise Cut(None, bytes(self._buffer))
        raw = bytes(self._buffer[: at + 4])
        del self._buffer[: at + 4]
        return parse_head(raw)

    def response(self, method: bytes = b"GET") -> Response:
        """Read one whole response, with the interim ones before it."""
        interim = []
        while (response := self.head()).status < 200:
            interim.append(response)
        response.interim = interim
        self.body_of(response, method)
        return response

    def body_of(self, response: Response, method: bytes = b"GET") -> None:
        """Read the body that belongs to ``response`` (RFC 9112 §6.3)."""
        coding, length = response.values("transfer-encoding"), response.value("content-length")
        assert not (coding and length is not None), response.raw_head
        if response.status == 204:
            assert not coding, "RFC 9112 §6.1: no Transfer-Encoding in 204"
            assert length is None, "RFC 9110 §8.6: no Content-Length in 204"
        try:
            if method == b"HEAD" or response.status in (204, 304):
                return
            if coding:
                assert coding == [b"chunked"], coding
                response.framing = "chunked"
                self._read_chunks(response)
            elif length is not None:
                assert length.isdigit(), length
                response.framing = "length"
                response.body = self._exactly(int(length))
            else:
                response.framing = "close"
                response.body = self.rest()
        except Cut as cut:
            raise Cut(response, response.body + cut.body) from None

    def rest(self, within: float | None = None) -> bytes:
        """Return all that comes until the gateway ends the connection in order (a reset fails)."""
        self.sock.settimeout(within or self.timeout)
        while self._fill():
            pass
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def expect_closed(self, within: float = 5.0) -> None:
        """Fail unless the connection ends, without another byte."""
        self.sock.settimeout(within)
        rest = self.rest(within)
        assert rest == b"", f"more bytes before the end: {rest[:200]!r}"

    def drain_in_vain(self) -> None:
        """Read and forget until the connection ends, however it ends."""
        with contextlib.suppress(OSError):
            while self.sock.recv(1 << 20):
                pass

    def reset(self) -> None:
        """Go away with a reset (RST): unlike FIN it says that no answer is wanted."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def abandon(self) -> None:
        """End both directions at once, waking whoever reads or writes in another thread."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    @property
    def buffered(self) -> int:
        """How many bytes were read beyond what has been asked for."""
        return len(self._buffer)

    def is_quiet(self, seconds: float = 0.05) -> bool:
        """Tell whether nothing comes, neither bytes nor the end, for a while."""
        return not self._buffer and not select.select([self.sock], [], [], seconds)[0]

    def _read_chunks(self, response: Response) -> None:
        while True:
            line = self._line()
            assert re.fullmatch(rb"[0-9a-fA-F]{1,8}", line), f"chunk size {line!r}"
            size = int(line, 16)
            if not size:
                break
            response.body += self._exactly(size)
            assert self._line() == b""
        while line := self._line():
            assert FIELD_LINE.match(line), f"not a trailer: {line!r}"

    def _line(self) -> bytes:
        while (at := self._buffer.find(b"\r\n")) < 0:
            if not self._fill():
                raise Cut(None, b"")
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 2]
        return line

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not self._fill():
                got = bytes(self._buffer)
                self._buffer.clear()
                raise Cut(None, got)
        body = bytes(self._buffer[:count])
        del self._buffer[:count]
        return body

    def _fill(self) -> bool:
        data = self.sock.recv(262144)
        self._buffer += data
        return bool(data)


def get(
    path: str | bytes = "/",
    *fields: str | bytes,
    method: str = "GET",
    key: str | None = None,
    body: bytes | None = None,
    host: str | None = "gateway.test",
    version: str = "HTTP/1.1",
) -> bytes:
    """Write a request; ``fields`` are whole field lines without their line end."""
    target = path if isinstance(path, bytes) else path.encode("latin-1")
    lines = [method.encode() + b" " + target + b" " + version.encode()]
    if host is not None:
        lines.append(b"Host: " + host.encode("latin-1"))
    if key is not None:
        lines.append(b"X-API-KEY: " + key.encode("latin-1"))
    lines += [line if isinstance(line, bytes) else line.encode("latin-1") for line in fields]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Write a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailers + b"\r\n"


def assert_date(response: Response) -> None:
    """Every answer carries Date exactly once, in the form of RFC 9110 §5.6.7."""
    date = response.value("date")
    assert date is not None, f"no Date in {response.raw_head!r}"
    assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date), date
    parsedate_to_datetime(date.decode())


def assert_refused(
    response: Response, status: int | tuple[int, ...], code: str | tuple[str, ...], *, method: bytes = b"GET"
) -> None:
    """Hold a refusal to the design: status, code, problem+json, Date, request id, no-store."""
    statuses = (status,) if isinstance(status, int) else status
    codes = (code,) if isinstance(code, str) else code
    assert response.status in statuses, (response.status, response.body)
    assert_date(response)
    assert response.value("cache-control") == b"no-store"
    request_id = response.value("x-request-id")
    assert request_id
    assert response.value("content-type") == b"application/problem+json"
    assert not [v for v in response.values("server") if re.search(rb"\d", v)], "a version in Server"
    if method == b"HEAD":
        assert response.body == b""
        return
    problem = response.problem
    assert set(problem) >= {"type", "title", "status", "detail", "code", "request_id"}, problem
    assert problem["status"] == response.status
    assert problem["code"] in codes, problem
    assert problem["request_id"].encode() == request_id
    assert problem["title"]
    assert problem["detail"]
