"""Every socket is accepted from, by somebody who has keys if there is anybody."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.workers.sharing import Standing, owned_by, shared_out

SERVES, WAITS, OUT = Standing
TWO_ADDRESSES = [[0, 1, 2], [3, 4, 5]]


def shared(*standings: Standing, patient: bool = False) -> list[set[int]]:
    return [set(sockets) for sockets in shared_out(TWO_ADDRESSES, standings, patient=patient)]


def test_each_has_its_own_while_all_serve() -> None:
    assert shared(SERVES, SERVES, SERVES) == [{0, 3}, {1, 4}, {2, 5}]


@pytest.mark.parametrize("other", [WAITS, OUT])
def test_who_serves_has_the_sockets_of_who_does_not(other: Standing) -> None:
    assert shared(SERVES, other, SERVES) == [{0, 1, 3, 4}, set(), {1, 2, 4, 5}]
    assert shared(other, other, SERVES) == [set(), set(), {0, 1, 2, 3, 4, 5}]


def test_nobody_accepts_while_nobody_has_keys_and_there_is_time() -> None:
    assert shared(WAITS, WAITS, OUT, patient=True) == [set(), set(), set()]
    assert shared(SERVES, WAITS, OUT, patient=True) == [{0, 1, 2, 3, 4, 5}, set(), set()]


def test_callers_are_told_in_the_end_that_nobody_has_keys() -> None:
    assert shared(WAITS, WAITS, WAITS) == [{0, 3}, {1, 4}, {2, 5}]
    assert shared(WAITS, OUT, WAITS) == [{0, 1, 3, 4}, set(), {1, 2, 4, 5}]


def test_one_socket_for_all_is_everybodys() -> None:
    assert shared_out([[0], [1, 2]], [SERVES, SERVES], patient=False) == [{0, 1}, {0, 2}]
    assert shared_out([[0], [1, 2]], [SERVES, OUT], patient=False) == [{0, 1, 2}, set()]


@given(st.lists(st.sampled_from(Standing), min_size=1, max_size=5), st.integers(1, 3), st.booleans())
def test_no_socket_is_left_alone(standings: list[Standing], addresses: int, one_for_all: bool) -> None:
    width = 1 if one_for_all else len(standings)
    numbers = itertools.count()
    shares = [[next(numbers) for _ in range(width)] for _ in range(addresses)]
    found = shared_out(shares, standings, patient=False)
    best = SERVES if SERVES in standings else WAITS
    for worker, (standing, sockets) in enumerate(zip(standings, found, strict=True)):
        assert (standing is best) == bool(sockets)
        assert standing is not best or owned_by(shares, worker) <= sockets
    taken = frozenset().union(*found)
    assert taken == (frozenset().union(*shares) if best in standings else frozenset())
