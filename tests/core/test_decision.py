"""The decision: its order, its refusals, and that remembering a proof changes none of them."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import Decision, Forward, Proof, Snapshot, decide
from gateway.core.http1 import RequestHead, parse_request_head
from gateway.core.limits import Limits
from gateway.core.model import Freshness, KeyTable, LiveKey, Permission, Reject, Role, TenantState
from gateway.core.refusals import Reason
from gateway.core.routes import Route, Router
from gateway.core.section import FieldSection
from gateway.core.tokens import Digester, make_token

NOW = 1000.0
EPOCH_S = 1_700_000_000.0
DIGESTER = Digester([b"p" * 32])
CHOOSE = random.Random(7).choice
TOKENS = {name: make_token("gw_live_", CHOOSE) for name in ("viewer", "editor", "scoped", "other", "lost")}
ROLES = {
    "viewer": Role("viewer", Permission.VIEWER),
    "editor": Role("editor", Permission.EDITOR),
    "Sites": Role("Sites", Permission.EDITOR, ("/sites",)),
}
ROUTES = (
    Route("open", "u", path="/open", anonymous=True),
    Route("search", "u", path="/search", read_methods=frozenset((b"POST",))),
    Route("inner", "u", path="/inner", tenants=frozenset(("acme",))),
    Route("strip", "u", path="/strip", strip_prefix="/strip"),
    Route("bearer", "u", path="/bearer", credentials=("authorization",)),
    Route("sites", "u", path="/sites"),
    Route("root", "u", path="/root"),
)


def live_key(role: str, permission: Permission, tenant: str = "default", **changes: object) -> LiveKey:
    facts = {"expires_at": int((EPOCH_S + 60) * 1000), "revoked_at": None, **changes}
    return LiveKey(b"X-Gateway-Key-Id: apk_1\r\n", b"", tenant, None, role, permission, **facts)  # type: ignore[arg-type]


def a_table() -> KeyTable:
    table = KeyTable()
    keys = {
        "viewer": live_key("viewer", Permission.VIEWER),
        "editor": live_key("editor", Permission.EDITOR),
        "scoped": live_key("Sites", Permission.EDITOR),
        "other": live_key("gone", Permission.EDITOR),
    }
    for name, key in keys.items():
        put(table, name, key)
    table.tenants = {"default": TenantState()}
    table.synced_at = NOW
    table.store_offset_s = EPOCH_S - NOW
    return table


def put(table: KeyTable, name: str, key: LiveKey) -> None:
    table.by_digest[DIGESTER.digest(TOKENS[name].encode())] = key
    table.version += 1


def a_snapshot(table: KeyTable) -> Snapshot:
    return Snapshot(Router(ROUTES), ROLES, table, DIGESTER, Freshness(bound_s=300, fresh_s=5))


def a_head(line: str, key: str | None = None, last: FieldSection | None = None) -> RequestHead:
    fields = "Host: a" if key is None else f"Host: a\r\nX-API-KEY: {TOKENS.get(key, key)}"
    head = parse_request_head(f"{line} HTTP/1.1\r\n{fields}".encode(), Limits(), last)
    assert isinstance(head, RequestHead)
    return head


def outcome(decision: Decision) -> str:
    return decision.route.name if isinstance(decision, Forward) else decision.reason.value


ROWS = [
    ("viewer reads", "GET /root", "viewer", "root"),
    ("viewer asks for options", "OPTIONS /root", "viewer", "root"),
    ("viewer writes", "POST /root", "viewer", "permission_denied"),
    ("viewer searches", "POST /search", "viewer", "search"),
    ("editor writes", "DELETE /root/1", "editor", "root"),
    ("no key", "GET /root", None, "credential_missing"),
    ("no key, nothing there", "GET /absent", None, "credential_missing"),
    ("a key, nothing there", "GET /absent", "viewer", "no_route"),
    ("a viewer writes to nothing", "POST /absent", "viewer", "permission_denied"),
    ("unknown key", "GET /root", "lost", "key_unknown"),
    ("mistyped key", "GET /root", TOKENS["viewer"][:-1] + "!", "credential_malformed"),
    ("a token that is not ours", "GET /root", "a.b.c", "token_invalid"),
    ("imported form, unknown", "GET /root", "legacy-key", "key_unknown"),
    ("anonymous needs none", "POST /open", None, "open"),
    ("anonymous judges none", "POST /open", "lost", "open"),
    ("another tenant's route", "GET /inner", "editor", "route_denied"),
    ("a role inside its prefix", "PUT /sites/1", "scoped", "sites"),
    ("a role outside its prefix", "GET /root", "scoped", "route_denied"),
    ("a role beside its prefix", "GET /sitesx", "scoped", "route_denied"),
    ("a role nobody knows", "GET /root", "other", "route_denied"),
    ("a field the route does not read", "GET /bearer", "viewer", "credential_missing"),
    ("a dot segment", "GET /root/../inner", "viewer", "bad_request"),
    ("a dot segment, no key", "GET /root/%2e%2e/inner", None, "bad_request"),
    ("stripping leaves two slashes", "GET /strip//x", "viewer", "bad_request"),
]


@pytest.mark.parametrize(("line", "key", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_decision_is_as_the_design_says(line: str, key: str | None, expected: str) -> None:
    assert outcome(decide(a_head(line, key), a_snapshot(a_table()), NOW)) == expected


@pytest.mark.parametrize(
    ("key", "age", "expected"),
    [
        ("viewer", 300.0, "root"),
        ("viewer", 300.1, "key_table_stale"),
        ("lost", 5.0, "key_unknown"),
        ("lost", 5.1, "key_table_stale"),
        (None, 1e6, "credential_missing"),
    ],
)
def test_age_of_the_table_decides_what_may_be_said(key: str | None, age: float, expected: str) -> None:
    table = a_table()
    put(table, "viewer", live_key("viewer", Permission.VIEWER, expires_at=2**60))
    assert outcome(decide(a_head("GET /root", key), a_snapshot(table), NOW + age)) == expected


@pytest.mark.parametrize(
    ("age", "outage", "key", "expected"),
    [
        (300.1, True, "viewer", "root"),
        (400.0, True, "viewer", "root"),
        (400.1, True, "viewer", "key_table_stale"),
        (300.1, False, "viewer", "key_table_stale"),
        (300.1, True, "lost", "key_table_stale"),
        (5.1, True, "lost", "key_table_stale"),
    ],
)
def test_grace_prolongs_what_is_known_while_reads_fail_and_nothing_else(
    age: float, outage: bool, key: str, expected: str
) -> None:
    """Who was frozen has not tried to read: it refuses until it has."""
    table = a_table()
    put(table, "viewer", live_key("viewer", Permission.VIEWER, expires_at=2**60))
    table.outage = outage
    snapshot = msgspec.structs.replace(a_snapshot(table), freshness=Freshness(300, 5, grace_s=100))
    assert outcome(decide(a_head("GET /root", key), snapshot, NOW + age)) == expected


def test_grace_lets_no_key_outlive_its_end() -> None:
    table = a_table()
    ends_at = int((EPOCH_S + 350) * 1000)
    put(table, "viewer", live_key("viewer", Permission.VIEWER, expires_at=ends_at))
    table.outage = True
    snapshot = msgspec.structs.replace(a_snapshot(table), freshness=Freshness(300, 5, grace_s=100))
    head = a_head("GET /root", "viewer")
    assert outcome(decide(head, snapshot, NOW + 349.9)) == "root"
    assert outcome(decide(head, snapshot, NOW + 350)) == "key_expired"


@pytest.mark.parametrize(
    ("age", "outage", "state"),
    [
        (0.0, False, "fresh"),
        (5.0, False, "fresh"),
        (5.1, False, "aging"),
        (5.1, True, "aging"),
        (300.0, True, "aging"),
        (300.1, True, "grace"),
        (300.1, False, "stale"),
        (400.0, True, "grace"),
        (400.1, True, "stale"),
        (None, True, "loading"),
    ],
)
def test_state_of_the_table_says_what_decisions_make_of_its_age(
    age: float | None, outage: bool, state: str
) -> None:
    table = a_table()
    put(table, "viewer", live_key("viewer", Permission.VIEWER, expires_at=2**60))
    table.outage = outage
    if age is None:
        table.synced_at = None
    now = NOW + (age or 0.0)
    freshness = Freshness(300, 5, grace_s=100)
    assert freshness.state(table, now) == state
    snapshot = msgspec.structs.replace(a_snapshot(table), freshness=freshness)
    refused = {"loading": "not_ready", "stale": "key_table_stale"}.get(state, "root")
    assert outcome(decide(a_head("GET /root", "viewer"), snapshot, now)) == refused


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"revoked_at": 1}, Reason.KEY_REVOKED),
        ({"expires_at": int(EPOCH_S * 1000)}, Reason.KEY_EXPIRED),
        ({"revoked_at": 1, "expires_at": 1}, Reason.KEY_REVOKED),
    ],
)
def test_a_key_that_ended_is_told_so_to_who_has_it_whole(changes: dict[str, int], expected: Reason) -> None:
    table = a_table()
    put(table, "viewer", live_key("viewer", Permission.VIEWER, **changes))
    decision = decide(a_head("GET /root", "viewer"), a_snapshot(table), NOW)
    assert isinstance(decision, Reject)
    assert decision.reason is expected
    assert decision.key is not None


def test_before_the_first_load_nobody_is_unknown() -> None:
    table = a_table()
    table.synced_at = None
    assert outcome(decide(a_head("GET /root", "lost"), a_snapshot(table), NOW)) == "not_ready"


def test_a_tenant_that_is_switched_off_or_gone_holds_its_keys_back() -> None:
    for tenants in ({}, {"default": TenantState(api_keys_enabled=False)}):
        table = a_table()
        table.tenants = tenants
        assert outcome(decide(a_head("GET /root", "viewer"), a_snapshot(table), NOW)) == "holder_disabled"


def test_a_role_that_was_narrowed_narrows_its_keys() -> None:
    snapshot = a_snapshot(a_table())
    roles = {**ROLES, "editor": Role("editor", Permission.VIEWER)}
    narrowed = Snapshot(snapshot.router, roles, snapshot.keys, DIGESTER, snapshot.freshness)
    assert outcome(decide(a_head("POST /root", "editor"), narrowed, NOW)) == "permission_denied"


@pytest.mark.parametrize("name", ["X-API-KEY", "Authorization"])
def test_a_connection_does_not_remember_credential_lines_that_are_long(name: str) -> None:
    """Ten thousand idle connections may each have sent thirty kilobytes of them."""
    table, proof = a_table(), Proof()
    snapshot = Snapshot(Router(ROUTES), ROLES, table, DIGESTER)
    head = parse_request_head(
        b"GET /root HTTP/1.1\r\nHost: a\r\n%b: %b" % (name.encode(), b"a" * 5000), Limits()
    )
    assert isinstance(head, RequestHead)
    assert decide(head, snapshot, NOW, proof) == decide(head, snapshot, NOW)
    assert (proof.api_keys, proof.authorizations) == ((), ())


_ASKED = st.sampled_from([row[1] for row in ROWS])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), _ASKED, st.sampled_from([*TOKENS, "a.b.c", None])),
        st.tuples(st.just("revoke"), st.sampled_from(list(TOKENS)), st.none()),
        st.tuples(st.just("create"), st.sampled_from(list(TOKENS)), st.none()),
        st.tuples(st.just("remove"), st.sampled_from(list(TOKENS)), st.none()),
        st.tuples(st.just("wait"), st.sampled_from(["3", "30", "400"]), st.none()),
    ),
    max_size=30,
)  # fmt: skip


@given(steps=_STEPS)
def test_remembering_a_proof_changes_no_decision(steps: list[tuple[str, str, str | None]]) -> None:
    table, proof, now = a_table(), Proof(), NOW
    snapshot = a_snapshot(table)
    last: FieldSection | None = None
    for step, what, key in steps:
        if step == "ask":
            head = a_head(what, key, last)
            last = head.fields
            assert decide(head, snapshot, now, proof) == decide(head, snapshot, now)
        elif step == "revoke":
            put(table, what, live_key("editor", Permission.EDITOR, revoked_at=1))
        elif step == "create":
            put(table, what, live_key("editor", Permission.EDITOR))
        elif step == "remove":
            table.by_digest.pop(DIGESTER.digest(TOKENS[what].encode()), None)
            table.version += 1
        else:
            now += float(what)


@pytest.mark.parametrize(
    ("standing", "read", "write"),
    [
        (None, "holder_disabled", "holder_disabled"),
        (Permission.VIEWER, "root", "permission_denied"),
        (Permission.EDITOR, "root", "root"),
        (Permission.ADMIN, "root", "root"),
    ],
)
@pytest.mark.parametrize("elsewhere", [None, Permission.ADMIN])
def test_a_key_that_acts_for_a_user_is_what_she_is_in_its_tenant_now(
    standing: Permission | None, elsewhere: Permission | None, read: str, write: str
) -> None:
    table = a_table()
    put(table, "editor", live_key("editor", Permission.EDITOR, user_id="subject_ann"))
    places = {"default": standing, "acme": elsewhere}
    table.users["subject_ann"] = {tenant: role for tenant, role in places.items() if role is not None}
    snapshot = a_snapshot(table)
    assert outcome(decide(a_head("GET /root", "editor"), snapshot, NOW)) == read
    assert outcome(decide(a_head("DELETE /root", "editor"), snapshot, NOW)) == write
    decision = decide(a_head("GET /root", "editor"), snapshot, NOW)
    if isinstance(decision, Forward):
        assert decision.permission is not None
        assert decision.permission <= Permission.EDITOR


def test_a_viewers_key_gains_nothing_from_a_user_who_is_more() -> None:
    table = a_table()
    put(table, "viewer", live_key("viewer", Permission.VIEWER, user_id="subject_ann"))
    table.users["subject_ann"] = {"default": Permission.ADMIN}
    head = a_head("DELETE /root", "viewer")
    assert outcome(decide(head, a_snapshot(table), NOW)) == "permission_denied"
