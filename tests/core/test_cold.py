"""Cold keys in the decision: found by their locators alone, asked about no more often than need be."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cold import VerifyKey
from gateway.core.decision import Decision, Forward, Proof, Snapshot, decide
from gateway.core.model import ColdKey, KeyTable, LiveKey, Permission
from gateway.core.tokens import Digester, check_digits, make_token
from tests.core.test_decision import CHOOSE, DIGESTER, EPOCH_S, NOW, a_head, a_snapshot, a_table, live_key
from tests.core.tokens import part, signed

COLD_TOKEN = "old-system-4f1c9a0d77aa"
LOCATOR = COLD_TOKEN[:10]
KEY_AUDIENCE = "gateway:key"


def cold_key(locator: str = LOCATOR, key_id: str = "apk_cold", **changes: object) -> ColdKey:
    key = live_key("viewer", Permission.VIEWER, **changes)
    key = msgspec.structs.replace(key, who=f"X-Gateway-Key-Id: {key_id}\r\n".encode())
    return ColdKey(key, locator.encode(), f"$argon2id${locator}")


def put_cold(table: KeyTable, cold: ColdKey) -> ColdKey:
    table.cold[cold.locator] = cold
    if cold.locator.decode() != cold.key.key_id:
        table.cold_lengths = tuple(sorted({*table.cold_lengths, len(cold.locator)}, reverse=True))
    table.version += 1
    return cold


@pytest.fixture
def table() -> KeyTable:
    return a_table()


@pytest.fixture
def snapshot(table: KeyTable) -> Snapshot:
    return a_snapshot(table)


def asked(snapshot: Snapshot, token: str, now: float = NOW, proof: Proof | None = None) -> Decision:
    return decide(a_head("GET /root", token), snapshot, now, proof)


def reason(decision: Decision) -> str:
    assert not isinstance(decision, (Forward, VerifyKey)), decision
    return decision.reason.value  # type: ignore[union-attr]


def wanted(snapshot: Snapshot, token: str) -> VerifyKey:
    decision = asked(snapshot, token)
    assert isinstance(decision, VerifyKey), decision
    return decision


def test_a_token_with_a_cold_key_s_locator_has_to_be_proven(snapshot: Snapshot, table: KeyTable) -> None:
    cold = put_cold(table, cold_key())
    decision = wanted(snapshot, COLD_TOKEN)
    assert (decision.cold, decision.token) == (cold, COLD_TOKEN.encode())
    assert decision.digest == DIGESTER.digest(COLD_TOKEN.encode())


@pytest.mark.parametrize(
    "token",
    [
        "old-systen-4f1c9a0d77aa",
        LOCATOR,
        LOCATOR[:-1],
        "x" + COLD_TOKEN,
        make_token("gw_live_", CHOOSE),
        make_token("gw_live_", CHOOSE)[:-1] + "!",
    ],
)
def test_whatever_else_is_refused_without_argon2id(snapshot: Snapshot, table: KeyTable, token: str) -> None:
    put_cold(table, cold_key())
    assert reason(asked(snapshot, token)) in {"key_unknown", "credential_malformed"}


def test_a_warm_key_s_locator_with_a_wrong_secret_asks_for_nothing(
    snapshot: Snapshot, table: KeyTable
) -> None:
    put_cold(table, cold_key())
    token = make_token("gw_live_", CHOOSE)
    table.by_digest[DIGESTER.digest(token.encode())] = live_key("viewer", Permission.VIEWER)
    stem = token[:20] + "0" * 32
    assert reason(asked(snapshot, stem + check_digits(stem.encode()))) == "key_unknown"


def test_a_proven_token_is_the_key_as_it_stands_now(snapshot: Snapshot, table: KeyTable) -> None:
    cold = put_cold(table, cold_key())
    proof = Proof()
    decision = wanted(snapshot, COLD_TOKEN)
    snapshot.cold.proven[decision.digest] = decision.cold
    assert isinstance(asked(snapshot, COLD_TOKEN, proof=proof), Forward)
    revoked = msgspec.structs.replace(cold.key, revoked_at=1)
    put_cold(table, msgspec.structs.replace(cold, key=revoked))
    assert reason(asked(snapshot, COLD_TOKEN, proof=proof)) == "key_revoked"
    put_cold(table, msgspec.structs.replace(cold, verifier="another"))
    assert isinstance(asked(snapshot, COLD_TOKEN), VerifyKey)
    del table.cold[cold.locator]
    assert reason(asked(snapshot, COLD_TOKEN)) == "key_unknown"


def test_what_has_ended_is_told_only_to_whom_the_token_is_proven(snapshot: Snapshot, table: KeyTable) -> None:
    put_cold(table, cold_key(expires_at=int(EPOCH_S * 1000) - 1))
    decision = wanted(snapshot, COLD_TOKEN)
    snapshot.cold.refused[decision.digest, decision.cold.locator] = decision.cold
    assert reason(asked(snapshot, COLD_TOKEN)) == "key_unknown"
    snapshot.cold.refused.clear()
    snapshot.cold.proven[decision.digest] = decision.cold
    assert reason(asked(snapshot, COLD_TOKEN)) == "key_expired"


@pytest.mark.parametrize(
    ("token", "unknown"), [(COLD_TOKEN, "nobody-knows-this"), ("old.system.5e", "nobody.knows.this")]
)
def test_a_wrong_token_is_refused_like_an_unknown_one_until_the_record_changes(
    snapshot: Snapshot, table: KeyTable, token: str, unknown: str
) -> None:
    cold = put_cold(table, cold_key(token[:10]))
    decision = wanted(snapshot, token)
    snapshot.cold.refused[decision.digest, cold.locator] = cold
    assert asked(snapshot, token) == asked(snapshot, unknown)
    put_cold(table, msgspec.structs.replace(cold))
    assert isinstance(asked(snapshot, token), VerifyKey)


def test_of_locators_that_begin_one_another_each_is_tried_the_longest_first(
    snapshot: Snapshot, table: KeyTable
) -> None:
    colds = [put_cold(table, cold_key(COLD_TOKEN[:n], f"apk_{n}")) for n in (4, 12, 8)]
    for cold in sorted(colds, key=lambda each: -len(each.locator)):
        decision = wanted(snapshot, COLD_TOKEN)
        assert decision.cold is cold
        snapshot.cold.refused[decision.digest, cold.locator] = cold
    assert reason(asked(snapshot, COLD_TOKEN)) == "key_unknown"


def test_nothing_is_asked_of_a_table_that_is_too_old(snapshot: Snapshot, table: KeyTable) -> None:
    put_cold(table, cold_key())
    assert isinstance(asked(snapshot, COLD_TOKEN, NOW + 299), VerifyKey)
    assert reason(asked(snapshot, COLD_TOKEN, NOW + 301)) == "key_table_stale"
    table.synced_at = None
    assert reason(asked(snapshot, COLD_TOKEN)) == "not_ready"


def jwt_key(key_id: str = "apk_cold", **changes: object) -> str:
    return signed({"aud": KEY_AUDIENCE, "jti": key_id, "iss": "gateway"} | changes).decode()


def test_a_cold_key_that_is_a_signed_token_is_found_by_its_id_and_only_so(
    snapshot: Snapshot, table: KeyTable
) -> None:
    cold = put_cold(table, cold_key("apk_cold"))
    assert wanted(snapshot, jwt_key()).cold is cold
    assert reason(asked(snapshot, jwt_key("apk_other"))) == "key_unknown"
    assert reason(asked(snapshot, jwt_key(aud="gateway:login"))) == "token_invalid"
    assert reason(asked(snapshot, "apk_cold" + "x" * 40)) == "key_unknown"


@pytest.mark.parametrize("jti", ["\ud800", 7, None, ["apk_cold"]])
def test_an_id_that_is_none_finds_nothing(snapshot: Snapshot, table: KeyTable, jti: object) -> None:
    put_cold(table, cold_key("apk_cold"))
    header = part(b'{"alg":"RS256","kid":"k"}')
    claims = part(json.dumps({"aud": KEY_AUDIENCE, "jti": jti}).encode())
    assert reason(asked(snapshot, (header + b"." + claims + b".AAAA").decode())) == "key_unknown"


OLD, NEW = b"o" * 40, b"n" * 40


def test_a_key_is_found_under_each_pepper_and_an_older_one_is_told() -> None:
    told: list[tuple[LiveKey, bytes, bytes]] = []
    token = make_token("gw_live_", CHOOSE)
    both = Digester([NEW, OLD])
    for digester, under, is_told in ((both, OLD, True), (both, NEW, False), (Digester([OLD]), OLD, False)):
        table = a_table()
        key = live_key("viewer", Permission.VIEWER)
        digest = Digester([under]).digest(token.encode())
        table.by_digest = {digest: key}
        snapshot = msgspec.structs.replace(
            a_snapshot(table), digester=digester, found_older=lambda *what: told.append(what)
        )
        told.clear()
        proof = Proof()
        for _ in range(2):
            decision = asked(snapshot, token, proof=proof)
            assert isinstance(decision, Forward)
            assert decision.key is key
        # What a connection has proven is not looked for again, so it is told once.
        assert told == [(key, token.encode(), digest)] * is_told


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1))
def test_no_token_is_proven_by_what_it_is_not_the_token_of(token: str) -> None:
    table = a_table()
    put_cold(table, cold_key(token[:3] or "x"))
    snapshot = a_snapshot(table)
    decision = asked(snapshot, token)
    if isinstance(decision, VerifyKey):
        assert token.encode().startswith(decision.cold.locator)
        assert len(token) > len(decision.cold.locator)
        assert decision.token == token.encode()
    else:
        assert not isinstance(decision, Forward)


def test_representations_keep_what_is_secret(snapshot: Snapshot, table: KeyTable) -> None:
    put_cold(table, cold_key())
    decision = wanted(snapshot, COLD_TOKEN)
    for shown in (repr(decision), repr(decision.cold)):
        assert "apk_cold" in shown
        assert COLD_TOKEN not in shown
        assert "argon2" not in shown
