"""Callers of gateways, and a backend for them: plain, cheap, and with a note of every call.

A caller has many requests under way at once, each on a connection of its own, so that one who
waits at a frozen gateway keeps nobody from sending the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import deque
from collections.abc import Callable, Iterable

from tests.faults.judge import Call, Evidence, Sight
from tests.faults.stage import Stage
from tests.faults.truth import now

AT_ONCE = 150
"""Requests under way at one gateway; the oldest is given up for the next."""
IDLE_AT_MOST = 24
NEW_CONNECTIONS = 0.08
"""So many of the calls come by a new connection."""
ANSWER_S = 20.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODE = re.compile(rb'"code": *"(\w+)"')
_AGE = re.compile(rb"^gateway_key_table_age_seconds (\S+)$", re.MULTILINE)


class Backend:
    """Answers 200 to whatever comes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._transports: set[asyncio.BaseTransport] = set()
        self._server = stage.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Answering(self._transports), "127.0.0.1", 0)

    def close(self) -> None:
        self._stage.call(self._close)

    def _close(self) -> None:
        self._server.close()
        for transport in list(self._transports):
            transport.close()


class _Answering(asyncio.Protocol):
    def __init__(self, transports: set[asyncio.BaseTransport]) -> None:
        self._transports = transports
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._transports.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._unread = (self._unread + data).split(b"\r\n\r\n")
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved" * len(heads))


class Connection:
    """One connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected = now()
        self.port: int = writer.get_extra_info("sockname")[1]
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """Return the status and the content of one answer."""
        credential = f"X-API-KEY: {token}\r\n" if token else ""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{credential}\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length, head
        return int(head[9:12]), await self._reader.readexactly(int(length[1]))

    @property
    def is_gone(self) -> bool:
        """Tell whether the other end has closed it, as far as is known here."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        self._writer.close()


class Caller:
    """Calls one gateway, and asks it how old its table is; everything goes into ``evidence``.

    ``choose`` picks the token of each call.
    """

    def __init__(
        self,
        replica: int,
        port: int,
        ops_port: int,
        choose: Callable[[], str],
        evidence: Evidence,
        every_s: float,
    ) -> None:
        self.replica = replica
        self.port = port
        self.evidence = evidence
        self._ops_port = ops_port
        self._choose = choose
        self._every_s = every_s
        self._idle: list[Connection] = []
        self._sent: set[str] = set()
        self._under_way: deque[asyncio.Task[None]] = deque()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to call; on the stage."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._call_on()), loop.create_task(self._look_on())]

    async def stop(self) -> None:
        """Call no more, and wait for what is under way."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await _all_over([*tasks, *self._under_way])
        self.forget()

    def check(self) -> None:
        """Raise what ended a task that should not have ended."""
        for task in self._tasks:
            if task.done():
                task.result()

    def forget(self) -> None:
        """Give up the idle connections; where their other end is another process by now."""
        while self._idle:
            self._idle.pop().close()

    def is_sent(self, token: str) -> bool:
        """Tell whether a call with a token has left since ``call`` was last begun with it."""
        return token in self._sent

    async def call(self, token: str) -> Call:
        """Make one call and note it."""
        self._sent.discard(token)
        made = await self._called(token)
        self.evidence.calls.append(made)
        return made

    async def _called(self, token: str) -> Call:
        sent, connection = now(), None
        status, content = 0, b""
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await self._connection()
                sent = now()
                self._sent.add(token)
                status, content = await connection.get("/judged", token)
        except (OSError, EOFError, TimeoutError):
            # No gateway closes what was idle for a moment only: whatever breaks is noted, never repeated.
            if connection is not None:
                connection.close()
        except asyncio.CancelledError:
            if connection is not None:
                connection.close()
            raise
        answered = now()
        code = "" if status in (0, 200) else _code_of(content)
        if status == 200 and content != b"served":
            code = "not the backend's answer"
        if status and connection is not None:
            self._idle.append(connection)
            if len(self._idle) > IDLE_AT_MOST:
                self._idle.pop(0).close()
        return Call(
            self.replica, token, sent, answered, status, code,
            connection.port if connection else 0, connection.connected if connection else sent,
        )  # fmt: skip

    async def _connection(self) -> Connection:
        while self._idle and random.random() > NEW_CONNECTIONS:
            # Any of them: whoever accepted the others is to be asked too.
            connection = self._idle.pop(random.randrange(len(self._idle)))
            if not connection.is_gone:
                return connection
            connection.close()
        return await Connection.open(self.port)

    async def _call_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            task = loop.create_task(self._one())
            self._under_way.append(task)
            while self._under_way and self._under_way[0].done():
                await _all_over([self._under_way.popleft()])
            if len(self._under_way) > AT_ONCE:
                self._under_way.popleft().cancel()
            await asyncio.sleep(self._every_s)

    async def _one(self) -> None:
        await self.call(self._choose())

    async def _look_on(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.15)

    async def look(self) -> Sight | None:
        """Ask how old the table is, and note it; None when it does not say."""
        asked = now()
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            # Of several workers, one that does not answer within a second is left out of what is said.
            async with asyncio.timeout(0.9):
                connection = await Connection.open(self._ops_port)
                try:
                    _, content = await connection.get("/metrics")
                finally:
                    connection.close()
            if found := _AGE.search(content):
                sight = Sight(asked, now(), float(found[1]))
                self.evidence.sights[self.replica].append(sight)
                return sight
        return None


async def _all_over(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait for tasks, some of which were cancelled; raise what another one raised."""
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _code_of(content: bytes) -> str:
    found = _CODE.search(content)
    return found[1].decode() if found else "no problem document"
