"""A line to PostgreSQL that can be told to fail: silently, slowly, or at once.

It understands just enough of the protocol to lose notifications and nothing else: after the first
message of a connection, whatever the server says is a type of one byte, a length and the rest
(PostgreSQL documentation, "Message Formats"). It carries no TLS.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import struct
from collections.abc import Callable
from typing import Any

from tests.faults.stage import Stage

NOTIFICATION = ord("A")
_REQUESTS_ENCRYPTION = {80877103, 80877104}
"""SSLRequest and GSSENCRequest; answered "N" here, on the server's behalf."""


class PostgresProxy:
    """Listens on a port of loopback and leads to ``target``, which may change.

    Every method takes effect at once, for the connections there are and for those to come:

    * ``hold``: a black hole. Connections are accepted, nothing passes, either way, not even an end.
    * ``hold_present``: the same for the connections there are; new ones live (a firewall lost its table).
    * ``release``: what was held is delivered, late, as by a network that was out.
    * ``delay_answers``: what the server says arrives so many seconds later.
    * ``drop_notifications``: what LISTEN would have brought is lost.
    * ``cut``: every connection is reset.
    * ``say``: so the server seems to speak, unasked.

    ``passing`` is called, on the stage, with each piece of what either end says, before that goes on;
    where it returns what is true, the piece is lost and its connection reset.
    """

    def __init__(self, stage: Stage, target: tuple[str, int]) -> None:
        self.target = target
        self.held = False
        self.delay_s = 0.0
        self.without_notifications = False
        self.dropped = 0
        self.notified = 0
        self.links: set[_Link] = set()
        self.passing: Callable[[bytes], object] = lambda data: False
        self._stage = stage
        self._server = stage.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Link(self).client, "127.0.0.1", 0)

    def hold(self) -> None:
        """Let nothing through any more."""
        self._stage.call(setattr, self, "held", True)

    def hold_present(self) -> None:
        """Let nothing through any more on the connections there are."""
        self._stage.call(self._hold_present)

    def release(self) -> None:
        """Let through again, beginning with what has been held."""
        self._stage.call(self._release)

    def delay_answers(self, seconds: float) -> None:
        """Deliver what the server says so much later; 0: at once."""
        self._stage.call(setattr, self, "delay_s", seconds)

    def drop_notifications(self, drop: bool) -> None:
        """Lose notifications from now on, or no more."""
        self._stage.call(setattr, self, "without_notifications", drop)

    def cut(self) -> None:
        """Reset every connection, at both ends."""
        self._stage.call(self._cut)

    def say(self, data: bytes) -> None:
        """Let every client hear this from the server."""
        self._stage.call(self._say, data)

    def lead_to(self, target: tuple[str, int]) -> None:
        """Cut, and lead elsewhere from now on."""
        self._stage.call(setattr, self, "target", target)
        self.cut()

    def close(self) -> None:
        """End everything."""
        self._stage.run(self._close())

    def _hold_present(self) -> None:
        for link in self.links:
            link.held = True

    def _say(self, data: bytes) -> None:
        for link in self.links:
            link.client.send(data)

    def _release(self) -> None:
        self.held = False
        for link in list(self.links):
            link.held = False
            link.flush()

    def _cut(self) -> None:
        for link in list(self.links):
            link.abort()

    async def _close(self) -> None:
        self._server.close()
        self._cut()
        await self._server.wait_closed()


class _Link:
    """One connection of a client, and its twin to the server."""

    def __init__(self, proxy: PostgresProxy) -> None:
        self.proxy = proxy
        self.held = False
        self.client = _Side(self, self._from_client)
        self.server = _Side(self, self._from_server)
        self._begun = False
        self._unread = bytearray()
        self._late: collections.deque[bytes] = collections.deque()
        self._connecting: asyncio.Task[None] | None = None
        proxy.links.add(self)

    def flush(self) -> None:
        """Pass on what waits, if anything may pass."""
        if self.held or self.proxy.held:
            return
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        self.client.flush()
        self.server.flush()

    def on_lost(self, side: _Side) -> None:
        """Tell the other side that this one is gone, as soon as anything may pass."""
        other = self.server if side is self.client else self.client
        other.ending = True
        if self.client.lost and self.server.lost:
            self.proxy.links.discard(self)
        self.flush()

    def abort(self) -> None:
        self.proxy.links.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        for side in (self.client, self.server):
            side.abort()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.server, *self.proxy.target)
        except OSError:
            self.abort()

    def _from_client(self, data: bytes) -> None:
        if self.proxy.passing(data):
            self.abort()
            return
        if not self._begun:
            self._unread += data
            data = self._first_message()
        self.server.send(data)

    def _first_message(self) -> bytes:
        """Return the first message and what follows it, once it is there; refuse encryption before."""
        while len(self._unread) >= 8:
            length, code = struct.unpack_from("!ii", self._unread)
            if code not in _REQUESTS_ENCRYPTION:
                self._begun = True
                data, self._unread = bytes(self._unread), bytearray()
                return data
            del self._unread[:length]
            self.client.send(b"N")
        return b""

    def _from_server(self, data: bytes) -> None:
        if self.proxy.passing(data):
            self.abort()
            return
        self._unread += data
        passed = bytearray()
        while len(self._unread) >= 5:
            end = 1 + struct.unpack_from("!i", self._unread, 1)[0]
            if len(self._unread) < end:
                break
            is_notification = self._unread[0] == NOTIFICATION
            if is_notification and self.proxy.without_notifications:
                self.proxy.dropped += 1
            else:
                self.proxy.notified += is_notification
                passed += self._unread[:end]
            del self._unread[:end]
        if passed and (self.proxy.delay_s or self._late):
            self._late.append(bytes(passed))
            asyncio.get_running_loop().call_later(self.proxy.delay_s, self._deliver)
        elif passed:
            self.client.send(bytes(passed))

    def _deliver(self) -> None:
        """Pass on the oldest of what is late: in order, even if the delay has changed meanwhile."""
        self.client.send(self._late.popleft())


class _Side(asyncio.Protocol):
    """One of the two sockets: what came goes to ``received``, what is to be sent waits here."""

    def __init__(self, link: _Link, received: Any) -> None:
        self.ending = False
        self.lost = False
        self._link = link
        self._received = received
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._link.flush()

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._link.on_lost(self)

    def send(self, data: bytes) -> None:
        self._waiting += data
        self._link.flush()

    def flush(self) -> None:
        if self._transport is None:
            return
        if self._waiting and not self.lost:
            self._transport.write(bytes(self._waiting))
            self._waiting.clear()
        if self.ending:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.abort()
