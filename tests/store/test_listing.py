"""Pages of keys: every order, both directions, and nobody moves when keys are added."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway.store.base import DAY_MS, KeyRecord, Store, UnknownEntityError
from gateway.store.listing import SORTS, KeyFilter, KeyPage, Place, key_page
from tests.store.samples import ACTOR, a_key, a_tenant, audit, audit_of, now_ms

HERE = KeyFilter(tenant_id="default")
NOW = now_ms()
VALUE: dict[str, Callable[[KeyRecord], Any]] = {
    "created": lambda key: key.created_at,
    "createdByUser": lambda key: key.created_by,
    "sub": lambda key: key.subject_id,
    "status": lambda key: key.status(NOW),
    "description": lambda key: key.description,
    "number": lambda key: key.number,
}


async def filled(store: Store) -> list[KeyRecord]:
    """Keep thirty keys with few different values, so that ties are many."""
    choose = random.Random(1)
    keys = [
        a_key(
            created_at=NOW - choose.randrange(3),
            created_by=choose.choice(["ann", "bob", "Ärger"]),
            subject_id=choose.choice(["s1", "s2"]),
            description=choose.choice(["", "a", "b"]),
            expires_at=NOW + choose.choice([-1, 1]) * DAY_MS,
            revoked_at=choose.choice([None, None, NOW]),
        )
        for _ in range(30)
    ]
    await store.bulk_insert(keys, ACTOR)
    return await store.keys()


async def page(store: Store, limit: int, wanted: KeyFilter = HERE, **place: Any) -> KeyPage:
    return await store.read(key_page(wanted, Place(**place), limit, NOW))


def in_order(keys: list[KeyRecord], sort: str, descending: bool) -> list[str]:
    return [key.id for key in sorted(keys, key=lambda key: (VALUE[sort](key), key.id), reverse=descending)]


@pytest.mark.parametrize(("sort", "descending"), list(itertools.product(SORTS, [True, False])))
async def test_pages_join_to_the_whole_list_in_both_directions(
    store: Store, sort: str, descending: bool
) -> None:
    expected = in_order(await filled(store), sort, descending)
    order = {"sort": sort, "descending": descending}
    forward: list[str] = []
    cursor = None
    while True:
        found = await page(store, 7, after=cursor, **order)
        assert found.more_before is bool(forward)
        forward += [key.id for key in found.records]
        cursor = forward[-1]
        if not found.more_after:
            break
    assert forward == expected
    backward: list[str] = [expected[-1]]
    while True:
        found = await page(store, 7, before=backward[0], **order)
        assert found.more_after
        backward = [key.id for key in found.records] + backward
        if not found.more_before:
            break
    assert backward == expected


async def test_keys_added_while_paging_move_nobody(store: Store) -> None:
    before = in_order(await filled(store), "created", True)
    seen: list[str] = []
    cursor = None
    more = True
    while more:
        found = await page(store, 4, after=cursor)
        seen += [key.id for key in found.records]
        more, cursor = found.more_after, seen[-1]
        for age in (0, 1, 5):
            key = a_key(created_at=NOW - age)
            await store.insert_key(key, audit_of(key))
    assert [key_id for key_id in seen if key_id in before] == before
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"created_by": "ann"}, lambda key: key.created_by == "ann"),
        ({"subject_id": "s1"}, lambda key: key.subject_id == "s1"),
        ({"own": "s1"}, lambda key: key.subject_id == "s1"),
        ({"own": "bob"}, lambda key: key.created_by == "bob"),
        ({"status": "revoked"}, lambda key: key.status(NOW) == "revoked"),
        (
            {"status": "active", "created_by": "bob"},
            lambda k: (k.status(NOW), k.created_by) == ("active", "bob"),
        ),
        ({"created_by": "' OR 1=1 --"}, lambda key: False),
    ],
)
async def test_filters_narrow(
    store: Store, fields: dict[str, Any], holds: Callable[[KeyRecord], bool]
) -> None:
    keys = [key for key in await filled(store) if holds(key)]
    found = await page(store, 100, KeyFilter(tenant_id="default", **fields))
    assert [key.id for key in found.records] == in_order(keys, "created", True)
    assert not found.more_after
    assert not found.more_before


async def test_removed_keys_and_other_tenants_are_not_listed(store: Store) -> None:
    await store.insert_tenant(a_tenant("acme"), audit())
    for fields in ({"removed_at": 5, "revoked_at": 5}, {"tenant_id": "acme"}):
        key = a_key(**fields)
        await store.insert_key(key, audit_of(key))
    assert (await page(store, 10)).records == []


async def test_a_cursor_is_a_key_of_this_list(store: Store) -> None:
    await store.insert_tenant(a_tenant("acme"), audit())
    foreign, hers = a_key(tenant_id="acme"), a_key(created_by="ann", created_at=NOW)
    gone = a_key(removed_at=5, created_at=NOW + 1)
    for key in (foreign, hers, gone):
        await store.insert_key(key, audit_of(key))
    for cursor in (foreign.id, "apk_none", "'"):
        for place in ({"after": cursor}, {"before": cursor}):
            with pytest.raises(UnknownEntityError):
                await page(store, 10, **place)
    bobs = KeyFilter(tenant_id="default", own="bob")
    with pytest.raises(UnknownEntityError):
        await page(store, 10, bobs, after=hers.id)
    # The place of a removed key stays, so that who is in the middle of a list can go on.
    assert [key.id for key in (await page(store, 10, after=gone.id)).records] == [hers.id]
