"""What a caller's connection and a backend's have in common: how they write. Imports nothing of the project.

A message wakes whoever waits for it, and the waking costs more than the message. So short
messages are held until the events at hand are handled, and leave together: a peer that is awake
takes the rest in passing, and two messages to one peer are one write. Content of a body is never
held, since what holds it cannot push back.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import sys
import termios
from typing import cast

# What the loop holds of unsent bytes before it asks for a pause.
WRITE_HIGH_WATER = 131072


class Outbox:
    """The connections that hold a message, until the loop's turn ends."""

    __slots__ = ("_connections", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connections: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """See to it that ``connection`` is flushed soon."""
        if not self._connections:
            self._loop.call_soon(self._flush)
        self._connections.append(connection)

    def _flush(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.flush()


class Connection(asyncio.Protocol):
    """One connection; its writes leave in the order in which they were asked for."""

    __slots__ = ("_held", "_outbox", "_untaken", "transport")

    transport: asyncio.Transport

    def __init__(self, outbox: Outbox) -> None:
        self._held = b""
        self._outbox = outbox
        self._untaken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports have the interface, but not the type.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

    def write_soon(self, message: bytes) -> None:
        """Send a short message when the loop's turn ends."""
        if self._held:
            self._held += message
        else:
            self._held = message
            self._outbox.add(self)

    def write(self, *pieces: bytes) -> None:
        """Send now, after what is held; the transport says at once when it is too much."""
        self.flush()
        if len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writelines(pieces)

    def flush(self) -> None:
        """Send what is held, unless there is nobody left to send it to."""
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            self.transport.write(held)

    def peer_takes(self) -> bool:
        """Tell whether the peer has taken some of what was written since the last look, and not yet all."""
        before, self._untaken = self._untaken, self.transport.get_write_buffer_size()
        if self._untaken:
            self._untaken += _queued_by_kernel(self.transport)
        return self._untaken > 0 and self._untaken != before


def _queued_by_kernel(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel holds that the peer has not acknowledged.

    Megabytes may lie there, and the loop sees room only when a third of them is gone: a peer that
    reads slowly but steadily looks like one that does not read. 0 where the system does not tell.
    """
    if sys.platform != "linux" or transport.is_closing():
        return 0
    count = array.array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, count)
    return count[0]
