"""Login tokens in the decision: what is refused at once, what is verified, and what she is now."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import Decision, Forward, Proof, Snapshot, decide
from gateway.core.envelope import TrustedIssuer
from gateway.core.headers import upstream_head
from gateway.core.jws import signature_holds
from gateway.core.model import Freshness, KeyTable, LiveKey, Permission, TenantState
from gateway.core.refusals import Reason
from gateway.core.section import FieldSection
from gateway.core.sessions import Sessions, VerifySignature
from gateway.keys.verifier import session_of
from tests.core.test_decision import DIGESTER, a_head, a_snapshot, live_key, put
from tests.core.tokens import KID, NOW_S, claims, ours, private_key, signed

BOOT = 1000.0
"""The boot clock when the store's says NOW_S."""
ANN = "subject_ann"
EXTERNAL = TrustedIssuer(
    issuer="https://idp",
    audience="api",
    algorithms=frozenset(("RS256",)),
    keys={"k": private_key("rsa2").public_key()},
    tenant_claim="org",
    role_claim="group",
    roles={"sites": "Sites", "read": "viewer"},
)


def a_table(standing: Permission | None = Permission.EDITOR) -> KeyTable:
    table = KeyTable()
    table.tenants = {"default": TenantState()}
    if standing is not None:
        table.users = {ANN: {"default": standing}}
    table.synced_at = BOOT
    table.store_offset_s = NOW_S - BOOT
    return table


def a_login_snapshot(table: KeyTable) -> Snapshot:
    issuers = {issuer.issuer: issuer for issuer in (ours(), EXTERNAL)}
    return msgspec.structs.replace(a_snapshot(table), sessions=Sessions(issuers=issuers))


def verified(decision: Decision, snapshot: Snapshot) -> bool:
    """Do what the verifier does with a decision."""
    assert isinstance(decision, VerifySignature), decision
    holds = signature_holds(decision.envelope, decision.issuer)
    if holds:
        snapshot.sessions.proven[decision.digest] = session_of(decision.claims, decision.issuer)
    else:
        snapshot.sessions.refused[decision.digest] = None
    return holds


def asked(line: str, token: bytes, snapshot: Snapshot, now: float = BOOT) -> Decision:
    """Return the decision after the verifier has had its say."""
    head = a_head(line, token.decode())
    decision = decide(head, snapshot, now)
    if isinstance(decision, VerifySignature):
        verified(decision, snapshot)
        decision = decide(head, snapshot, now)
    return decision


def outcome(decision: Decision) -> str:
    assert not isinstance(decision, VerifySignature)
    return decision.route.name if isinstance(decision, Forward) else decision.reason.value


def test_a_login_token_is_verified_once_and_then_found() -> None:
    snapshot = a_login_snapshot(a_table())
    head = a_head("GET /root", signed().decode())
    assert verified(decide(head, snapshot, BOOT), snapshot)
    assert isinstance(decide(head, snapshot, BOOT), Forward)


def test_a_bad_signature_is_checked_once_and_refused_from_then_on() -> None:
    snapshot = a_login_snapshot(a_table())
    head = a_head("GET /root", signed(key=private_key("rsa2")).decode())
    assert not verified(decide(head, snapshot, BOOT), snapshot)
    assert outcome(decide(head, snapshot, BOOT)) == "token_invalid"


@pytest.mark.parametrize(
    ("content", "header", "expected"),
    [
        ({"aud": "gateway:key"}, {}, "key_unknown"),
        ({"aud": "gateway:key", "iss": "nobody", "exp": 0}, {"kid": "other"}, "key_unknown"),
        ({"aud": "gateway:assertion"}, {}, "token_invalid"),
        ({"iss": "nobody"}, {}, "token_invalid"),
        ({}, {"kid": "unknown"}, "token_invalid"),
        ({}, {"crit": ["exp"]}, "token_invalid"),
        ({"exp": NOW_S}, {}, "token_expired"),
        ({"exp": NOW_S, "aud": "gateway:assertion"}, {}, "token_invalid"),
    ],
)
@pytest.mark.parametrize("stale", [False, True])
def test_what_cannot_be_ours_is_refused_without_a_check_and_only_while_the_table_is_fresh(
    content: dict[str, object], header: dict[str, object], expected: str, stale: bool
) -> None:
    snapshot = a_login_snapshot(a_table())
    token = signed(claims(**content), **header).decode()
    decision = decide(a_head("GET /root", token), snapshot, BOOT + (5.1 if stale else 0))
    assert outcome(decision) == ("key_table_stale" if stale else expected)


@pytest.mark.parametrize("token", [signed(), signed(kid="x"), signed(claims(exp=0)), b"a.b.c", b"nothing"])
def test_nothing_is_said_of_any_token_before_the_table_is_loaded(token: bytes) -> None:
    table = a_table()
    snapshot = a_login_snapshot(table)
    assert asked("GET /root", signed(), snapshot).__class__ is Forward
    table.synced_at = None
    assert outcome(decide(a_head("GET /root", token.decode()), snapshot, BOOT)) == "not_ready"


