"""Attempts to log in, as a store counts them for all replicas."""

from __future__ import annotations

import itertools

from gateway.store.base import AuditRow, Store
from gateway.store.login_attempts import (
    Admitted,
    Attempt,
    AttemptLimits,
    Crowded,
    Exhausted,
    admit_attempt,
    fail_attempt,
    pass_attempt,
    withdraw_attempt,
)
from gateway.store.operations import read
from tests.store.samples import audit, audited
from tests.store.test_people import added

LIMITS = AttemptLimits(per_pair=2, per_address=3, window_ms=1000, lease_ms=100, audited=3)
_ids = itertools.count(1)


def attempt(pair: str = "ann", address: str = "here") -> Attempt:
    return Attempt(f"attempt {next(_ids)}", f"{pair} {address}", address)


def told(user_id: str | None) -> AuditRow:
    return audit("login.failure", "user", user_id or "stranger")


async def fail(store: Store, made: Attempt, now: int, email: str = "ann@example.com") -> bool:
    assert await store.write(admit_attempt(made, LIMITS, now)) == Admitted()
    return await store.write(fail_attempt(made, LIMITS, now, email, told))


async def test_so_many_failures_of_a_pair_end_further_ones_until_the_first_is_forgotten(store: Store) -> None:
    await fail(store, attempt(), 1000)
    await fail(store, attempt(), 1500)
    for now in (1500, 1999):
        assert await store.write(admit_attempt(attempt(), LIMITS, now)) == Exhausted("pair", 2000)
    assert await store.write(admit_attempt(attempt(), LIMITS, 2000)) == Admitted()
    assert await store.write(admit_attempt(attempt("ann", "there"), LIMITS, 1999)) == Admitted()
    assert await store.write(admit_attempt(attempt("bob"), LIMITS, 1999)) == Admitted()


async def test_so_many_failures_of_an_address_end_those_of_every_name_there(store: Store) -> None:
    for name in ("ann", "bob", "carol"):
        await fail(store, attempt(name), 1000)
    assert await store.write(admit_attempt(attempt("dan"), LIMITS, 1000)) == Exhausted("address", 2000)
    assert await store.write(admit_attempt(attempt("dan", "there"), LIMITS, 1000)) == Admitted()


async def test_the_later_of_two_ends_is_told(store: Store) -> None:
    await fail(store, attempt("bob"), 1000)
    await fail(store, attempt(), 1100)
    await fail(store, attempt(), 1200)
    assert await store.write(admit_attempt(attempt(), LIMITS, 1300)) == Exhausted("pair", 2100)


async def test_attempts_under_way_take_what_is_left_and_give_it_back(store: Store) -> None:
    await fail(store, attempt(), 1000)
    first = attempt()
    assert await store.write(admit_attempt(first, LIMITS, 1000)) == Admitted()
    assert await store.write(admit_attempt(attempt(), LIMITS, 1000)) == Crowded("pair")
    await store.write(withdraw_attempt(first))
    assert await store.write(admit_attempt(attempt(), LIMITS, 1000)) == Admitted()
    assert await store.write(admit_attempt(attempt("bob"), LIMITS, 1000)) == Admitted()
    assert await store.write(admit_attempt(attempt("carol"), LIMITS, 1000)) == Crowded("address")


async def test_what_a_process_that_died_had_under_way_is_forgotten(store: Store) -> None:
    lost = [attempt(), attempt()]
    for made in lost:
        assert await store.write(admit_attempt(made, LIMITS, 1000)) == Admitted()
    assert await store.write(admit_attempt(attempt(), LIMITS, 1099)) == Crowded("pair")
    assert await store.write(admit_attempt(attempt(), LIMITS, 1100)) == Admitted()
    # It lived after all: its failure counts.
    await store.write(fail_attempt(lost[0], LIMITS, 1100, "ann@example.com", told))
    assert await store.write(admit_attempt(attempt(), LIMITS, 1100)) == Crowded("pair")


async def test_success_is_audited_and_forgives_the_pair_alone(store: Store) -> None:
    await fail(store, attempt(), 1000)
    await fail(store, attempt("bob"), 1000)
    right = attempt()
    assert await store.write(admit_attempt(right, LIMITS, 1000)) == Admitted()
    await store.write(pass_attempt(right, audit("login.success", "user")))
    left = await store.read(read("login_attempts_of_address", "here"))
    assert left == [(1, 1, 2000)]
    assert [row.action for row in await audited(store)].count("login.success") == 1


async def test_rows_are_dropped_when_they_no_longer_count(store: Store) -> None:
    for name in ("ann", "bob", "carol"):
        await fail(store, attempt(name), 1000)
    await store.write(admit_attempt(attempt("dan", "there"), LIMITS, 2000))
    assert await store.read(read("login_attempts_of_address", "here")) == [(0, 0, None)]


async def test_the_audit_has_the_first_failure_of_each_pair_and_no_more_than_so_many(store: Store) -> None:
    ann = await added(store)
    assert await fail(store, attempt(), 1000)
    assert not await fail(store, attempt(), 1000)
    assert await fail(store, attempt("bob"), 1000, "bob@example.com")
    assert await fail(store, attempt("carol", "there"), 1000, "")
    assert not await fail(store, attempt("dan", "there"), 1000, "")
    assert await fail(store, attempt("dan", "there"), 2000, "")
    rows = [row for row in await audited(store) if row.action == "login.failure"]
    assert sorted(row.entity for row in rows) == sorted([ann.user.id, "stranger", "stranger", "stranger"])


async def test_attempts_are_no_changes_that_a_key_table_has_to_read(store: Store) -> None:
    before = await store.read(read("change_head"))
    await fail(store, attempt(), 1000)
    right = attempt()
    await store.write(admit_attempt(right, LIMITS, 1000))
    await store.write(pass_attempt(right, audit("login.success", "user")))
    assert await store.read(read("change_head")) == before
