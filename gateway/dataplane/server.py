"""The data port: what all connections of callers share, their deadlines, and how it all ends.

Imports ``core``, ``observe`` and its neighbours. One coarse timer sweeps every deadline; there is
no timer a request.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate

from gateway.core.decision import Snapshot
from gateway.core.limits import Limits, Timeouts
from gateway.core.model import key_id_of
from gateway.dataplane.connection import Outbox
from gateway.dataplane.downstream import Downstream
from gateway.dataplane.judging import VerifyFunction
from gateway.dataplane.listeners import BACKLOG, turn_away, turned_away_max
from gateway.dataplane.pool import Pool
from gateway.dataplane.reviewing import Review
from gateway.observe import Observer

TICK_S = 0.1
# How long a connection without a request is left open when the others are ended, in seconds.
NEW_CONNECTION_S = 1.0


def new_pseudonym() -> bytes:
    """Return a name for ``Via`` that no other instance has (RFC 9110 §7.6.3)."""
    return b"gw-" + secrets.token_hex(6).encode()


class Server:
    """The data plane of one process.

    Attributes:
        snapshot: what decisions read; assign a whole successor to change it.
        pools: upstream name → the connections to its target.
        draining: every answer says ``Connection: close``.
        epoch_offset_s: epoch seconds less the boot clock's.
        date: the time now as IMF-fixdate, renewed by the timer.
        pseudonym: this instance's name in ``Via``.
        used: the identity lines of those who were let in since `take_used`.
    """

    def __init__(
        self,
        *,
        snapshot: Snapshot,
        limits: Limits,
        timeouts: Timeouts,
        targets: Mapping[str, tuple[str, int]],
        observer: Observer,
        clock: Callable[[], float],
        report: Callable[[str], None] = lambda _: None,
        verify: VerifyFunction = lambda _wanted, _done, _source: False,
        pseudonym: bytes | None = None,
    ) -> None:
        """Take what the connections share, on the running loop; ``targets`` are host and port by upstream.

        ``verify`` has credentials proven; ``pseudonym`` is new unless given.
        """
        self.snapshot = snapshot
        self.limits = limits
        self.timeouts = timeouts
        self.observer = observer
        self.clock = clock
        self.verify = verify
        self.outbox = Outbox(asyncio.get_running_loop())
        self.pools = {
            name: Pool(
                name,
                host,
                port,
                idle_s=timeouts.upstream_idle,
                connect_s=timeouts.connect,
                clock=clock,
                outbox=self.outbox,
                report=report,
            )
            for name, (host, port) in targets.items()
        }
        self.draining = False
        self.date = b""
        self.pseudonym = pseudonym or new_pseudonym()
        self.connections: set[Downstream] = set()
        self.used: set[bytes] = set()
        self._turned_away_max = turned_away_max(limits.connections)
        self._review = Review(self)
        self._request_prefix = secrets.token_hex(8).encode() + b"-"
        self._requests = 0
        self.epoch_offset_s = 0.0
        self._servers: dict[socket.socket, asyncio.Server] = {}
        self._empty = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    # -- What every request asks.

    def next_request_id(self) -> bytes:
        """Return an id that no other request of any instance has: a random prefix and a counter."""
        self._requests += 1
        return b"%b%010x" % (self._request_prefix, self._requests)

    def take_used(self) -> list[str]:
        """Return the ids of the keys that were used since this was asked last."""
        used, self.used = self.used, set()
        return [key_id for who in used if (key_id := key_id_of(who)) is not None]

    # -- Connections.

    def admit(self, connection: Downstream) -> bool:
        """Take a connection into the books; False where there are too many, and it is to be told so.

        A few beyond the limit are kept while they are told; the rest only hear the end.
        """
        here = len(self.connections)
        if here >= self.limits.connections + self._turned_away_max:
            connection.transport.abort()
        self.connections.add(connection)
        return here < self.limits.connections

    def forget(self, connection: Downstream) -> None:
        """Take a closed connection out of the books."""
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    # -- Life.

    async def start(self, listeners: list[socket.socket]) -> None:
        """Serve on bound sockets, which stay the caller's until `stop_accepting`."""
        self._due = self.clock()
        self._tick()
        for listener in listeners:
            await self.accept(listener)

    async def accept(self, listener: socket.socket) -> None:
        """Accept from one more bound socket."""
        loop = asyncio.get_running_loop()
        # A twin of the socket keeps its queue when the loop's own is closed.
        serve = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        self._servers[listener] = await serve(lambda: Downstream(self), sock=listener.dup(), backlog=BACKLOG)

    def release(self, listener: socket.socket) -> None:
        """Accept no more from a socket; what has queued is left to whoever else has it."""
        self._servers.pop(listener).close()

    def _tick(self) -> None:
        """Renew the date and act on every deadline that has passed."""
        # A fault in one connection must end neither the ticking nor the others' turn: it is looked at later.
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        now = self.clock()
        self.observer.lagged(max(0.0, now - self._due))
        self._due = now + TICK_S
        epoch = time.time()
        self.epoch_offset_s = epoch - now
        self.date = formatdate(epoch, usegmt=True).encode("ascii")
        for connection in list(self.connections):
            if connection.deadline <= now:
                connection.deadline = now + 1.0
                connection.on_deadline(now)
        for pool in self.pools.values():
            pool.sweep(now)
        self._review.go_on(now)

    async def stop_accepting(self) -> None:
        """Let no further connection begin, take in those that have begun, and close the listeners."""
        await asyncio.sleep(max(map(turn_away, self._servers), default=0.0))
        loop = asyncio.get_running_loop()
        for listener, served in self._servers.items():
            served.close()
            listener.setblocking(False)
            while True:
                try:
                    sock, _ = listener.accept()
                except (BlockingIOError, OSError):
                    break
                await loop.connect_accepted_socket(lambda: Downstream(self), sock)
            listener.close()
        self._servers.clear()

    async def finish(self, patience_s: float) -> bool:
        """End idle connections, let the others finish; True if all did within ``patience_s`` seconds."""
        self.draining = True
        self._end_idle(but_new=True)
        # Who has just connected is about to ask: the listener took it in when it could still choose.
        asyncio.get_running_loop().call_later(NEW_CONNECTION_S, self._end_idle)
        try:
            async with asyncio.timeout(patience_s):
                await self.emptied()
        except TimeoutError:
            return False
        return True

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._empty.clear()
            await self._empty.wait()

    def _end_idle(self, *, but_new: bool = False) -> None:
        now = self.clock()
        for connection in list(self.connections):
            if connection.is_idle and not (but_new and connection.is_new):
                connection.close_gently(now)

    def close(self) -> None:
        """End whatever is left at once."""
        if self._timer is not None:
            self._timer.cancel()
        for listener, served in self._servers.items():
            served.close()
            listener.close()
        for connection in list(self.connections):
            connection.transport.abort()
        for pool in self.pools.values():
            pool.close()
