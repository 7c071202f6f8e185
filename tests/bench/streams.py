"""What it costs to judge open event streams again, so that none outlives its key: with and without changes.

In this process and without sockets, so that nothing but the judging is measured.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from gateway.core.decision import Snapshot
from gateway.core.limits import Limits, Timeouts
from gateway.core.model import KeyTable, LiveKey, Permission, Role, TenantState
from gateway.core.routes import Route, Router
from gateway.core.tokens import Digester, make_token
from gateway.dataplane.downstream import Downstream
from gateway.dataplane.reviewing import Review
from gateway.dataplane.server import TICK_S, Server
from gateway.dataplane.upstream import UpstreamConnection
from gateway.observe import Observer
from tests.bench.table import columns

_SECONDS = 5
_ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


class _Wire:
    """A transport that takes everything."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: None

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1)


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def streams(count: int, *, say: Callable[[str], None]) -> bool:
    """Print the share of a core and the longest turn that ``count`` streams cost; True if all live on."""
    return asyncio.run(_streams(count, say))


async def _streams(count: int, say: Callable[[str], None]) -> bool:
    clock = _Clock()
    server = _server(clock)
    connections = [_stream(server, clock, number) for number in range(count)]
    review = Review(server)
    rows = []
    for changes in (0, 1000):
        turns = []
        for _ in range(round(_SECONDS / TICK_S)):
            clock.now += TICK_S
            server.snapshot.keys.synced_at = clock.now
            server.snapshot.keys.version += round(changes * TICK_S)
            began = time.thread_time()
            review.go_on(clock.now)
            turns.append(time.thread_time() - began)
        share, longest = sum(turns) / _SECONDS, max(turns)
        rows.append((f"{count:,}", f"{changes:,}", f"{100 * share:.1f}", f"{1000 * longest:.2f}"))
    say(columns(("streams", "changes/s", "% of a core", "longest turn, ms"), rows))
    return all(connection.exchange is not None for connection in connections)


def _server(clock: _Clock) -> Server:
    table = KeyTable()
    table.tenants = {"default": TenantState()}
    table.synced_at = clock.now
    return Server(
        snapshot=Snapshot(
            Router([Route("all", "u")]),
            {"viewer": Role("viewer", Permission.VIEWER)},
            table,
            Digester([b"a pepper for the benchmark alone, of no other use"]),
        ),
        limits=Limits(),
        timeouts=Timeouts(),
        targets={"u": ("127.0.0.1", 9)},
        observer=Observer(),
        clock=clock,
    )


def _stream(server: Server, clock: _Clock, number: int) -> Downstream:
    """Begin a stream with a key of its own."""
    token = make_token("gw_live_", random.Random(number).choice).encode()
    key = LiveKey(
        who=b"X-Gateway-Key-Id: apk_%d\r\nX-Gateway-Subject: subject_%d\r\n" % (number, number),
        scope=b"X-Gateway-Tenant: default\r\n",
        tenant_id="default",
        environment_id=None,
        role="viewer",
        permission=Permission.VIEWER,
        expires_at=2**60,
        revoked_at=None,
    )
    server.snapshot.keys.by_digest[server.snapshot.digester.digest(token)] = key
    pool = server.pools["u"]
    upstream, downstream = UpstreamConnection(pool, server.outbox), Downstream(server)
    upstream.connection_made(_Wire())  # type: ignore[arg-type]
    downstream.connection_made(_Wire())  # type: ignore[arg-type]
    pool.give_back(upstream, clock.now, 60.0)
    downstream.data_received(b"GET /events HTTP/1.1\r\nHost: bench\r\nX-API-KEY: " + token + b"\r\n\r\n")
    upstream.flush()
    upstream.data_received(_ANSWER)
    return downstream
