"""The line that can be told to fail: what it carries, what it loses, what it keeps back."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.faults.proxy import PostgresProxy
from tests.faults.stage import Stage

STARTUP = struct.pack("!iii", 8 + 4, 196608, 0)
READY = b"Z" + struct.pack("!i", 5) + b"I"
NOTIFIED = b"A" + struct.pack("!i", 10) + b"made\0\0"
REFUSES_TLS = struct.pack("!ii", 8, 80877103)


class Line:
    """A client, the proxy, and the server's end of its connection."""

    def __init__(self, proxy: PostgresProxy, listener: socket.socket) -> None:
        self.proxy = proxy
        self.client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        self.client.sendall(STARTUP)
        self.server, _ = listener.accept()
        self.server.settimeout(5)
        assert read(self.server, len(STARTUP)) == STARTUP

    def close(self) -> None:
        self.client.close()
        self.server.close()


def read(sock: socket.socket, count: int) -> bytes:
    """Read so many bytes, fewer at the end of the stream."""
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def is_silent(sock: socket.socket) -> bool:
    """Tell whether nothing comes, not even an end, for a while."""
    sock.settimeout(0.2)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    finally:
        sock.settimeout(5)
    return False


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        yield listening


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[PostgresProxy]:
    stage = Stage()
    made = PostgresProxy(stage, listener.getsockname())
    yield made
    made.close()
    stage.close()


@pytest.fixture
def line(proxy: PostgresProxy, listener: socket.socket) -> Iterator[Line]:
    made = Line(proxy, listener)
    yield made
    made.close()


def test_what_is_said_is_carried(line: Line) -> None:
    line.client.sendall(b"Q....")
    assert read(line.server, 5) == b"Q...."
    line.server.sendall(READY + NOTIFIED)
    assert read(line.client, len(READY + NOTIFIED)) == READY + NOTIFIED


def test_encryption_is_refused_and_the_connection_goes_on(
    proxy: PostgresProxy, listener: socket.socket
) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(REFUSES_TLS)
        assert read(client, 1) == b"N"
        client.sendall(STARTUP)
        server, _ = listener.accept()
        with server:
            server.settimeout(5)
            assert read(server, len(STARTUP)) == STARTUP


def test_notifications_alone_are_lost_however_they_are_cut(line: Line) -> None:
    line.proxy.drop_notifications(True)
    for byte in READY + NOTIFIED + READY:
        line.server.sendall(bytes([byte]))
    assert read(line.client, 2 * len(READY)) == READY + READY
    assert is_silent(line.client)
    assert line.proxy.dropped == 1
    line.proxy.drop_notifications(False)
    line.server.sendall(NOTIFIED)
    assert read(line.client, len(NOTIFIED)) == NOTIFIED


def test_nothing_leaves_a_black_hole_until_it_is_gone(line: Line, listener: socket.socket) -> None:
    line.proxy.hold()
    line.server.sendall(READY)
    line.client.sendall(b"Q")
    assert is_silent(line.client)
    assert is_silent(line.server)
    with socket.create_connection(("127.0.0.1", line.proxy.port), timeout=5) as late:
        late.sendall(STARTUP)
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.settimeout(5)
        line.proxy.release()
        assert read(line.client, len(READY)) == READY
        assert read(line.server, 1) == b"Q"
        server, _ = listener.accept()
        with server:
            server.settimeout(5)
            assert read(server, len(STARTUP)) == STARTUP


def test_not_even_an_end_leaves_a_black_hole(line: Line) -> None:
    line.proxy.hold()
    line.client.close()
    assert is_silent(line.server)
    line.proxy.release()
    assert read(line.server, 1) == b""


def test_connections_that_there_are_can_be_dead_while_new_ones_live(
    line: Line, listener: socket.socket
) -> None:
    line.proxy.hold_present()
    line.server.sendall(READY)
    assert is_silent(line.client)
    with contextlib.closing(Line(line.proxy, listener)) as other:
        other.server.sendall(READY)
        assert read(other.client, len(READY)) == READY
    line.proxy.release()
    assert read(line.client, len(READY)) == READY


def test_answers_come_late_and_in_order(line: Line) -> None:
    line.proxy.delay_answers(0.3)
    line.server.sendall(READY)
    assert is_silent(line.client)
    line.proxy.delay_answers(0)
    line.server.sendall(NOTIFIED)
    assert read(line.client, len(READY + NOTIFIED)) == READY + NOTIFIED


def test_a_cut_is_felt_at_both_ends_and_leads_elsewhere_if_told_so(line: Line) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(5)
        line.proxy.lead_to(other.getsockname())
        for end in (line.client, line.server):
            with contextlib.suppress(ConnectionError):
                assert read(end, 1) == b""
        with contextlib.closing(Line(line.proxy, other)):
            pass


def test_where_nobody_listens_the_client_is_told_at_once(
    proxy: PostgresProxy, listener: socket.socket
) -> None:
    listener.close()
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    with client, contextlib.suppress(ConnectionError):
        client.sendall(STARTUP)
        assert read(client, 1) == b""


def test_a_piece_can_be_lost_and_its_connection_with_it(line: Line, listener: socket.socket) -> None:
    line.proxy.passing = READY.__eq__
    line.client.sendall(b"Q")
    assert read(line.server, 1) == b"Q"
    line.server.sendall(READY)
    for end in (line.client, line.server):
        with contextlib.suppress(ConnectionError):
            assert read(end, 1) == b""
    with contextlib.closing(Line(line.proxy, listener)):
        pass