@pytest.mark.parametrize(("age", "expected"), [(5.1, "root"), (300.0, "root"), (300.1, "key_table_stale")])
@pytest.mark.parametrize("known", [False, True])
def test_a_login_is_served_as_long_as_a_key(age: float, expected: str, known: bool) -> None:
    snapshot = a_login_snapshot(a_table())
    if known:
        asked("GET /root", signed(), snapshot)
    assert outcome(asked("GET /root", signed(), snapshot, BOOT + age)) == expected


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("outage", "expected"), [(True, "root"), (False, "key_table_stale")])
def test_grace_holds_for_a_login_as_for_a_key(outage: bool, expected: str, known: bool) -> None:
    table = a_table()
    snapshot = msgspec.structs.replace(a_login_snapshot(table), freshness=Freshness(300, 5, grace_s=100))
    if known:
        asked("GET /root", signed(), snapshot)
    table.outage = outage
    assert outcome(asked("GET /root", signed(), snapshot, BOOT + 300.1)) == expected
    assert outcome(asked("GET /root", signed(), snapshot, BOOT + 400.1)) == "key_table_stale"


def test_a_table_that_is_too_old_says_nothing_of_a_login_and_asks_for_no_check() -> None:
    table = a_table()
    snapshot = a_login_snapshot(table)
    head = a_head("GET /root", signed().decode())
    assert outcome(decide(head, snapshot, BOOT + 300.1)) == "key_table_stale"
    asked("GET /root", signed(), snapshot)
    table.ended_tokens = {"tok_1": 0}
    assert outcome(decide(head, snapshot, BOOT + 300)) == "token_invalid"
    assert outcome(decide(head, snapshot, BOOT + 300.1)) == "key_table_stale"


@pytest.mark.parametrize(
    ("standing", "read", "write"),
    [
        (None, "holder_disabled", "holder_disabled"),
        (Permission.VIEWER, "root", "permission_denied"),
        (Permission.EDITOR, "root", "root"),
        (Permission.ADMIN, "root", "root"),
    ],
)
@pytest.mark.parametrize("at_login", ["viewer", "editor", "admin"])
def test_she_is_what_she_is_in_the_tenant_now_and_not_what_she_was_at_login(
    standing: Permission | None, read: str, write: str, at_login: str
) -> None:
    table = a_table(standing)
    table.users.setdefault(ANN, {})["acme"] = Permission.ADMIN
    snapshot = a_login_snapshot(table)
    token = signed(claims(role=at_login, permission=at_login))
    assert outcome(asked("GET /root", token, snapshot)) == read
    assert outcome(asked("POST /root", token, snapshot)) == write


def test_a_login_ends_with_the_tenant_with_logging_out_and_with_time() -> None:
    table = a_table()
    snapshot = a_login_snapshot(table)
    assert outcome(asked("GET /root", signed(), snapshot)) == "root"
    table.ended_tokens = {"tok_1": 0}
    ended = asked("GET /root", signed(), snapshot)
    assert outcome(ended) == "token_invalid"
    table.ended_tokens = {"tok_2": 0}
    assert outcome(asked("GET /root", signed(), snapshot)) == "root"
    table.tenants = {}
    assert outcome(asked("GET /root", signed(), snapshot)) == "holder_disabled"
    table.tenants = {"default": TenantState(api_keys_enabled=False)}
    assert outcome(asked("GET /root", signed(), snapshot)) == "root", "logins are no keys"
    table.synced_at = BOOT + 3600
    assert outcome(asked("GET /root", signed(), snapshot, BOOT + 3600)) == "token_expired"


def test_a_switched_off_tenant_still_refuses_its_keys() -> None:
    table = a_table()
    table.tenants = {"default": TenantState(api_keys_enabled=False)}
    put(table, "viewer", live_key("viewer", Permission.VIEWER))
    assert outcome(decide(a_head("GET /root", "viewer"), a_snapshot(table), BOOT)) == "holder_disabled"


def test_a_token_of_another_tenant_is_nothing_in_this_one() -> None:
    table = a_table()
    table.tenants["acme"] = TenantState()
    snapshot = a_login_snapshot(table)
    assert outcome(asked("GET /inner", signed(), snapshot)) == "route_denied"
    assert outcome(asked("GET /inner", signed(claims(tenant="acme", jti="2")), snapshot)) == "holder_disabled"
    table.users[ANN]["acme"] = Permission.VIEWER
    assert outcome(asked("GET /inner", signed(claims(tenant="acme", jti="2")), snapshot)) == "inner"


@pytest.mark.parametrize(
    ("standing", "role"),
    [(Permission.VIEWER, b"viewer"), (Permission.EDITOR, b"editor"), (Permission.ADMIN, b"editor")],
)
def test_the_backend_is_told_who_she_is(standing: Permission, role: bytes) -> None:
    head = a_head("GET /root", signed().decode())
    forward = asked("GET /root", signed(), a_login_snapshot(a_table(standing)))
    assert isinstance(forward, Forward)
    sent = upstream_head(
        head, forward, request_id=b"r", via=b"v", forwarded=b"X-Forwarded-For: c", authority=b"a"
    )
    lines = sent.split(b"\r\n")
    assert [line for line in lines if line.startswith(b"X-Gateway-")] == [
        b"X-Gateway-Subject: subject_ann",
        b"X-Gateway-Tenant: default",
        b"X-Gateway-Role: " + role,
        b"X-Gateway-Permission: " + role,
    ]
    assert signed() not in sent


