"""Bind the sockets that callers connect to. Imports nothing of the project."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import resource
import socket
import stat
import struct
import sys

BACKLOG = 4096
# Descriptors that are not callers', backends' or listeners': the store, logs, the loop.
_RESERVED = 128
# Callers beyond the limit that may be told so at a time: a quarter of those within, between these bounds.
_TURNED_AWAY = range(16, 257)
_SO_ATTACH_FILTER = 26
# How long a handshake may still take when no further one may begin, in seconds: a long round trip, and
# on loopback the kernel's own turn.
HANDSHAKE_S = 0.5
HANDSHAKE_LOOPBACK_S = 0.05
# A classic BPF program (Linux: filter.h), each instruction with its code, two jumps and an operand.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte that has the flags (RFC 9293 §3.1)
        (0x54, 0, 0, 0x12),  # of these SYN and ACK
        (0x15, 0, 1, 0x02),  # where it is SYN alone,
        (0x06, 0, 0, 0),  # drop the packet;
        (0x06, 0, 0, 0xFFFFFFFF),  # else let it pass
    )
)


def bind_tcp(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` (empty: every interface) and ``port`` (0: any that is free).

    Raises OSError.
    """
    found = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    # Where a name or "every interface" means both families, IPv4 is the one that every host has.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def bind_tcp_shares(host: str, port: int, count: int) -> list[socket.socket]:
    """Return ``count`` sockets that listen on one address, among which the system deals connections out.

    Fewer where it does not: then one, for all. Raises OSError, also where somebody else listens there.
    """
    # The first is bound as if it were to be the only one: with SO_REUSEPORT from the start, a second
    # gateway on the same port would not be refused, but silently given half of the callers.
    shares = [bind_tcp(host, port)]
    if sys.platform != "linux" or count == 1:
        return shares
    address = shares[0].getsockname()
    try:
        shares[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(count - 1):
            share = socket.socket(shares[0].family, socket.SOCK_STREAM)
            shares.append(share)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                share.setsockopt(socket.SOL_SOCKET, option, 1)
            share.bind(address)
            share.listen(BACKLOG)
    except OSError:
        for share in shares:
            share.close()
        raise
    return shares


def bind_unix(path: str) -> socket.socket:
    """Return a socket that listens on ``path``; one that was left behind is replaced. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_left_behind(path)
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_left_behind(path: str) -> None:
    """Remove a socket nobody listens on any more; anything else in its place is left to `bind` to refuse."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def turn_away(listener: socket.socket) -> float:
    """Let no further connection begin; return for how many seconds those that have begun may still arrive.

    Closing a listener resets what came between the last look at its queue and the close, and a caller
    may believe to be connected before the last packet of the handshake is here. On Linux a filter that
    drops the first packet of each connection ends that race: who comes now tries again a second later,
    and finds another replica or nobody. The path of a socket in the file system is its owner's to remove.
    """
    if listener.family == socket.AF_UNIX:
        return 0.0
    if sys.platform == "linux":
        program = ctypes.create_string_buffer(_DROP_SYN)
        filters = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filters)
    return HANDSHAKE_LOOPBACK_S if _is_loopback(listener) else HANDSHAKE_S


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def open_files_max() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 30 if hard == resource.RLIM_INFINITY else hard


def connection_room(listeners: int = 0) -> int:
    """Return how many callers fit in a process that holds so many listening sockets.

    Each may need a connection to a backend too; then there are those who are turned away. Whoever took
    more could keep the store from being reached, and probes from being answered.
    """
    free = open_files_max() - _RESERVED - listeners
    a_quarter_more = min(free * 4 // 9, (free - _TURNED_AWAY[0]) // 2)
    return max((free - _TURNED_AWAY[-1]) // 2, a_quarter_more, 1)


def turned_away_max(connections: int) -> int:
    """Return how many callers beyond a limit may be told so at a time."""
    return min(max(connections // 4, _TURNED_AWAY[0]), _TURNED_AWAY[-1])
