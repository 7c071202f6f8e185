"""A request that waits for its token's check: in order, in time, and never let in by what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gateway.core.decision import Snapshot
from gateway.core.limits import Limits, Timeouts
from gateway.core.model import KeyTable, Permission, Role, TenantState
from gateway.core.refusals import Reason
from gateway.core.routes import Route, Router
from gateway.core.sessions import Sessions, VerifySignature
from gateway.core.tokens import Digester
from gateway.dataplane.caller import Phase
from gateway.dataplane.downstream import Downstream
from gateway.dataplane.judging import PROVING_S
from gateway.dataplane.server import Server
from gateway.keys.verifier import session_of
from gateway.observe import Observer
from gateway.observe.outcome import Outcome
from tests.core.tokens import NOW_S, claims, ours, signed
from tests.dataplane.test_pressure import OK, Clock, Wire, caller, turn, warm_backend

ANN = "subject_ann"


class Verifying:
    """Stands where the verifier does, and tells when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[VerifySignature, Callable[[Reason | None], None]]] = []
        self.full = False
        self.sessions = Sessions(issuers={"gateway": ours()})

    def verify(self, wanted: VerifySignature, done: Callable[[Reason | None], None], _source: str) -> bool:
        if not self.full:
            self.asked.append((wanted, done))
        return not self.full

    def tell(self, *, holds: bool = True, reason: Reason | None = None) -> None:
        wanted, done = self.asked.pop(0)
        if reason is None and holds:
            self.sessions.proven[wanted.digest] = session_of(wanted.claims, wanted.issuer)
        elif reason is None:
            self.sessions.refused[wanted.digest] = None
        done(reason)


