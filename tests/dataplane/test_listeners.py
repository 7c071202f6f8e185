"""The end of a listener: nobody who has begun to connect is lost, and nobody else begins."""

from __future__ import annotations

import ctypes
import resource
import select
import socket
import struct
import sys

import pytest

from gateway.dataplane.listeners import bind_tcp, connection_room, turn_away, turned_away_max

ATTACH_FILTER, DETACH_FILTER = 26, 27
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no filter for packets of a socket")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_handshake_that_has_begun_is_finished_and_no_other_begins(host: str) -> None:
    listener = listening(host)
    address = listener.getsockname()[:2]
    with listener, socket.socket(listener.family) as early, socket.socket(listener.family) as late:
        deaf(early)  # the listener's half of the handshake is lost, and sent again a second later
        early.setblocking(False)
        assert early.connect_ex(address) != 0
        turn_away(listener)
        early.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
        late.setblocking(False)
        late.connect_ex(address)
        listener.settimeout(10)
        accepted, peer = listener.accept()
        with accepted:
            assert peer[:2] == early.getsockname()[:2]
            early.setblocking(True)
            early.sendall(b"question")
            assert accepted.recv(100) == b"question"
        # Whoever came late is neither in the queue nor connected.
        assert select.select([listener], [late], [], 0) == ([], [], [])


def listening(host: str) -> socket.socket:
    try:
        return bind_tcp(host, 0)
    except OSError as error:
        pytest.skip(f"nothing can listen on {host} here: {error}")


def deaf(sock: socket.socket) -> None:
    """Have a socket receive nothing until its filter is taken away."""
    program = ctypes.create_string_buffer(DROP_ALL)
    sock.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


@pytest.mark.parametrize("hard", [300, 1024, 2432, 4096, 65536])
def test_callers_with_their_backends_and_who_is_turned_away_leave_descriptors_for_the_store(
    monkeypatch: pytest.MonkeyPatch, hard: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    for listeners in (0, 64):
        room = connection_room(listeners)
        taken = 2 * room + turned_away_max(room) + listeners
        assert hard - 138 <= taken <= hard - 128
