"""A few connections to PostgreSQL, lent for one transaction each.

asyncpg's own pool asks the server something at each return and waits for connections that it closes;
this one does neither, and knows which of its connections are new, so that one which the server
dropped meanwhile is told from a server that is down. Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import time

from gateway.store.base import StoreError
from gateway.store.postgres_connect import connect
from gateway.store.postgres_link import Link
from gateway.store.postgres_url import Host, PostgresUrl

SIZE = 5
"""Writers wait for one another in the server, so more would only wait there; each costs it a process."""
LEND_S = 2.0
"""How long a caller waits for a connection, a new one included: then it had better be told."""
IDLE_S = 30.0
"""A connection that was silent for longer is not trusted: what lies between may have forgotten it."""


class Pool:
    """Connections of one event loop to one store."""

    def __init__(self, url: PostgresUrl) -> None:
        self._url = url
        self._free: list[Link] = []
        self._lent: set[Link] = set()
        self._room = asyncio.Semaphore(SIZE)
        self._first: Host | None = None
        self._prune: asyncio.TimerHandle | None = None
        self._closed = False

    async def lend(self) -> tuple[Link, bool]:
        """Lend a connection until it is given back; tell whether it is new.

        Raises StoreError when there is none in time.
        """
        deadline = time.monotonic() + LEND_S
        await self._wait_for_room()
        try:
            link = self._idle()
            is_new = link is None
            if link is None:
                link = await connect(self._url, within_s=deadline - time.monotonic(), first=self._first)
                self._first = link.host
        except BaseException:
            self._room.release()
            raise
        self._lent.add(link)
        if self._closed:
            self.give_back(link)
            raise StoreError(f"the store {self._url.location} has been closed")
        return link, is_new

    def give_back(self, link: Link) -> None:
        """Take a connection back; one that has ended is forgotten."""
        self._lent.discard(link)
        if self._closed:
            link.terminate()
        elif not link.closed:
            link.idle_since = time.monotonic()
            self._free.append(link)
            self._prune_later()
        self._room.release()

    def drop_idle(self) -> None:
        """Cut what is idle: it ended together with a connection that was found dead."""
        for link in self._free:
            link.terminate()
        self._free.clear()

    def close(self) -> None:
        """Cut everything; safe to call twice."""
        self._closed = True
        self.drop_idle()
        for link in [*self._lent]:
            link.terminate()
        if self._prune is not None:
            self._prune.cancel()

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(LEND_S):
                await self._room.acquire()
        except TimeoutError:
            raise StoreError(f"the store {self._url.location} is busy: no connection is free") from None

    def _idle(self) -> Link | None:
        """Return the connection that was used last, if there is one to be trusted."""
        self._drop_old()
        while self._free:
            link = self._free.pop()
            if not link.closed:
                return link
        return None

    def _drop_old(self) -> None:
        oldest = time.monotonic() - IDLE_S
        for link in self._free:
            if link.idle_since < oldest:
                link.terminate()
        self._free = [link for link in self._free if not link.closed]

    def _prune_later(self) -> None:
        if self._prune is None:
            self._prune = asyncio.get_running_loop().call_later(IDLE_S + 1, self._pruned)

    def _pruned(self) -> None:
        self._prune = None
        self._drop_old()
        if self._free:
            self._prune_later()