class Log(Observer):
    """Keeps what is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        super().record(outcome)
        self.outcomes.append(outcome)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifying() -> Verifying:
    return Verifying()


@pytest.fixture
def table(clock: Clock) -> KeyTable:
    table = KeyTable()
    table.tenants = {"default": TenantState()}
    table.users = {ANN: {"default": Permission.VIEWER}}
    table.synced_at = clock.now
    table.store_offset_s = NOW_S - clock.now
    return table


@pytest.fixture
async def server(clock: Clock, verifying: Verifying, table: KeyTable) -> Server:
    roles = {"viewer": Role("viewer", Permission.VIEWER), "editor": Role("editor", Permission.EDITOR)}
    router = Router([Route("open", "u", path="/open", anonymous=True), Route("all", "u")])
    return Server(
        snapshot=Snapshot(router, roles, table, Digester([b"x" * 32]), sessions=verifying.sessions),
        limits=Limits(),
        timeouts=Timeouts(),
        targets={"u": ("127.0.0.1", 9)},
        observer=Log(),
        clock=clock,
        verify=verifying.verify,
    )


def request(line: str = "GET /a", token: bytes | None = None, more: str = "") -> bytes:
    token = signed() if token is None else token
    return f"{line} HTTP/1.1\r\nHost: a\r\nAuthorization: BEARER {token.decode()}\r\n{more}\r\n".encode()


OPEN = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"


def outcomes(server: Server) -> list[tuple[int, str | None]]:
    assert isinstance(server.observer, Log)
    return [(outcome.status, outcome.reason) for outcome in server.observer.outcomes]


def told(wire: Wire) -> list[tuple[int, str]]:
    """Return status and code of each refusal that was sent."""
    found = []
    for answer in b"".join(wire.sent).split(b"HTTP/1.1 ")[1:]:
        head, _, body = answer.partition(b"\r\n\r\n")
        found.append((int(head[:3]), json.loads(body)["code"] if body.startswith(b"{") else ""))
    return found


def held(server: Server, data: bytes) -> tuple[Downstream, Wire]:
    """Return a connection whose request waits."""
    down, wire = caller(server)
    down.data_received(data)
    assert down.phase is Phase.PROVING
    assert not wire.reading, "its caller is read no further"
    return down, wire


async def test_a_request_goes_on_once_its_token_is_proven(server: Server, verifying: Verifying) -> None:
    up, upstream = warm_backend(server)
    down, wire = held(server, request())
    await turn()
    assert upstream.sent == [], "nothing goes upstream before"
    verifying.tell()
    await turn()
    assert wire.reading
    assert b"X-Gateway-Subject: subject_ann\r\n" in upstream.sent[0]
    assert b"BEARER" not in upstream.sent[0]
    up.data_received(OK)
    await turn()
    assert wire.sent[0].startswith(b"HTTP/1.1 200")
    assert down.phase is Phase.IDLE
    down.data_received(request())
    assert verifying.asked == [], "the next one is known"
    assert down.phase is Phase.BUSY


async def test_content_that_came_along_follows_its_head(
    server: Server, verifying: Verifying, table: KeyTable
) -> None:
    table.users[ANN]["default"] = Permission.EDITOR
    up, upstream = warm_backend(server)
    down, wire = held(server, request("POST /a", more="Content-Length: 6\r\n") + b"abc")
    down.data_received(b"de")
    verifying.tell()
    await turn()
    down.data_received(b"f" + OPEN)
    await turn()
    assert b"".join(upstream.sent).endswith(b"\r\n\r\nabcdef")
    up.data_received(OK)
    await turn()
    assert [status for status, _ in outcomes(server)] == [200]
    assert down.phase is Phase.BUSY, "what followed it is under way"
    assert wire.sent[0].startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("line", ["GET /a", "HEAD /a"])
async def test_a_bad_signature_is_refused_and_the_next_request_answered(
    server: Server, verifying: Verifying, line: str
) -> None:
    down, wire = held(server, request(line) + request(line, b"nothing"))
    verifying.tell(holds=False)
    await turn()
    with_body = line.startswith("GET")
    assert told(wire) == [(401, "token_invalid" * with_body), (401, "key_unknown" * with_body)]
    assert down.phase is Phase.IDLE
    assert outcomes(server) == [(401, "token_invalid"), (401, "key_unknown")]


async def test_answers_keep_the_order_of_requests(server: Server, verifying: Verifying) -> None:
    up, upstream = warm_backend(server)
    _, wire = held(server, request("GET /first") + OPEN)
    await turn()
    assert upstream.sent == []
    verifying.tell(holds=False)
    await turn()
    assert upstream.sent[0].startswith(b"GET /open ")
    up.data_received(OK)
    await turn()
    assert [status for status, _ in told(wire)] == [401, 200]


async def test_it_is_decided_again_with_what_is_known_by_then(
    server: Server, verifying: Verifying, table: KeyTable
) -> None:
    _, upstream = warm_backend(server)
    _, wire = held(server, request())
    table.users = {}
    table.version += 1
    verifying.tell()
    await turn()
    assert told(wire) == [(403, "holder_disabled")]
    assert upstream.sent == []


async def test_a_full_queue_refuses_at_once_and_asks_to_come_again(
    server: Server, verifying: Verifying
) -> None:
    verifying.full = True
    down, wire = caller(server)
    down.data_received(request())
    await turn()
    assert told(wire) == [(503, "overloaded")]
    assert b"Retry-After: 1\r\n" in b"".join(wire.sent)
    assert down.phase is Phase.LINGER


async def test_a_check_that_fails_lets_nobody_in(server: Server, verifying: Verifying) -> None:
    _, upstream = warm_backend(server)
    _, wire = held(server, request())
    verifying.tell(reason=Reason.OVERLOADED)
    await turn()
    assert told(wire) == [(503, "overloaded")]
    assert upstream.sent == []


async def test_a_check_that_never_ends_is_not_waited_for(
    server: Server, verifying: Verifying, clock: Clock
) -> None:
    _, upstream = warm_backend(server)
    down, wire = held(server, request())
    assert down.deadline == clock.now + PROVING_S
    clock.now += PROVING_S
    down.on_deadline(clock.now)
    await turn()
    assert told(wire) == [(503, "overloaded")]
    verifying.tell()
    await turn()
    assert upstream.sent == [], "it came too late"
    assert outcomes(server) == [(503, "overloaded")]


async def test_keys_that_change_at_every_check_do_not_hold_a_request_for_ever(
    server: Server, verifying: Verifying
) -> None:
    down, wire = held(server, request())
    deadline = down.deadline
    for _ in range(3):
        assert down.deadline == deadline
        verifying.asked.pop(0)[1](None)
    await turn()
    assert told(wire) == [(503, "overloaded")]
    assert verifying.asked == []


async def test_a_caller_that_is_gone_is_recorded_and_what_is_told_later_ignored(
    server: Server, verifying: Verifying
) -> None:
    _, upstream = warm_backend(server)
    down, _ = held(server, request())
    down.connection_lost(None)
    assert outcomes(server) == [(499, "client_closed")]
    verifying.tell()
    await turn()
    assert upstream.sent == []
    assert down.phase is Phase.CLOSED


async def test_a_half_close_leaves_a_whole_request_to_be_answered(
    server: Server, verifying: Verifying
) -> None:
    up, upstream = warm_backend(server)
    down, wire = held(server, request())
    assert down.eof_received() is True
    verifying.tell()
    await turn()
    assert len(upstream.sent) == 1
    up.data_received(OK)
    await turn()
    assert wire.sent[0].startswith(b"HTTP/1.1 200")
    assert wire.closing


async def test_a_half_close_within_the_content_ends_it(server: Server) -> None:
    down, _ = held(server, request("POST /a", more="Content-Length: 6\r\n") + b"abc")
    assert down.eof_received() is False


async def test_while_the_caller_does_not_read_nothing_is_begun(server: Server, verifying: Verifying) -> None:
    _, upstream = warm_backend(server)
    down, wire = held(server, request())
    down.pause_writing()
    verifying.tell()
    await turn()
    assert upstream.sent == []
    assert down.phase is Phase.PROVING
    down.resume_writing()
    await turn()
    assert len(upstream.sent) == 1
    assert wire.reading


async def test_a_caller_that_never_reads_is_dropped(
    server: Server, verifying: Verifying, clock: Clock
) -> None:
    down, wire = held(server, request())
    down.pause_writing()
    verifying.tell()
    clock.now += PROVING_S
    down.on_deadline(clock.now)
    assert wire.closing


async def test_a_drain_waits_for_the_held_request_and_then_closes(
    server: Server, verifying: Verifying
) -> None:
    up, _ = warm_backend(server)
    down, wire = held(server, request())
    assert not down.is_idle
    server.draining = True
    verifying.tell()
    await turn()
    up.data_received(OK)
    await turn()
    assert b"Connection: close" in wire.sent[0]


async def test_bytes_sent_far_ahead_are_not_taken_without_end(server: Server, verifying: Verifying) -> None:
    warm_backend(server)
    down, wire = held(server, request())
    for _ in range(10):
        down.data_received(b"GET /open HTTP/1.1\r\nX: " + b"a" * 20000)
    verifying.tell()
    assert not wire.reading, "too much waits for its turn"


async def test_what_cannot_be_a_token_of_ours_never_gets_to_the_verifier(
    server: Server, verifying: Verifying
) -> None:
    down, wire = caller(server)
    tokens = [
        b"a.b.c",
        signed(claims(aud="gateway:key")),
        signed(kid="x"),
        signed(claims(exp=NOW_S - 1)),
        b"junk",
    ]
    for token in tokens:
        down.data_received(request(token=token))
    await turn()
    assert verifying.asked == []
    assert [code for _, code in told(wire)] == [
        "token_invalid", "key_unknown", "token_invalid", "token_expired", "key_unknown"
    ]  # fmt: skip
