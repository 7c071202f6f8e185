"""The rates of callers: exact, apart from one another, and bounded in memory."""

from __future__ import annotations

import pytest

from gateway.control.http import tiers
from gateway.control.http.faults import FaultError
from gateway.control.http.tiers import Tiers
from gateway.core.rate import Rate


def refused(counting: Tiers, caller: str = "ann") -> int | None:
    """Count one request; return after how many seconds to come back when it is refused."""
    try:
        counting.count(caller, "write")
    except FaultError as error:
        return int(dict(error.fault.headers)["Retry-After"])
    return None


def test_the_whole_count_may_come_at_once_and_then_one_by_one() -> None:
    now = [1000.0]
    counting = Tiers(lambda: now[0], {"write": Rate(10, 60.0)})
    assert [refused(counting) for _ in range(10)] == [None] * 10
    assert refused(counting) == 6
    now[0] += 5.5
    assert refused(counting) == 1
    now[0] += 1
    assert (refused(counting), refused(counting)) == (None, 6)
    now[0] += 3600
    assert [refused(counting) for _ in range(11)] == [None] * 10 + [6]


def test_a_refused_request_costs_nothing() -> None:
    now = [1000.0]
    counting = Tiers(lambda: now[0], {"write": Rate(2, 60.0)})
    assert [refused(counting) for _ in range(50)] == [None, None] + [30] * 48
    now[0] += 30.1
    assert refused(counting) is None


def test_callers_are_counted_apart_and_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "MOST_CALLERS", 100)
    counting = Tiers(lambda: 1000.0, {"write": Rate(1, 60.0)})
    assert [refused(counting, f"caller {n}") for n in range(1000)] == [None] * 1000
    assert refused(counting, "caller 999") == 60
    assert len(counting._arrivals) == 100
