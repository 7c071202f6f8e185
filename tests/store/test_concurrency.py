"""Promises that hold however many processes write at once; each store here stands for one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

import pytest

from gateway.core.model import Permission
from gateway.store import operations as ops
from gateway.store import people
from gateway.store.base import AuditRow, CapError, KeyRecord, Person, Store, StoreError
from gateway.store.login_attempts import (
    Admitted,
    Attempt,
    AttemptLimits,
    Crowded,
    admit_attempt,
    fail_attempt,
)
from gateway.store.members import change_member
from gateway.store.steps import Steps
from gateway.store.urls import open_store
from tests.store.samples import a_key, a_tenant, audit, audit_of
from tests.store.test_people import a_user, member

T = TypeVar("T")


@pytest.fixture
async def two(store_url: str) -> AsyncIterator[tuple[Store, Store]]:
    stores = open_store(store_url), open_store(store_url)
    await stores[0].migrate()
    yield stores
    for store in stores:
        await store.close()


async def outcomes(
    works: Iterable[Callable[[], Awaitable[T]]], *refused: type[Exception]
) -> list[T | Exception]:
    """Do all at once, each again while the store is busy; return results and refusals."""

    async def outcome(work: Callable[[], Awaitable[T]]) -> T | Exception:
        while True:
            try:
                return await work()
            except StoreError:
                continue
            except refused as error:
                return error

    return list(await asyncio.gather(*map(outcome, works)))


async def test_a_hundred_creations_at_once_from_two_processes_keep_to_the_cap(
    two: tuple[Store, Store],
) -> None:
    root, cap = "subject_ann", 5

    def create(number: int) -> Callable[[], Awaitable[KeyRecord]]:
        key = a_key(root_id=root)
        return lambda: two[number % 2].write(ops.insert_key(key, audit_of(key), cap=cap))

    found = await outcomes(map(create, range(100)), CapError)
    assert sum(isinstance(outcome, KeyRecord) for outcome in found) == cap
    assert len(await two[0].keys()) == cap


async def test_of_two_admins_who_step_down_at_once_one_stays(two: tuple[Store, Store]) -> None:
    for round_ in range(10):
        tenant = f"t{round_}"
        await two[0].insert_tenant(a_tenant(tenant), audit())
        admins = [a_user(f"{name}@{tenant}.test") for name in ("ann", "bob")]
        for user in admins:
            joined = member(user, tenant=tenant, role=Permission.ADMIN)
            await two[0].write(people.add_user(user, joined, audit(kind="user", entity=user.id)))

        def step_down(store: Store, user_id: str, tenant: str = tenant) -> Callable[[], Awaitable[object]]:
            def work() -> Steps[Person]:
                return people.change_role(
                    user_id, tenant, Permission.VIEWER, audit(kind="user", entity=user_id)
                )

            return lambda: store.write(change_member(tenant, user_id, [work()]))

        works = [step_down(store, user.id) for store, user in zip(two, admins, strict=True)]
        found = await outcomes(works, people.LastAdminError)
        assert sum(isinstance(outcome, people.LastAdminError) for outcome in found) == 1
        ((count,),) = await two[1].read(ops.read("active_admins", tenant))
        assert count == 1


async def test_of_many_attempts_to_log_in_at_once_no_more_are_admitted_than_may_fail(
    two: tuple[Store, Store],
) -> None:
    limits = AttemptLimits(per_pair=3, per_address=100, window_ms=60_000, lease_ms=60_000, audited=3)

    def admit(number: int) -> Callable[[], Awaitable[object]]:
        attempt = Attempt(f"attempt {number}", "ann here", "here")
        return lambda: two[number % 2].write(admit_attempt(attempt, limits, 1000), alone=False)

    found = await outcomes(map(admit, range(40)))
    assert found.count(Admitted()) == 3
    assert found.count(Crowded("pair")) == 37


async def test_of_many_failures_at_once_the_first_alone_is_told(two: tuple[Store, Store]) -> None:
    limits = AttemptLimits(per_pair=20, per_address=100, window_ms=60_000, lease_ms=60_000, audited=9)
    made = [Attempt(f"attempt {number}", "ann here", "here") for number in range(20)]
    for attempt in made:
        assert await two[0].write(admit_attempt(attempt, limits, 1000), alone=False) == Admitted()

    def fail(number: int) -> Callable[[], Awaitable[bool]]:
        def told(_: str | None) -> AuditRow:
            return audit("login.failure", "user", "stranger")

        work = (made[number], limits, 1000, "ann@here.test", told)
        return lambda: two[number % 2].write(fail_attempt(*work), alone=False)

    assert sorted(await outcomes(map(fail, range(20))), key=bool) == [False] * 19 + [True]
