"""The judge itself: what it must let pass, and what it must not."""

from __future__ import annotations

import pytest

from tests.faults.judge import Beat, Call, Evidence, Judge, Sight, Window, is_short, tally
from tests.faults.truth import Truth

BOUND, FRESH = 3.0, 1.0


def judge(**seen: object) -> tuple[Judge, Evidence, Truth]:
    """A record in which ``k`` was made from 10.0 to 10.2 and revoked from 20.0 to 20.2."""
    truth = Truth()
    truth.created("k", "apk_k", 10.0, 10.2)
    truth.revoking("k", 20.0).acked = 20.2
    evidence = Evidence(sights=[[]], **seen)  # type: ignore[arg-type]
    return Judge(truth, evidence, bound=BOUND, fresh=FRESH), evidence, truth


def call(sent: float, status: int, code: str = "", token: str = "k", took: float = 0.01) -> Call:
    return Call(0, token, sent, sent + took, status, code)


@pytest.mark.parametrize(
    ("made", "right"),
    [
        (call(9.9, 200), False),
        (call(9.98, 200, took=0.03), True),
        (call(15.0, 200), True),
        (call(20.1, 200), True),
        (call(23.2, 200), True),
        (call(23.21, 200), False),
        (call(23.21, 200, took=9.0), False),
        (call(99.0, 200), False),
        (call(15.0, 200, token="never made"), False),
        (call(15.0, 401, "key_revoked"), False),
        (call(19.9, 401, "key_revoked", took=0.2), True),
        (call(30.0, 401, "key_revoked"), True),
        (call(11.1, 401, "key_unknown"), True),
        (call(11.3, 401, "key_unknown"), False),
        (call(30.0, 401, "key_unknown"), False),
        (call(15.0, 401, "key_unknown", token="never made"), True),
        (call(15.0, 401, "credential_malformed"), False),
        (call(15.0, 502, "upstream_unreachable"), False),
        (call(15.0, 0), False),
        (call(15.0, 503, "not_ready"), False),
    ],
)
def test_answers_are_held_against_what_the_key_may_have_been(made: Call, right: bool) -> None:
    assert (judge()[0].verdict(made) == "") is right


def test_a_revocation_that_nobody_acknowledged_excuses_both_answers_until_one_that_was() -> None:
    truth = Truth()
    truth.created("k", "apk_k", 10.0, 10.2)
    truth.revoking("k", 20.0)
    found = Judge(truth, Evidence(), bound=BOUND, fresh=FRESH)
    assert truth.unsettled() == ["k"]
    for at in (21.0, 99.0):
        assert found.verdict(call(at, 200)) == ""
        assert found.verdict(call(at, 401, "key_revoked")) == ""
    truth.revoking("k", 40.0).acked = 40.1
    assert found.verdict(call(39.0, 200)) == ""
    assert found.verdict(call(99.0, 200)) != ""


def test_an_expired_key_is_served_not_a_moment_longer_and_refused_not_much_sooner() -> None:
    truth = Truth()
    truth.created("k", "apk_k", 10.0, 10.2, 50.0)
    found = Judge(truth, Evidence(), bound=BOUND, fresh=FRESH)
    assert found.verdict(call(49.9, 200, took=9.0)) == ""
    assert found.verdict(call(50.1, 200)) != ""
    assert found.verdict(call(46.9, 401, "key_expired")) != ""
    assert found.verdict(call(47.1, 401, "key_expired")) == ""
    assert found.verdict(call(60.0, 401, "key_expired", token="never made")) != ""


def test_a_restored_store_is_the_truth_from_then_on() -> None:
    found, _, truth = judge()
    truth.created("late", "apk_late", 25.0, 25.1)
    assert sorted(truth.replaced({"apk_k": "live"}, 30.0, 31.0)) == ["k", "late"]
    assert found.verdict(call(29.9, 200)) != ""
    assert found.verdict(call(30.5, 200)) == ""
    assert found.verdict(call(33.9, 401, "key_revoked")) == ""
    assert found.verdict(call(34.1, 401, "key_revoked")) != ""
    assert found.verdict(call(33.9, 200, token="late")) == ""
    assert found.verdict(call(34.1, 200, token="late")) != ""
    assert found.verdict(call(35.0, 401, "key_unknown", token="late")) == ""
    assert truth.live == ["k"]


