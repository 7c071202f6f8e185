"""When keys were last used, as a store keeps it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.base import KeyRecord, Store
from gateway.store.operations import read
from gateway.store.usage import NEAR_ENOUGH_MS, note_uses
from tests.store.samples import a_key, audit_of, audited, now_ms


async def kept(store: Store) -> KeyRecord:
    record = a_key()
    return await store.insert_key(record, audit_of(record))


async def used_at(store: Store, record: KeyRecord) -> int | None:
    found = await store.key(record.id)
    assert found is not None
    return found.last_used_at


async def noted(store: Store, uses: Sequence[tuple[str, int]]) -> None:
    await store.write(note_uses(uses), alone=False)


async def test_a_key_that_was_never_used_says_so(store: Store) -> None:
    assert await used_at(store, await kept(store)) is None


async def test_uses_are_kept_each_with_its_key(store: Store) -> None:
    first, second, third = [await kept(store) for _ in range(3)]
    at = now_ms()
    await noted(store, [(second.id, at + 1), (first.id, at), ("apk_nobody", at)])
    assert [await used_at(store, record) for record in (first, second, third)] == [at, at + 1, None]


async def test_an_instant_moves_on_but_not_back_and_not_for_a_little(store: Store) -> None:
    record, at = await kept(store), now_ms()
    for later, expected in (
        (0, 0),
        (-10 * NEAR_ENOUGH_MS, 0),
        (NEAR_ENOUGH_MS, 0),
        (NEAR_ENOUGH_MS + 1, NEAR_ENOUGH_MS + 1),
    ):
        await noted(store, [(record.id, at + later)])
        assert await used_at(store, record) == at + expected, later


async def test_use_is_no_change_that_anybody_follows_or_audits(store: Store) -> None:
    record = await kept(store)
    before = await store.read(read("change_head")), await audited(store)
    await noted(store, [(record.id, now_ms())])
    assert (await store.read(read("change_head")), await audited(store)) == before
    found = await store.key(record.id)
    assert found is not None
    assert found.updated_at == record.updated_at


async def test_nothing_to_note_is_fine(store: Store) -> None:
    await noted(store, [])


async def test_what_else_changes_a_key_leaves_its_last_use(store: Store) -> None:
    record, at = await kept(store), now_ms()
    await noted(store, [(record.id, at)])
    await store.revoke_key(record.id, at, "somebody", audit_of(record))
    assert await used_at(store, record) == at
