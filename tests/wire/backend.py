"""A backend that remembers every byte it was sent and answers as a test tells it to.

Raw sockets and a thread a connection: nothing between the test and the wire. A test hands a
function to ``on`` for a path of its own; it gets an ``Exchange`` and does with the connection what
it likes. Without one the backend reads the whole request and answers 200.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

REMEMBERED = 4 * 1024 * 1024
READ = 65536
# Seconds; well below the time that an idle connection is kept, so that idling does not pass for closing.
PROMPTLY = 2.0


def eventually(condition: Callable[[], object], *, within: float = 20.0, why: str = "") -> None:
    """Return once ``condition`` holds; fail with ``why`` when it does not within the deadline."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, why or "the condition did not come true in time"
        time.sleep(0.005)


class Gone(Exception):  # noqa: N818
    """The other side ended the connection in the middle of a message."""


@dataclass
class Request:
    """One request as it stood on the wire: ``raw_head`` and ``raw_body`` are the very bytes."""

    raw_head: bytes
    connection: Connection
    raw_body: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False

    @property
    def request_line(self) -> bytes:
        return self.raw_head.split(b"\r\n", 1)[0]

    @property
    def method(self) -> bytes:
        return self.request_line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.request_line.split(b" ")[1]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        lines = self.raw_head[:-4].split(b"\r\n")[1:]
        return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field, by its name in any case."""
        return [value for other, value in self.fields if other.lower() == name.lower()]

    def value(self, name: bytes) -> bytes | None:
        """Return the one value of a field, None without it; a repeated one fails the test."""
        values = self.values(name)
        assert len(values) < 2, f"{name!r} is repeated: {values}"
        return values[0] if values else None


class Connection:
    """One accepted connection: all that came (the first 4 MiB of it), and how it ended."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = bytearray()
        self.count = 0
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self.was_reset = False
        self._buffer = bytearray()

    def fill(self) -> bool:
        """Read once more; False at the end of the stream."""
        try:
            data = self.sock.recv(READ)
        except (ConnectionError, OSError):
            self.was_reset = True
            data = b""
        if not data:
            self.ended.set()
            return False
        self.count += len(data)
        self.received += data[: max(0, REMEMBERED - len(self.received))]
        self._buffer += data
        return True

    def take_through(self, mark: bytes) -> bytes | None:
        """Return the bytes through ``mark``; None when the stream ends first."""
        while (at := self._buffer.find(mark)) < 0:
            if not self.fill():
                return None
        end = at + len(mark)
        taken = bytes(self._buffer[:end])
        del self._buffer[:end]
        return taken

    def swallow_through(self, mark: bytes) -> None:
        """Fill the buffer until it ends with ``mark``; what it holds is left to be taken."""
        while not self._buffer.endswith(mark):
            if not self.fill():
                raise Gone("the stream ended before its mark")

    def take(self, count: int) -> bytes | None:
        """Return between 1 and ``count`` bytes; None at the end of the stream."""
        if not self._buffer and not self.fill():
            return None
        taken = bytes(self._buffer[:count])
        del self._buffer[: len(taken)]
        return taken

    def end(self) -> None:
        """Close in order (FIN)."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset (RST)."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Exchange:
    """What a handler may do with one request and its connection."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.connection = request.connection

    def send(self, data: bytes) -> None:
        self.connection.sock.sendall(data)

    def end(self) -> None:
        self.connection.end()

    def reset(self) -> None:
        self.connection.reset()

    def half_close(self) -> None:
        self.connection.sock.shutdown(socket.SHUT_WR)

    def read_body(self) -> bytes:
        """Read the rest of the body and return it decoded; raises Gone when it is cut short."""
        for _ in self.body_pieces():
            pass
        return bytes(self.request.body)

    def body_pieces(self) -> Iterator[bytes]:
        """Yield the decoded body as it comes; framed strictly by the head that was read."""
        request = self.request
        if request.complete:
            return
        coding, length = request.values(b"transfer-encoding"), request.value(b"content-length")
        assert not (coding and length), f"both framings reached the backend: {request.raw_head!r}"
        if coding:
            assert coding == [b"chunked"], coding
            yield from self._chunks()
        elif length is not None:
            assert length.isdigit(), length
            yield from self._counted(int(length))
        request.complete = True

    def wait_for_end(self, within: float = 10.0) -> bool:
        """Wait until the gateway ends the connection, reading what still comes."""
        self.connection.sock.settimeout(within)
        while self.connection.fill():
            pass
        return True

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            data = self.connection.take(left)
            if data is None:
                raise Gone(f"{left} bytes of the body are missing")
            left -= len(data)
            self._remember(data, data)
            yield data

    def _chunks(self) -> Iterator[bytes]:
        while True:
            line = self._line()
            assert re.fullmatch(rb"[0-9a-fA-F]{1,16}\r\n", line), line
            left = int(line[:-2], 16)
            if not left:
                break
            yield from self._chunk_data(left)
            assert self._line() == b"\r\n"
        while self._line() != b"\r\n":
            pass

    def _chunk_data(self, left: int) -> Iterator[bytes]:
        while left:
            data = self.connection.take(left)
            if data is None:
                raise Gone("a chunk was cut short")
            left -= len(data)
            self._remember(data, data)
            yield data

    def _line(self) -> bytes:
        line = self.connection.take_through(b"\r\n")
        if line is None:
            raise Gone("the chunked body was cut short")
        self._remember(line, b"")
        return line

    def _remember(self, raw: bytes, decoded: bytes) -> None:
        if len(self.request.raw_body) < REMEMBERED:
            self.request.raw_body += raw
            self.request.body += decoded


