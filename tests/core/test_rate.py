"""A rate as one number a caller admits what it says, over any time, and says when to come back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.rate import Rate, judge

rates = st.builds(Rate, st.integers(1, 1000), st.floats(1, 3600))
gaps = st.lists(st.floats(0, 100), max_size=200)


@given(rates, gaps)
def test_no_window_admits_more_than_twice_the_count_and_none_the_wrong_way(
    rate: Rate, waits: list[float]
) -> None:
    now, arrival, admitted = 1000.0, 0.0, []
    for wait in waits:
        now += wait
        verdict = judge(rate, arrival, now)
        arrival = verdict.arrival
        assert 0 <= verdict.remaining < rate.quota
        if verdict.admitted:
            admitted.append(now)
            assert verdict.retry_s == 0
        else:
            assert verdict.retry_s >= 1
            assert judge(rate, arrival, now + verdict.retry_s).admitted
    for start in admitted:
        within = [at for at in admitted if start <= at < start + rate.window_s]
        assert len(within) <= 2 * rate.quota + 1


@given(rates)
def test_the_count_that_is_said_to_remain_may_follow_at_once(rate: Rate) -> None:
    verdict = judge(rate, 0.0, 50.0)
    admitted = 1
    while verdict.remaining:
        expected = verdict.remaining - 1
        verdict = judge(rate, verdict.arrival, 50.0)
        assert verdict.admitted
        assert verdict.remaining == expected
        admitted += 1
    assert admitted == rate.quota
    assert not judge(rate, verdict.arrival, 50.0).admitted


@given(rates, st.floats(0, 10))
def test_who_keeps_to_the_rate_is_never_refused(rate: Rate, start: float) -> None:
    arrival, step = 0.0, rate.window_s / rate.quota
    for n in range(50):
        verdict = judge(rate, arrival, 1000 + start + n * step * 1.001)
        assert verdict.admitted
        arrival = verdict.arrival
