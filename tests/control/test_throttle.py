"""How often a password may be guessed: many at once, many replicas, names that are nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.control import throttle as throttle_module
from gateway.control.errors import Busy
from gateway.control.throttle import LIMITS, Throttle, Throttled, site_of
from gateway.core.tokens import Digester
from gateway.store.base import AuditRow, Store
from gateway.store.steps import Query, Row, Steps
from gateway.store.urls import open_store
from tests.control.samples import DIGESTER
from tests.store.samples import audit

ANN, HERE, THERE = "ann@example.com", "203.0.113.7", "203.0.113.8"
WINDOW_S = LIMITS.window_ms / 1000
Replica = Callable[[], Throttle]


def told(user_id: str | None) -> AuditRow:
    return audit("login.failure", "user", user_id or "stranger")


@pytest.fixture
def replica(store: Store, clock: list[float]) -> Replica:
    return lambda: Throttle(store, DIGESTER, clock=lambda: clock[0])


@pytest.fixture
def throttle(replica: Replica) -> Throttle:
    return replica()


def steps_of(query: Query) -> Steps[list[Row]]:
    return (yield query)


class Guesses:
    """Attempts whose passwords take a while to look at; ``most`` of them were looked at at once."""

    def __init__(self, right: bool) -> None:
        self.right = right
        self.looked_at = self.most = self._now = 0

    async def make(self, throttle: Throttle, name: str = ANN, address: str = HERE) -> str:
        try:
            attempt = await throttle.admit(name, address)
        except Throttled as error:
            in_window = 0 < error.retry_after_s <= WINDOW_S
            return "throttled" if in_window else f"throttled for {error.retry_after_s} s"
        self.looked_at += 1
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        if self.right:
            await throttle.passed(attempt, audit("login.success", "user"))
            return "right"
        await throttle.failed(attempt, name, told)
        return "wrong"


async def outcomes(attempts: list[Awaitable[str]]) -> dict[str, int]:
    found = await asyncio.gather(*attempts)
    return {outcome: found.count(outcome) for outcome in set(found)}


async def use_up(throttle: Throttle, name: str = ANN, address: str = HERE) -> None:
    guesses = Guesses(right=False)
    for _ in range(LIMITS.per_pair):
        assert await guesses.make(throttle, name, address) == "wrong"


@pytest.fixture
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits in this process is told of its turn and need not ask: asking would take too long."""
    monkeypatch.setattr(throttle_module, "ASK_AGAIN_S", 600.0)


@pytest.mark.usefixtures("told_at_once")
async def test_200_right_ones_at_once_from_one_address_all_pass(throttle: Throttle, store: Store) -> None:
    guesses = Guesses(right=True)
    async with asyncio.timeout(60):
        assert await outcomes([guesses.make(throttle) for _ in range(200)]) == {"right": 200}
    assert guesses.most <= LIMITS.per_pair
    ((turns,),) = await store.read(steps_of(Query("SELECT number FROM login_turn", literal=True)))
    assert turns == 2 * 200, "those who wait leave the store in peace"


@pytest.mark.usefixtures("told_at_once")
async def test_of_200_wrong_ones_at_once_no_more_are_looked_at_than_one_after_another(
    throttle: Throttle,
) -> None:
    guesses = Guesses(right=False)
    async with asyncio.timeout(60):
        assert await outcomes([guesses.make(throttle) for _ in range(200)]) == {
            "wrong": LIMITS.per_pair,
            "throttled": 200 - LIMITS.per_pair,
        }
    assert guesses.looked_at == LIMITS.per_pair


async def test_after_nine_failures_one_attempt_is_looked_at_and_the_others_wait_for_it(
    throttle: Throttle,
) -> None:
    guesses = Guesses(right=False)
    for _ in range(LIMITS.per_pair - 1):
        await guesses.make(throttle)
    attempt = await throttle.admit(ANN, HERE)
    rest = [asyncio.ensure_future(guesses.make(throttle)) for _ in range(5)]
    done, _ = await asyncio.wait(rest, timeout=0.05)
    assert not done
    await throttle.failed(attempt, ANN, told)
    assert await outcomes([*rest]) == {"throttled": 5}
    assert guesses.looked_at == LIMITS.per_pair - 1


async def test_of_many_names_at_once_no_more_are_looked_at_than_an_address_may(throttle: Throttle) -> None:
    guesses = Guesses(right=False)
    names = [f"name{i}@example.com" for i in range(LIMITS.per_address + 50)]
    assert await outcomes([guesses.make(throttle, name) for name in names]) == {
        "wrong": LIMITS.per_address,
        "throttled": 50,
    }


async def test_two_replicas_look_at_no_more_than_one(tmp_path: Path, clock: list[float]) -> None:
    stores = [open_store(f"sqlite://{tmp_path}/gateway.db") for _ in range(2)]
    await stores[0].migrate()
    replicas = [Throttle(store, DIGESTER, clock=lambda: clock[0]) for store in stores]
    guesses = Guesses(right=False)
    attempts = [guesses.make(replicas[i % 2]) for i in range(60)]
    assert await outcomes(attempts) == {"wrong": LIMITS.per_pair, "throttled": 60 - LIMITS.per_pair}
    await use_up(replicas[0], "bob@example.com")
    assert await guesses.make(replicas[1], "bob@example.com") == "throttled"
    for store in stores:
        await store.close()