def external(**changes: object) -> bytes:
    content = claims(iss="https://idp", aud="api", **({"org": "default", "group": "sites"} | changes))
    return signed(content, key=private_key("rsa2"), kid="k")


@pytest.mark.parametrize(
    ("line", "changes", "expected"),
    [
        ("PUT /sites/1", {}, "sites"),
        ("GET /root", {}, "route_denied"),
        ("GET /root", {"group": "read"}, "root"),
        ("POST /root", {"group": "read"}, "permission_denied"),
        ("GET /root", {"group": "strangers"}, "route_denied"),
        ("GET /root", {"org": "unknown"}, "holder_disabled"),
        ("GET /root", {"org": ""}, "holder_disabled"),
    ],
)
def test_an_external_token_may_do_what_its_mapped_role_may(
    line: str, changes: dict[str, object], expected: str
) -> None:
    # A user of the store with the very same name lends it nothing, and her logout ends nothing of it.
    table = a_table(Permission.ADMIN)
    table.ended_tokens = {"tok_1": 0}
    decision = asked(line, external(**changes), a_login_snapshot(table))
    assert outcome(decision) == expected


def test_the_issuer_of_an_unknown_key_id_is_told_once_a_token_could_be_its_own() -> None:
    told: list[str] = []
    issuers = {issuer.issuer: issuer for issuer in (ours(), EXTERNAL)}
    sessions = Sessions(issuers=issuers, key_missed=told.append)
    for token in (
        signed(claims(iss="https://idp", aud="api"), kid="new"),
        signed(claims(iss="https://idp", aud="other"), kid="new"),
        signed(claims(iss="https://idp", aud="api"), kid="new", algorithm="RS512"),
        signed(claims(), kid="new"),
        signed(claims(iss="https://stranger", aud="api"), kid="new"),
    ):
        assert sessions.judge(token, b"d", NOW_S) is Reason.TOKEN_INVALID
    assert told == ["https://idp"]


TOKENS = {
    "ann": signed().decode(),
    "forged": signed(key=private_key("rsa2")).decode(),
    "external": external().decode(),
    "unborn": signed(claims(jti="tok_2", nbf=NOW_S + 40)).decode(),
    "key": "viewer",
}
_LINES = st.sampled_from(["GET /root", "POST /root", "GET /sites"])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), _LINES, st.sampled_from(sorted(TOKENS))),
        st.tuples(st.just("stand"), st.sampled_from(["", "VIEWER", "EDITOR"]), st.none()),
        st.tuples(st.just("log out"), st.sampled_from(["tok_1", "tok_2"]), st.none()),
        st.tuples(st.just("wait"), st.sampled_from(["0.5", "6", "400", "3000"]), st.none()),
        st.tuples(st.just("sync"), st.just(""), st.none()),
        st.tuples(st.just("rotate"), st.sampled_from([KID, "sig_2"]), st.none()),
    ),
    max_size=30,
)  # fmt: skip


@given(steps=_STEPS)
def test_remembering_a_proof_changes_no_decision_about_a_login(
    steps: list[tuple[str, str, str | None]],
) -> None:
    table, proof, now = a_table(), Proof(), BOOT
    put(table, "viewer", live_key("viewer", Permission.VIEWER, expires_at=(NOW_S + 60) * 1000))
    snapshot = a_login_snapshot(table)
    last: FieldSection | None = None
    for step, what, name in steps:
        if step == "ask":
            assert name is not None
            head = a_head(what, TOKENS[name], last)
            last = head.fields
            decision = decide(head, snapshot, now, proof)
            assert repr(decision) == repr(decide(head, snapshot, now))
            if isinstance(decision, VerifySignature):
                verified(decision, snapshot)
        elif step == "stand":
            table.users = {ANN: {"default": Permission[what]}} if what else {}
            table.version += 1
        elif step == "log out":
            table.ended_tokens[what] = 0
            table.version += 1
        elif step == "wait":
            now += float(what)
        elif step == "sync":
            table.synced_at = now
        else:
            own = ours() if what == KID else msgspec.structs.replace(ours(), keys={})
            snapshot.sessions.issuers = {own.issuer: own, EXTERNAL.issuer: EXTERNAL}
            snapshot.sessions.proven.clear()
            snapshot.sessions.refused.clear()
            table.version += 1


def test_no_repr_shows_a_token() -> None:
    table = a_table()
    snapshot = a_login_snapshot(table)
    decision = decide(a_head("GET /root", signed().decode()), snapshot, BOOT)
    assert signed().rpartition(b".")[2].decode() not in repr(decision)
    assert "subject_ann" not in repr(decision)
    verified(decision, snapshot)
    session = snapshot.sessions.proven[DIGESTER.digest(signed())]
    assert isinstance(session.viewer, LiveKey)
    assert session.viewer.key_id is None
