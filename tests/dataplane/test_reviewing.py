"""Exchanges under way are judged again: which end, how they end, and how much work that may be."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest

from gateway.core.decision import Snapshot
from gateway.core.limits import Limits, Timeouts
from gateway.core.model import KeyTable, LiveKey, Permission, Role, TenantState
from gateway.core.refusals import Reason
from gateway.core.routes import Route, Router
from gateway.core.target import PathView
from gateway.core.tokens import Digester
from gateway.dataplane.caller import Phase
from gateway.dataplane.downstream import Downstream
from gateway.dataplane.judging import PROVING_S
from gateway.dataplane.reviewing import PASS_S, SLICE, Review
from gateway.dataplane.server import Server
from tests.core.tokens import NOW_S, signed
from tests.dataplane.test_judging import ANN, OPEN, Log, Verifying, outcomes, request
from tests.dataplane.test_pressure import OK, Clock, Wire, caller, turn, warm_backend

KEY = b"imported-key"
DIGESTER = Digester([b"x" * 32])
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc"


def live_key(name: str = "one", **changes: object) -> LiveKey:
    key = LiveKey(
        who=f"X-Gateway-Key-Id: apk_{name}\r\nX-Gateway-Subject: s\r\n".encode(),
        scope=b"",
        tenant_id="default",
        environment_id=None,
        role="editor",
        permission=Permission.EDITOR,
        expires_at=(NOW_S + 100_000) * 1000,
        revoked_at=None,
        user_id=ANN,
    )
    return msgspec.structs.replace(key, **changes)


class CountingRouter(Router):
    """Every decision asks for its route once."""

    def __init__(self) -> None:
        super().__init__([Route("open", "u", path="/open", anonymous=True), Route("all", "u")])
        self.asked = 0

    def match(self, host: bytes, view: PathView) -> Route | None:  # type: ignore[override]
        self.asked += 1
        return super().match(host, view)  # type: ignore[return-value]


class Installation:
    """A server that listens nowhere, and the review of what runs there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.verifying = Verifying()
        self.router = CountingRouter()
        self.table = KeyTable()
        self.table.tenants = {"default": TenantState()}
        self.table.users = {ANN: {"default": Permission.EDITOR}}
        self.table.synced_at = self.clock.now
        self.table.store_offset_s = NOW_S - self.clock.now
        self.table.by_digest = {DIGESTER.digest(KEY): live_key()}
        self.log = Log()
        self.server = Server(
            snapshot=Snapshot(
                self.router,
                {"editor": Role("editor", Permission.EDITOR), "viewer": Role("viewer", Permission.VIEWER)},
                self.table,
                DIGESTER,
                sessions=self.verifying.sessions,
            ),
            limits=Limits(),
            timeouts=Timeouts(),
            targets={"u": ("127.0.0.1", 9)},
            observer=self.log,
            clock=self.clock,
            verify=self.verifying.verify,
        )
        self.review = Review(self.server)

    async def begun(
        self, data: bytes, answer: bytes = STREAM, *, prove: bool = False
    ) -> tuple[Downstream, Wire, Wire]:
        """Return a connection with an exchange under way, its wire and the backend's."""
        up, upstream = warm_backend(self.server)
        down, wire = caller(self.server)
        down.data_received(data)
        if prove:
            self.verifying.tell()
        await turn()
        if answer:
            up.data_received(answer)
            await turn()
        assert down.phase is Phase.BUSY
        return down, wire, upstream

    def change(self, **changes: object) -> None:
        """Change the key as the feed does."""
        self.table.by_digest[DIGESTER.digest(KEY)] = live_key(**changes)
        self.table.version += 1

    def look(self, after_s: float = 2.0) -> None:
        """Look at everything once, when some time has passed; the table is read meanwhile."""
        self.clock.now += after_s
        self.table.synced_at = self.clock.now
        self.review.go_on(self.clock.now)


@pytest.fixture
async def there() -> Installation:
    return Installation()


GET = b"GET /a HTTP/1.1\r\nHost: a\r\nX-API-KEY: " + KEY + b"\r\n\r\n"
POST = GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\nabc")


def revoke(there: Installation) -> None:
    there.change(revoked_at=1)


def expire(there: Installation) -> None:
    there.clock.now += 100_000


def remove(there: Installation) -> None:
    there.table.by_digest.clear()
    there.table.version += 1


def switch_tenant_off(there: Installation) -> None:
    there.table.tenants = {"default": TenantState(api_keys_enabled=False)}
    there.table.version += 1