async def test_right_ones_on_two_replicas_all_pass(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle_module, "ASK_AGAIN_S", 0.01)
    replicas, guesses = [replica(), replica()], Guesses(right=True)
    assert await outcomes([guesses.make(replicas[i % 2]) for i in range(60)]) == {"right": 60}
    assert guesses.most <= LIMITS.per_pair


async def test_a_user_is_not_locked_out_from_elsewhere(throttle: Throttle) -> None:
    await use_up(throttle)
    guesses = Guesses(right=False)
    assert await guesses.make(throttle) == "throttled"
    assert await guesses.make(throttle, address=THERE) == "wrong"
    assert await guesses.make(throttle, "bob@example.com") == "wrong"


async def test_one_subscriber_of_ipv6_is_one_address(throttle: Throttle) -> None:
    await use_up(throttle, address="2001:db8:1:2::1")
    guesses = Guesses(right=False)
    assert await guesses.make(throttle, address="2001:db8:1:2:ffff::9") == "throttled"
    assert await guesses.make(throttle, address="2001:db8:1:3::1") == "wrong"


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_addresses_are_told_apart_by_subscriber(address: str, site: str) -> None:
    assert site_of(address) == site


async def test_a_name_is_one_however_it_is_written(throttle: Throttle) -> None:
    await use_up(throttle, "J\u00f6rg@example.com")
    assert await Guesses(right=True).make(throttle, "jo\u0308rg@EXAMPLE.com") == "throttled"


async def test_the_limit_ends_with_its_window_and_says_when(throttle: Throttle, clock: list[float]) -> None:
    await use_up(throttle)
    for waited in (0.0, 1.5, WINDOW_S - 2.0):
        clock[0] += waited
        with pytest.raises(Throttled) as refused:
            await throttle.admit(ANN, HERE)
    assert refused.value.retry_after_s == 1
    clock[0] += 0.499
    with pytest.raises(Throttled):
        await throttle.admit(ANN, HERE)
    clock[0] += 0.001
    assert await Guesses(right=True).make(throttle) == "right"


async def test_success_forgives_what_went_before(throttle: Throttle) -> None:
    wrong, right = Guesses(right=False), Guesses(right=True)
    for _ in range(3):
        for _ in range(LIMITS.per_pair - 1):
            assert await wrong.make(throttle) == "wrong"
        assert await right.make(throttle) == "right"


async def test_a_withdrawn_attempt_counts_for_nothing(throttle: Throttle) -> None:
    for _ in range(LIMITS.per_pair + 1):
        await throttle.withdraw(await throttle.admit(ANN, HERE))


async def test_refusals_are_remembered_without_asking_the_store(throttle: Throttle, store: Store) -> None:
    await use_up(throttle)
    assert await Guesses(right=False).make(throttle) == "throttled"
    await store.close()
    assert await Guesses(right=False).make(throttle) == "throttled"


async def test_no_more_wait_than_can_be_held(throttle: Throttle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle_module, "MOST_AT_ONCE", 2)
    first, second = await throttle.admit(ANN, HERE), await throttle.admit(ANN, HERE)
    with pytest.raises(Busy):
        await throttle.admit(ANN, HERE)
    await throttle.withdraw(first)
    await throttle.withdraw(await throttle.admit(ANN, HERE))
    await throttle.withdraw(second)


async def test_who_waits_too_long_is_told_to_come_back(
    throttle: Throttle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle_module, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr(throttle_module, "ASK_AGAIN_S", 0.01)
    under_way = [await throttle.admit(ANN, HERE) for _ in range(LIMITS.per_pair)]
    with pytest.raises(Busy):
        await throttle.admit(ANN, HERE)
    for attempt in under_way:
        await throttle.withdraw(attempt)
    assert await Guesses(right=True).make(throttle) == "right"


async def test_who_goes_away_while_waiting_leaves_no_trace(
    throttle: Throttle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle_module, "MOST_AT_ONCE", LIMITS.per_pair + 3)
    for _ in range(3):
        under_way = [await throttle.admit(ANN, HERE) for _ in range(LIMITS.per_pair)]
        waiting = [asyncio.ensure_future(throttle.admit(ANN, HERE)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        gone = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in gone] == [asyncio.CancelledError] * 3
        for attempt in under_way:
            await throttle.withdraw(attempt)


async def test_what_was_typed_as_a_name_is_not_kept(throttle: Throttle, store: Store, tmp_path: Path) -> None:
    typed = "canary-that-is-a-password"
    attempt = await throttle.admit(typed, HERE)
    await throttle.failed(attempt, "", told)
    # A digest without a key could be guessed at as well.
    other = Throttle(store, Digester([b"another pepper for the tests of logins"]))
    assert (await other.admit(typed, HERE)).pair != attempt.pair
    await store.close()
    assert all(typed.encode() not in file.read_bytes() for file in tmp_path.iterdir())
