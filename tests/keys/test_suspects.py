"""Whose turn it is: floods are bounded, and keep neither other owners out nor the flooded key's for long."""

from __future__ import annotations

import itertools
import random

import pytest

from gateway.core.cold import VerifyKey
from gateway.keys.suspects import FAILURES, WAIT_S, WAITING_A_KEY, WAITING_MAX, Suspects, Try
from tests.core.test_cold import cold_key

_serial = itertools.count()
STEP_S = FAILURES.window_s / FAILURES.quota


def guess(locator: str = "flooded", token: str | None = None) -> VerifyKey:
    text = (token or f"{locator}-{next(_serial)}").encode()
    return VerifyKey(text, text, cold_key(locator))


class Queue:
    """A queue that is looked at, with the time in the test's hand."""

    def __init__(self) -> None:
        self.suspects = Suspects()
        self.given_up: list[Try] = []
        self.now = 1000.0

    def admit(self, wanted: VerifyKey | None = None, source: str = "stranger") -> Try | None:
        return self.suspects.admit(wanted or guess(), source, self.now, self.given_up)

    def begin(self) -> Try | None:
        return self.suspects.begin(self.now, self.given_up)

    def fail(self) -> bool:
        """Give the next its turn and find it wrong; False when none may have one now."""
        tried = self.begin()
        if tried is not None:
            self.suspects.end(tried, self.now, failed=True)
        return tried is not None


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_wrong_tokens_of_a_key_cost_a_burst_and_then_a_rate(queue: Queue) -> None:
    failed = 0
    for _ in range(3000):  # a thousand a second for three seconds
        queue.admit()
        while queue.fail():
            failed += 1
        queue.now += 0.001
    assert failed <= FAILURES.quota + 3 / STEP_S + 1
    assert failed >= FAILURES.quota


def test_it_is_known_when_the_next_may_have_its_turn(queue: Queue) -> None:
    assert queue.suspects.due_s(queue.now) is None
    for _ in range(FAILURES.quota):
        queue.admit()
        assert queue.fail()
    queue.admit()
    assert not queue.fail()
    due_s = queue.suspects.due_s(queue.now)
    assert due_s == pytest.approx(STEP_S)
    queue.now += due_s + 1e-6
    assert queue.fail()


def test_what_proves_right_counts_against_nothing(queue: Queue) -> None:
    for _ in range(10 * FAILURES.quota):
        queue.admit()
        tried = queue.begin()
        assert tried is not None
        queue.suspects.end(tried, queue.now, failed=False)


def test_one_key_has_one_turn_at_a_time(queue: Queue) -> None:
    queue.admit()
    queue.admit()
    assert queue.begin() is not None
    assert queue.begin() is None
    queue.admit(guess("another"))
    assert queue.begin() is not None


def test_the_same_token_waits_once(queue: Queue) -> None:
    first = queue.admit(guess(token="flooded-same"))
    assert queue.admit(guess(token="flooded-same")) is first
    assert queue.begin() is first
    assert queue.admit(guess(token="flooded-same")) is first
    assert queue.begin() is None


def test_a_flood_on_one_key_keeps_no_other_owner_waiting(queue: Queue) -> None:
    for _ in range(FAILURES.quota // 2):
        queue.admit()
        assert queue.fail()
    for _ in range(100):
        queue.admit()
    own = queue.admit(guess("another"), "owner")
    assert queue.begin() is own


def test_among_keys_that_nobody_guesses_at_the_first_comes_first(queue: Queue) -> None:
    tries = []
    for name in ("c", "a", "b"):
        tries.append(queue.admit(guess(name)))
        queue.now += 0.01
    assert [queue.begin() for _ in range(3)] == tries


def test_the_owner_of_a_flooded_key_has_the_next_turn_from_another_address(queue: Queue) -> None:
    for _ in range(2 * FAILURES.quota):
        queue.admit()
        queue.fail()
    for _ in range(100):
        queue.admit()
    own = queue.admit(guess(), "owner")
    assert own is not None, "there is room for her, at the flood's expense"
    assert {each.source for each in queue.given_up} == {"stranger"}
    queue.now += STEP_S + 1e-6
    assert queue.begin() is own


def test_many_addresses_have_their_turns_one_after_the_other(queue: Queue) -> None:
    sources = [f"stranger {n}" for n in range(4)]
    seen = []
    for _ in range(8):
        for source in sources:
            queue.admit(source=source)
        tried = queue.begin()
        assert tried is not None
        seen.append(tried.source)
        queue.suspects.end(tried, queue.now, failed=False)
    assert set(seen[:4]) == set(seen[4:]) == set(sources)


def test_the_owner_behind_the_flood_s_own_address_gets_in_by_chance_within_minutes(queue: Queue) -> None:
    waits = []
    for seed in range(5):
        order = random.Random(seed)
        fresh = Queue()
        for millisecond in itertools.count():
            is_owner = order.random() < 0.005  # five times a second
            fresh.admit(guess(token="flooded-right") if is_owner else None)
            tried = fresh.begin()
            if tried is not None and tried.wanted.token == b"flooded-right":
                break
            if tried is not None:
                fresh.suspects.end(tried, fresh.now, failed=True)
            fresh.now += 0.001
            assert millisecond < 600_000
        waits.append(millisecond / 1000)
    assert sorted(waits)[2] < 300


def test_what_waits_is_bounded_for_one_key_and_for_all(queue: Queue) -> None:
    assert [queue.admit() is not None for _ in range(WAITING_A_KEY + 5)].count(True) == WAITING_A_KEY
    many = Queue()
    for n in range(WAITING_MAX):
        assert many.admit(guess(str(n))) is not None
    assert many.admit(guess("one more")) is None
    assert many.given_up == []


def test_a_key_that_waits_for_much_makes_room_for_one_that_waits_for_nothing(queue: Queue) -> None:
    for n in range(WAITING_MAX // WAITING_A_KEY):
        for _ in range(WAITING_A_KEY):
            assert queue.admit(guess(str(n))) is not None
    assert queue.admit(guess("fresh")) is not None
    assert len(queue.given_up) == 1


def test_a_flood_over_many_keys_keeps_no_owner_elsewhere_out(queue: Queue) -> None:
    for number in range(2 * WAITING_MAX):
        queue.admit(guess(f"flooded-{number}"))
    assert queue.fail()
    assert queue.admit(guess("flooded-again")) is not None
    assert queue.given_up == []
    mine = queue.admit(guess("mine", "the right one"), source="owner")
    assert mine is not None, "there is room"
    assert [each.source for each in queue.given_up] == ["stranger"]
    assert queue.begin() is mine


def test_nobody_s_turn_is_spent_on_a_request_that_was_answered_long_ago(queue: Queue) -> None:
    late = queue.admit()
    queue.now += WAIT_S + 0.1
    assert queue.begin() is None
    assert queue.given_up == [late]
    assert queue.suspects.due_s(queue.now) is None
    fresh = queue.admit()
    assert queue.begin() is fresh


def test_what_is_over_is_forgotten(queue: Queue) -> None:
    for n in range(50):
        queue.admit(guess(str(n)))
        assert queue.fail()
    queue.now += FAILURES.window_s + 1
    queue.admit(guess("last"))
    queue.fail()
    assert len(queue.suspects._by_locator) == 1