def test_a_table_that_was_seen_to_be_young_is_no_reason_to_refuse() -> None:
    found, evidence, truth = judge(unread=[Window(0, 0.0)])
    evidence.sights[0].append(Sight(15.0, 15.01, 0.2))
    assert found.verdict(call(15.02, 503, "key_table_stale")) != ""
    assert found.verdict(call(17.7, 503, "key_table_stale")) != ""
    assert found.verdict(call(17.9, 503, "key_table_stale")) == ""
    assert found.verdict(call(15.5, 503, "key_table_stale", token="never made")) != ""
    assert found.verdict(call(16.5, 503, "key_table_stale", token="never made")) == ""
    truth.created("new", "apk_new", 14.0, 14.9)
    assert found.verdict(call(16.5, 503, "key_table_stale", token="new")) == "", "made after that reading"
    evidence.down.append(Window(0, 15.1, 16.0))
    assert found.verdict(call(16.5, 503, "key_table_stale")) == "", "another process"


class Told:
    def __init__(self, short: bool) -> None:
        self.short = short

    def was_short(self, since: float, until: float) -> bool:
        return self.short


def test_a_gateway_that_can_read_has_no_reason_to_refuse() -> None:
    refused = call(15.0, 503, "key_table_stale")
    assert judge(pulse=Told(False))[0].verdict(refused) != ""
    assert judge(pulse=Told(True))[0].verdict(refused) == ""
    for name in ("unread", "down"):
        assert judge(pulse=Told(False), **{name: [Window(0, 12.0, 14.0)]})[0].verdict(refused) == ""
        assert judge(pulse=Told(False), **{name: [Window(0, 1.0, 11.0)]})[0].verdict(refused) != ""
        assert judge(pulse=Told(False), **{name: [Window(1, 12.0, 14.0)]})[0].verdict(refused) != ""


def test_a_machine_that_stands_still_or_has_no_idle_time_is_short() -> None:
    def beats(*, every: float, idle: int) -> list[Beat]:
        return [Beat(place * every, place * idle, place * 100) for place in range(20)]

    assert not is_short(beats(every=0.05, idle=30))
    assert is_short(beats(every=0.05, idle=5))
    assert is_short(beats(every=0.4, idle=90))
    assert is_short([Beat.now()]), "nothing is known of it"


def test_only_who_is_down_need_not_answer() -> None:
    found, evidence, _ = judge(down=[Window(0, 14.0, 16.0)])
    assert found.verdict(call(15.0, 0)) == ""
    assert found.verdict(call(15.0, 503, "not_ready")) == ""
    assert found.verdict(call(17.0, 0)) != ""
    evidence.severed.add(4711)
    assert found.verdict(Call(0, "k", 17.0, 17.1, 0, port=4711)) == ""


def test_what_was_acknowledged_and_is_not_in_the_store_is_told() -> None:
    _, _, truth = judge()
    assert truth.differences({"apk_k": "revoked"}) == []
    assert len(truth.differences({"apk_k": "live"})) == 1
    assert len(truth.differences({})) == 1
    truth.created("x", "apk_x", 1.0, 1.1)
    truth.revoking("x", 2.0)
    assert truth.differences({"apk_k": "revoked", "apk_x": "live"}) == []
    assert truth.differences({"apk_k": "revoked", "apk_x": "revoked"}) == []


def test_calls_are_counted_by_what_the_key_was_for_certain() -> None:
    _, _, truth = judge()
    calls = [call(15.0, 200), call(30.0, 401, "key_revoked"), call(20.1, 200), call(1.0, 0)]
    assert tally(calls, truth) == {
        "live: 200": 1,
        "revoked: key_revoked": 1,
        "changing: 200": 1,
        "absent: no answer": 1,
    }
