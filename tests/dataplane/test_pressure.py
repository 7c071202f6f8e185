"""What a connection does while its peer does not keep up, held step by step: no socket is as exact."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.core.decision import Snapshot
from gateway.core.limits import Limits, Timeouts
from gateway.core.model import KeyTable
from gateway.core.routes import Route, Router
from gateway.core.tokens import Digester
from gateway.dataplane.caller import Phase
from gateway.dataplane.downstream import Downstream
from gateway.dataplane.pool import REST_S, RESTING_MAX
from gateway.dataplane.server import Server
from gateway.dataplane.upstream import UpstreamConnection
from gateway.observe import Observer

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPLOAD = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Wire:
    """A transport that remembers what was asked of it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closing = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.sent.extend(pieces)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    close = write_eof = abort


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(clock: Clock) -> Server:
    """A server with one anonymous route; it listens nowhere."""
    router = Router([Route("all", "u", anonymous=True)])
    return Server(
        snapshot=Snapshot(router, {}, KeyTable(), Digester([b"x" * 32])),
        limits=Limits(),
        timeouts=Timeouts(),
        targets={"u": ("127.0.0.1", 9)},
        observer=Observer(),
        clock=clock,
    )


def caller(server: Server) -> tuple[Downstream, Wire]:
    down, wire = Downstream(server), Wire()
    down.connection_made(wire)  # type: ignore[arg-type]
    return down, wire


def warm_backend(server: Server) -> tuple[UpstreamConnection, Wire]:
    """Put an idle connection in the pool, as one that has served."""
    pool = server.pools["u"]
    up, wire = UpstreamConnection(pool, server.outbox), Wire()
    up.connection_made(wire)  # type: ignore[arg-type]
    pool.give_back(up, server.clock(), 4.0)
    return up, wire


async def turn() -> None:
    """Let the loop's turn end, when what is held leaves."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_backend_connection_is_lent_again_after_a_whole_exchange(server: Server) -> None:
    down, _ = caller(server)
    up, _ = warm_backend(server)
    down.data_received(UPLOAD)
    await turn()
    up.data_received(OK)
    assert server.pools["u"].idle_count == 1


async def test_a_backend_connection_that_has_yet_to_take_an_upload_is_not_lent_again(server: Server) -> None:
    """The next borrower would never be asked to wait, and its upload would pile up in memory."""
    down, _ = caller(server)
    up, wire = warm_backend(server)
    down.data_received(UPLOAD)
    await turn()
    up.pause_writing()
    up.data_received(OK)
    assert server.pools["u"].idle_count == 0
    assert wire.closing


async def test_a_backend_connection_rests_after_a_response_that_has_no_content_but_tells_of_some(
    server: Server, clock: Clock
) -> None:
    """A backend that answers HEAD with a body may write it by itself, a moment after the head."""
    down, _ = caller(server)
    up, up_wire = warm_backend(server)
    pool = server.pools["u"]
    for _ in range(2):
        down.data_received(b"HEAD" + REQUEST[3:])
        await turn()
        up.data_received(OK[:-2])
        pool.sweep(clock.now)
        assert pool.lend(clock.now) is None
        clock.now += REST_S
        pool.sweep(clock.now)
        assert pool.idle_count == 1
    assert pool.lend(clock.now) is up
    assert not up_wire.closing


async def test_of_many_that_rest_the_first_is_lent_again(server: Server, clock: Clock) -> None:
    pool = server.pools["u"]
    connections = [warm_backend(server)[0] for _ in range(RESTING_MAX + 1)]
    assert all(pool.lend(clock.now) for _ in connections)
    for connection in connections:
        connection.suspect = True
        pool.give_back(connection, clock.now, 4.0)
    assert pool.lend(clock.now) is connections[0]
    assert pool.lend(clock.now) is None


async def test_content_after_a_response_that_has_none_is_nobodys_answer(server: Server) -> None:
    down, wire = caller(server)
    up, up_wire = warm_backend(server)
    down.data_received(b"HEAD" + REQUEST[3:] + REQUEST)
    await turn()
    up.data_received(OK[:-2])
    await turn()
    up.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await turn()
    assert up_wire.closing
    assert b"evil" not in b"".join(wire.sent)
    down.connection_lost(None)


async def test_bytes_from_a_backend_before_the_request_has_left_are_no_answer(server: Server) -> None:
    """They came while the connection was idle: response-queue poisoning, one step later."""
    down, wire = caller(server)
    up, backend = warm_backend(server)
    down.data_received(REQUEST)
    up.data_received(OK)
    await turn()
    assert backend.closing
    assert not any(b"200" in piece for piece in wire.sent)


@pytest.mark.parametrize("begin", [b"GET /ne", b"\r\n"])
async def test_reading_late_does_not_renew_the_deadline_of_a_head(
    server: Server, clock: Clock, begin: bytes
) -> None:
    down, _ = caller(server)
    down.data_received(begin)
    assert down.phase is Phase.HEAD
    due = down.deadline
    down.pause_writing()
    clock.now += 5.0
    down.resume_writing()
    assert down.deadline == due


async def test_blank_lines_between_pipelined_requests_are_stepped_over(server: Server) -> None:
    down, wire = caller(server)
    options = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    down.data_received(b"\r\n".join([options] * 3) + b"\r")
    down.data_received(b"\n\r\n" + options)
    await turn()
    assert b"".join(wire.sent).count(b"HTTP/1.1 204 ") == 4


async def test_who_has_ended_after_half_an_empty_line_is_not_waited_for(server: Server) -> None:
    down, wire = caller(server)
    up, _ = warm_backend(server)
    down.data_received(REQUEST + b"\r")
    assert down.eof_received()
    await turn()
    up.data_received(OK)
    await turn()
    assert down.phase is Phase.LINGER
    assert wire.closing


async def test_a_head_that_comes_byte_by_byte_is_judged_once_a_line(server: Server) -> None:
    """Anybody may send thirty thousand tiny segments; each must cost about what a read costs."""
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 240) for number in range(115))
    head = REQUEST[:-2] + lines
    down, _ = caller(server)
    begun = time.process_time()
    for at in range(len(head)):
        down.data_received(head[at : at + 1])
    assert down.phase is Phase.HEAD
    assert time.process_time() - begun < 0.8


async def test_a_fault_in_any_line_of_a_head_that_comes_byte_by_byte_is_told_at_the_lines_end(
    server: Server,
) -> None:
    down, wire = caller(server)
    for byte in REQUEST[:-2] + b"A: b\r\nC: d\r\nE f\r\n":
        assert not wire.closing
        down.data_received(bytes((byte,)))
    assert b"".join(wire.sent).startswith(b"HTTP/1.1 400 ")


async def test_a_fault_at_one_deadline_keeps_no_other_from_being_met(server: Server, clock: Clock) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    await server.start([])
    wires = [caller(server)[1] for _ in range(12)]

    def fail() -> None:
        raise RuntimeError("a fault of ours")

    for wire in wires[::2]:
        wire.abort = fail  # type: ignore[method-assign]
    clock.now += 1000.0
    deadline = time.monotonic() + 5
    while not all(wire.closing for wire in wires[1::2]):
        assert time.monotonic() < deadline, "the connections without a fault should have been ended"
        await asyncio.sleep(0.02)
    assert faults
    for wire in wires[::2]:
        del wire.abort
    server.close()
