"""A caller's connection below its requests: who it is, when it is read, and how it ends.

Imports its neighbours.
"""

from __future__ import annotations

import asyncio
import enum
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING, Any

from gateway.dataplane.connection import Connection

if TYPE_CHECKING:
    from gateway.dataplane.server import Server

# How long a connection that we end is still read, so that no reset overtakes the answer, in seconds.
LINGER_S = 2.0
_RESET = struct.pack("ii", 1, 0)


class Phase(enum.IntEnum):
    """Where a connection stands."""

    IDLE = 0  # between requests
    HEAD = 1  # a head has begun
    PROVING = 2  # a request is held until its caller's token has been checked
    BUSY = 3  # an exchange is under way
    LINGER = 4  # the last answer was written; what comes is ignored
    CLOSED = 5


class Caller(Connection):
    """One connection of a caller.

    Attributes:
        peer: the caller's address, without the port.
        forwarded: the lines that tell a backend where the caller is.
        phase: where the connection stands.
        deadline: when, on the boot clock in seconds, something is due.
        write_paused: the caller does not read as fast as the backend answers.
        reading_held: the backend does not read as fast as the caller sends.
    """

    __slots__ = (
        "_pipeline_held",
        "deadline",
        "forwarded",
        "peer",
        "phase",
        "reading_held",
        "server",
        "write_paused",
    )

    def __init__(self, server: Server) -> None:
        super().__init__(server.outbox)
        self.server = server
        self.peer = ""
        self.forwarded = b""
        self.phase = Phase.IDLE
        self.deadline = 0.0
        self.write_paused = False
        self.reading_held = False
        self._pipeline_held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who the caller is."""
        super().connection_made(transport)
        self.peer = _address(transport.get_extra_info("peername"))
        self.forwarded = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: http" % self.peer.encode("ascii")

    # -- Reading.

    def hold_reading(self) -> None:
        """Read no further: the backend does not keep up."""
        if not self.reading_held and not self.transport.is_closing():
            self.reading_held = True
            self.transport.pause_reading()

    def release_reading(self) -> None:
        """Read on, as far as the backend is concerned."""
        if self.reading_held:
            self.reading_held = False
            self._read_on()

    def hold_pipeline(self) -> None:
        """Read no further: too much waits for its turn."""
        if not self._pipeline_held:
            self._pipeline_held = True
            self.transport.pause_reading()

    def release_pipeline(self) -> None:
        """Read on, as far as what waits is concerned."""
        if self._pipeline_held:
            self._pipeline_held = False
            self._read_on()

    def _read_on(self) -> None:
        if not self.reading_held and not self._pipeline_held and not self.transport.is_closing():
            self.transport.resume_reading()

    # -- The end.

    def close_gently(self, now: float) -> None:
        """Send what is written, then the end of the stream; read and ignore what still comes."""
        if self.phase >= Phase.LINGER:
            return
        self.phase = Phase.LINGER
        self.deadline = now + LINGER_S
        self.flush()
        if self.transport.is_closing():
            return
        if self.reading_held or self._pipeline_held:
            self.reading_held = self._pipeline_held = False
            self.transport.resume_reading()
        self.transport.write_eof()

    def cut_off(self, *, reset: bool) -> None:
        """End in mid-response; by a reset where the end of the stream would look like a good end."""
        if not reset and not self.write_paused:
            # What was sent ahead is read on: left unread, it would turn the end into a reset.
            self.close_gently(self.server.clock())
            return
        self.phase = Phase.LINGER
        if reset:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


def _address(peername: Any) -> str:
    """Return a peer's address as text; ``unknown`` (RFC 7239 §6.2) for a Unix socket's."""
    if not isinstance(peername, tuple):
        return "unknown"
    address = ipaddress.ip_address(str(peername[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