def remove_user(there: Installation) -> None:
    there.table.users = {}
    there.table.version += 1


def narrow_role(there: Installation) -> None:
    there.change(role="unknown")


ENDS = [
    (revoke, Reason.KEY_REVOKED),
    (expire, Reason.KEY_EXPIRED),
    (remove, Reason.KEY_UNKNOWN),
    (switch_tenant_off, Reason.HOLDER_DISABLED),
    (remove_user, Reason.HOLDER_DISABLED),
    (narrow_role, Reason.ROUTE_DENIED),
]


@pytest.mark.parametrize(("end", "reason"), ENDS, ids=[end.__name__ for end, _ in ENDS])
async def test_a_stream_ends_with_what_let_it_in(
    there: Installation, end: Callable[[Installation], None], reason: Reason
) -> None:
    down, wire, upstream = await there.begun(GET)
    end(there)
    there.look()
    assert down.exchange is None
    assert wire.closing
    assert upstream.closing
    assert b"".join(wire.sent).endswith(b"3\r\nabc\r\n"), "no final chunk: the caller can tell"
    assert outcomes(there.server) == [(200, reason)]
    assert there.log.outcomes[0].key == live_key(), "who had been let in is recorded"
    assert there.log.ended[reason] == 1


async def test_a_download_of_known_length_is_cut_short(there: Installation) -> None:
    _, wire, upstream = await there.begun(GET, LENGTH)
    revoke(there)
    there.look()
    assert wire.closing
    assert upstream.closing
    assert outcomes(there.server) == [(200, "key_revoked")]


@pytest.mark.parametrize("data", [GET, POST], ids=["whole request", "half an upload"])
async def test_who_has_heard_nothing_yet_is_told_why(there: Installation, data: bytes) -> None:
    _, wire, upstream = await there.begun(data, b"")
    revoke(there)
    there.look()
    await turn()
    head, _, body = b"".join(wire.sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")
    assert json.loads(body)["code"] == "key_revoked"
    assert wire.closing is (data is POST), "what is left of an upload is never taken for a request"
    assert upstream.closing
    assert outcomes(there.server) == [(401, "key_revoked")]


async def test_an_upload_ends_when_its_user_becomes_a_viewer_and_her_downloads_go_on(
    there: Installation,
) -> None:
    _, upload, _ = await there.begun(POST, b"")
    download, _, _ = await there.begun(GET)
    there.table.users = {ANN: {"default": Permission.VIEWER}}
    there.table.version += 1
    there.look()
    await turn()
    assert b"".join(upload.sent).startswith(b"HTTP/1.1 403 ")
    assert outcomes(there.server) == [(403, "permission_denied")]
    assert download.phase is Phase.BUSY


async def test_what_waits_behind_a_request_that_is_ended_is_judged_by_itself(there: Installation) -> None:
    down, wire, _ = await there.begun(GET + OPEN, b"")
    up, _ = warm_backend(there.server)
    revoke(there)
    there.look()
    await turn()
    up.data_received(OK)
    await turn()
    answers = b"".join(wire.sent).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"401", b"200"]
    assert down.phase is Phase.IDLE


async def test_a_table_too_old_to_be_believed_ends_all_but_anonymous_streams(there: Installation) -> None:
    bound_s = there.server.snapshot.freshness.bound_s
    down, _, _ = await there.begun(GET)
    anonymous, _, _ = await there.begun(OPEN)
    there.clock.now += bound_s
    there.review.go_on(there.clock.now)
    assert down.exchange is not None, "as old as it may be"
    there.clock.now += 1.0
    there.review.go_on(there.clock.now)
    assert down.exchange is None
    assert outcomes(there.server) == [(200, "key_table_stale")]
    assert anonymous.exchange is not None
    assert there.server.take_used() == ["apk_one"]


async def test_a_request_of_the_last_second_is_left_to_end_as_it_began(there: Installation) -> None:
    down, _, _ = await there.begun(GET)
    revoke(there)
    there.look(after_s=0.9)
    assert down.exchange is not None
    there.look(after_s=0.2)
    assert down.exchange is not None, "the next look is not due"
    there.look(after_s=PASS_S)
    assert down.exchange is None