Handler = Callable[[Exchange], object]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


def answer(data: bytes, *, end: bool = False) -> Handler:
    """Return a handler that reads the request and answers with exactly ``data``."""

    def handler(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(data)
        if end:
            exchange.end()

    return handler


def ok(exchange: Exchange) -> None:
    """Read the request and answer 200, without content where the method wants none."""
    exchange.read_body()
    exchange.send(OK[:-2] if exchange.request.method == b"HEAD" else OK)


class Backend:
    """The listening side: accepts, records, and asks the handlers."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0), backlog: int = 512) -> None:
        self._listener = socket.create_server(address, backlog=backlog)
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[Connection] = []
        self.on_connect: Callable[[Connection], object] | None = None
        self.failures: list[str] = []
        self.requests: list[Request] = []
        self._handlers: dict[bytes, Handler] = {}
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def on(self, path: str, handler: Handler) -> None:
        """Let ``handler`` answer the requests whose path is ``path``."""
        self._handlers[path.encode("latin-1")] = handler

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.end()
        self._acceptor.join(5)
        for thread in self._threads:
            thread.join(5)

    def requests_for(self, path: str) -> list[Request]:
        """Return what came for ``path``, with any query."""
        wanted = path.encode("latin-1")
        return [request for request in list(self.requests) if request.target.partition(b"?")[0] == wanted]

    def the_request_for(self, path: str) -> Request:
        """Return the only request for ``path``."""
        (request,) = self.requests_for(path)
        return request

    @property
    def received(self) -> int:
        """The number of bytes that have ever come, once no more are on their way from a test before."""
        count = -1
        while count != (now := sum(connection.count for connection in list(self.connections))):
            count = now
            time.sleep(0.02)
        return count

    def end_connections(self) -> None:
        """End every connection, so that the gateway begins anew."""
        for connection in list(self.connections):
            connection.end()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self.on_connect is not None:
                self.on_connect(connection)
            while self._serve_one(connection):
                pass
        except (Gone, OSError):
            pass
        except AssertionError as error:
            self.failures.append(str(error))
        finally:
            connection.ended.set()
            connection.end()

    def _serve_one(self, connection: Connection) -> bool:
        raw_head = connection.take_through(b"\r\n\r\n")
        if raw_head is None:
            return False
        request = Request(raw_head, connection)
        if not request.values(b"transfer-encoding") and request.value(b"content-length") in (None, b"0"):
            request.complete = True
        connection.requests.append(request)
        self.requests.append(request)
        exchange = Exchange(request)
        handler = self._handlers.get(request.target.partition(b"?")[0], ok)
        handler(exchange)
        if connection.sock.fileno() < 0:
            return False
        exchange.read_body()
        return True
