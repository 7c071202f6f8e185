"""What an import asks: which keys are there, by digest or by locator, in portions."""

from __future__ import annotations

import secrets

from gateway.store.base import Store
from gateway.store.importing import PLACES, keys_present, locator_lengths
from tests.store.samples import ACTOR, a_key


async def test_what_is_there_is_found_by_either_digest_and_by_locator(store: Store) -> None:
    keys = [a_key(locator=f"locator-{n}") for n in range(PLACES + 5)]
    carried = a_key(older_digest=secrets.token_bytes(32), older_pepper_id="05060708")
    await store.bulk_insert([*keys, carried], ACTOR)
    strangers = [secrets.token_bytes(32) for _ in range(3)]
    asked = [key.digest for key in keys if key.digest is not None] + strangers
    assert carried.older_digest is not None
    by_digest, by_locator = await store.read(
        keys_present([*asked, carried.older_digest], [*(key.locator for key in keys), "nobody's"])
    )
    assert {each.id for each in by_digest.values()} == {key.id for key in [*keys, carried]}
    assert by_digest[carried.older_digest].id == carried.id
    assert not set(strangers) & by_digest.keys()
    assert {locator: each.id for locator, each in by_locator.items()} == {key.locator: key.id for key in keys}
    there = by_locator[keys[0].locator]
    assert (there.tenant_id, there.name, there.role) == ("default", keys[0].name, "viewer")
    assert (there.expires_at, there.verifier) == (keys[0].expires_at, keys[0].verifier)
    assert there.verifier not in repr(there)


async def test_nothing_is_asked_for_nothing(store: Store) -> None:
    assert await store.read(keys_present([], [])) == ({}, {})


async def test_the_lengths_of_locators_are_told_once_each(store: Store) -> None:
    assert await store.read(locator_lengths()) == set()
    await store.bulk_insert([a_key(locator="x" * n) for n in (5, 9)] + [a_key(locator="y" * 5)], ACTOR)
    assert await store.read(locator_lengths()) == {5, 9}