async def test_streams_of_live_keys_go_on_and_count_as_use(there: Installation) -> None:
    down, _, _ = await there.begun(GET)
    assert there.server.take_used() == ["apk_one"], "at first when it was let in"
    assert there.server.take_used() == []
    there.change(revoked_at=None)
    there.look()
    assert down.phase is Phase.BUSY
    assert there.server.take_used() == ["apk_one"]
    assert not any(there.log.ended.values())


async def test_a_login_counts_as_the_use_of_no_key(there: Installation) -> None:
    await there.begun(request(), prove=True)
    assert there.server.take_used() == []


async def test_a_login_that_is_ended_takes_its_streams_along(there: Installation) -> None:
    down, _, _ = await there.begun(request(), prove=True)
    there.look()
    assert down.phase is Phase.BUSY
    there.table.ended_tokens["tok_1"] = (NOW_S + 3600) * 1000
    there.table.version += 1
    there.look()
    assert down.exchange is None
    assert outcomes(there.server) == [(200, "token_invalid")]


async def test_a_login_token_ends_in_the_middle_of_its_stream(there: Installation) -> None:
    down, _, _ = await there.begun(request(), prove=True)
    there.look(after_s=3600)
    assert down.exchange is None
    assert outcomes(there.server) == [(200, "token_expired")]


def push_out(there: Installation) -> None:
    """Have a proven token forgotten, as when thousands of others have come since."""
    there.verifying.sessions.proven.clear()
    there.table.version += 1


async def test_a_token_that_was_pushed_out_is_checked_again_and_its_stream_goes_on(
    there: Installation,
) -> None:
    down, _, _ = await there.begun(request(), prove=True)
    push_out(there)
    there.look()
    assert down.phase is Phase.BUSY, "nothing speaks against it"
    assert len(there.verifying.asked) == 1
    there.verifying.tell()
    there.look(after_s=PROVING_S)
    there.look(after_s=PROVING_S)
    assert down.phase is Phase.BUSY
    assert there.verifying.asked == []


async def test_a_token_that_was_pushed_out_and_does_not_hold_ends_its_stream(there: Installation) -> None:
    down, _, _ = await there.begun(request(token=signed()), prove=True)
    push_out(there)
    there.look()
    there.verifying.tell(holds=False)
    there.look()
    assert down.exchange is None
    assert outcomes(there.server) == [(200, "token_invalid")]


@pytest.mark.parametrize("full", [False, True], ids=["never checked", "never taken"])
async def test_a_token_that_is_not_checked_in_time_is_not_believed(there: Installation, full: bool) -> None:
    down, _, _ = await there.begun(request(), prove=True)
    push_out(there)
    there.verifying.full = full
    there.look()
    there.look(after_s=PROVING_S - 1)
    assert down.phase is Phase.BUSY
    there.look(after_s=1)
    assert down.exchange is None
    assert outcomes(there.server) == [(200, "overloaded")]


async def test_one_tick_judges_a_bounded_number_and_no_pass_begins_before_its_time(
    there: Installation,
) -> None:
    streams = [(await there.begun(GET))[0] for _ in range(2 * SLICE + 1)]
    idle = [caller(there.server)[0] for _ in range(10)]
    there.router.asked = 0
    there.clock.now += 2.0
    there.table.synced_at = there.clock.now
    revoke(there)
    for left in (SLICE + 1, 1, 0):
        there.review.go_on(there.clock.now)
        there.clock.now += 0.1
        assert sum(stream.exchange is not None for stream in streams) == left
        assert there.router.asked == len(streams) - left
    assert all(connection.phase is Phase.IDLE for connection in idle)
    there.change(revoked_at=None)
    new, _, _ = await there.begun(GET)
    asked = there.router.asked
    there.clock.now += 0.1
    there.review.go_on(there.clock.now)
    assert there.router.asked == asked
    there.clock.now += 1.5
    there.review.go_on(there.clock.now)
    assert there.router.asked == asked + 1
    assert new.exchange is not None


async def test_a_fault_at_one_exchange_keeps_no_other_from_its_turn(there: Installation) -> None:
    streams = [await there.begun(GET) for _ in range(8)]

    def fail() -> None:
        raise RuntimeError("a fault of ours")

    for _, wire, _ in streams[::2]:
        wire.close = fail  # type: ignore[method-assign]
    revoke(there)
    there.clock.now += 2.0
    there.table.synced_at = there.clock.now
    for _ in streams:
        try:
            there.review.go_on(there.clock.now)
        except RuntimeError:
            there.clock.now += 0.1
    assert all(wire.closing for _, wire, _ in streams[1::2])
