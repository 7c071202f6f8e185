"""The connections to one backend: lent to one exchange at a time, kept while they are warm.

Imports ``core`` and its neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.core.refusals import Reason
from gateway.core.response import ResponseHead, parse_response_head
from gateway.dataplane.borrower import Borrower
from gateway.dataplane.connection import Outbox
from gateway.dataplane.upstream import UpstreamConnection

# How long a backend is given to send what it should not have, in seconds.
REST_S = 0.1
# So many rest at a time: HEAD by the thousand would else take as many connections, and the backend's room.
RESTING_MAX = 32


class Pool:
    """The connections to one target; idle ones are a stack, the warmest first.

    Attributes:
        name: the upstream's name.
        authority: the target's host and port, for a request that named no host.
        idle_s: how long an idle connection is kept, in seconds.
        open: every connection that is open, lent or idle.
    """

    __slots__ = (
        "_connect_s",
        "_idle",
        "_last_head",
        "_outbox",
        "_report",
        "_resting",
        "_tasks",
        "_trouble",
        "authority",
        "clock",
        "host",
        "idle_s",
        "name",
        "open",
        "port",
    )

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        *,
        idle_s: float,
        connect_s: float,
        clock: Callable[[], float],
        outbox: Outbox,
        report: Callable[[str], None],
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.authority = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode("ascii")
        self.idle_s = idle_s
        self.clock = clock
        self.open: set[UpstreamConnection] = set()
        self._connect_s = connect_s
        self._outbox = outbox
        self._report = report
        self._idle: list[UpstreamConnection] = []
        self._resting: list[UpstreamConnection] = []
        self._last_head: ResponseHead | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble: str | None = None

    @property
    def idle_count(self) -> int:
        """Return how many connections wait for work."""
        return len(self._idle) + len(self._resting)

    def read_head(self, data: bytes) -> ResponseHead | None:
        """Read a response head; one that repeats the last to the byte, as backends do, is read once."""
        last = self._last_head
        if last is not None and last.raw == data:
            return last
        self._last_head = head = parse_response_head(data)
        return head

    def lend(self, now: float) -> UpstreamConnection | None:
        """Return the warmest idle connection, or None where a new one must be made."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.idle_until > now and not connection.transport.is_closing():
                return connection
            connection.abort()
        return None

    def connect(self, borrower: Borrower) -> None:
        """Make a new connection for a borrower, who is told how it went."""
        task = asyncio.get_running_loop().create_task(self._connect(borrower))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, borrower: Borrower) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self, self._outbox), self.host, self.port
                )
        except TimeoutError:
            self._note(f"no connection within {self._connect_s:g} s")
            borrower.on_connect_failed(Reason.UPSTREAM_TIMEOUT)
        except OSError as error:
            self._note(error.strerror or str(error))
            borrower.on_connect_failed(Reason.UPSTREAM_UNREACHABLE)
        else:
            self._note(None)
            borrower.on_connected(connection)

    def _note(self, trouble: str | None) -> None:
        """Tell the operator when connecting begins to fail, and when it works again."""
        before, self._trouble = self._trouble, trouble
        if trouble is not None and before is None:
            self._report(f"upstream {self.name}: {self.authority.decode()} cannot be reached: {trouble}")
        elif trouble is None and before is not None:
            self._report(f"upstream {self.name}: {self.authority.decode()} can be reached again")

    def give_back(self, connection: UpstreamConnection, now: float, idle_s: float) -> None:
        """Keep a connection for the next borrower for ``idle_s`` seconds, if that is any time at all.

        One that is suspect rests first: what its backend still sends would be the next caller's answer.
        """
        if idle_s <= 0 or connection.transport.is_closing():
            connection.abort()
            return
        connection.transport.resume_reading()
        connection.idle_until = now + idle_s
        if connection.suspect:
            connection.rests_until = now + REST_S
            self._resting.append(connection)
            if len(self._resting) > RESTING_MAX:
                self._idle.append(self._resting.pop(0))
        else:
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Take a closed connection out of the books."""
        self.open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        elif connection in self._resting:
            self._resting.remove(connection)

    def sweep(self, now: float) -> None:
        """Close the connections that have been idle too long, and lend again those that have rested."""
        while self._resting and self._resting[0].rests_until <= now:
            self._idle.append(self._resting.pop(0))
        expired = [connection for connection in self._idle if connection.idle_until <= now]
        for connection in expired:
            self._idle.remove(connection)
            connection.abort()

    def close(self) -> None:
        """Close every connection and stop making new ones."""
        for task in self._tasks:
            task.cancel()
        for connection in list(self.open):
            connection.abort()
