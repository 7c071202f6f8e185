"""A rotation of peppers: in its order, with the signing keys, and never without a pepper in use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.control import peppers as module
from gateway.control.errors import Conflict
from gateway.control.peppers import RotationService
from gateway.control.service import KeyService
from gateway.control.signing import Signing
from gateway.core.tokens import Digester
from gateway.store.base import KeyRecord, Store
from gateway.store.operations import key_by_digest
from gateway.store.peppers import Found, keep_digests, tie_pepper
from gateway.store.urls import open_store
from tests.control.test_importing import Hasher
from tests.store.samples import ACTOR, audited, pepper_of

OLD, NEW = b"o" * 40, b"n" * 40
ONE, BOTH, LAST = Digester([OLD]), Digester([NEW, OLD]), Digester([NEW])
NEW_ID, OLD_ID = BOTH.pepper_ids


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite://{tmp_path}/gateway.db")
    await store.migrate()
    await store.write(tie_pepper(pepper_of(ONE)))
    yield store
    await store.close()


def rotation(store: Store, digester: Digester = BOTH) -> RotationService:
    return RotationService(store, digester, Signing(store, digester))


async def made(store: Store, digester: Digester, name: str = "k") -> tuple[KeyRecord, bytes]:
    service = KeyService(store, digester, Hasher(), {})
    created = await service.create_key(ACTOR, tenant="default", name=name, permission="viewer")
    return created.record, created.token.encode()


async def test_a_rotation_begins_with_the_newer_pepper_and_only_once(store: Store) -> None:
    service = rotation(store)
    assert (await service.standing()).prepared
    assert await service.begin(ACTOR) == NEW_ID
    standing = await service.standing()
    assert (standing.in_use, standing.begun, standing.prepared) == ((OLD_ID, NEW_ID), True, False)
    with pytest.raises(Conflict, match=f"from pepper {OLD_ID} to {NEW_ID} is not finished"):
        await service.begin(ACTOR)
    assert (await audited(store))[0].action == "pepper.rotate"


async def test_without_a_newer_pepper_nothing_begins(store: Store) -> None:
    with pytest.raises(Conflict, match="no newer one is at hand"):
        await rotation(store, ONE).begin(ACTOR)


async def test_keys_are_made_under_the_older_pepper_until_the_rotation_begins(store: Store) -> None:
    before, token = await made(store, BOTH)
    assert (before.digest, before.pepper_id, before.older_digest) == (ONE.digest(token), OLD_ID, None)
    await rotation(store).begin(ACTOR)
    during, token = await made(store, BOTH)
    assert (during.digest, during.older_digest) == (BOTH.digest(token), ONE.digest(token))
    late, token = await made(store, ONE)
    assert (late.digest, late.older_digest) == (ONE.digest(token), None)
    await rotation(store).finish(ACTOR, [OLD_ID])
    after, token = await made(store, BOTH)
    assert (after.digest, after.older_digest) == (LAST.digest(token), None)


async def test_whoever_lacks_the_pepper_that_is_left_makes_no_keys(store: Store) -> None:
    await rotation(store).begin(ACTOR)
    await rotation(store).finish(ACTOR, [OLD_ID])
    with pytest.raises(Conflict, match=f"pepper {NEW_ID}, which keys are made with now, is not here"):
        await made(store, ONE)


async def test_tokens_are_signed_by_the_same_key_before_and_after(store: Store) -> None:
    before = Signing(store, ONE)
    token = await before.sign({"sub": "x"})
    (key,) = await before.list_keys()
    await rotation(store).begin(ACTOR)
    (resealed,) = await before.list_keys()
    assert (resealed.kid, resealed.public_pem, resealed.pepper_id) == (key.kid, key.public_pem, NEW_ID)
    assert resealed.sealed != key.sealed
    assert await before.sign({"sub": "x"}) == token, "one that has opened it goes on"
    assert await Signing(store, BOTH).sign({"sub": "x"}) == token
    await rotation(store).finish(ACTOR, [OLD_ID])
    assert await Signing(store, LAST).sign({"sub": "x"}) == token
    with pytest.raises(Conflict, match="sealed under another pepper"):
        await Signing(store, ONE).sign({"sub": "x"})


async def test_a_signing_key_made_between_is_sealed_under_what_is_in_use(store: Store) -> None:
    await Signing(store, BOTH).rotate(ACTOR)
    assert [key.pepper_id for key in await Signing(store, BOTH).list_keys()] == [OLD_ID]
    await rotation(store).begin(ACTOR)
    await Signing(store, BOTH).rotate(ACTOR)
    assert [key.pepper_id for key in await Signing(store, BOTH).list_keys()] == [NEW_ID, NEW_ID]


async def test_the_end_names_what_was_not_seen_and_forgets_the_old_digests(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_AT_A_TIME", 1)
    seen, token = await made(store, BOTH, "seen")
    unseen, other = await made(store, BOTH, "unseen")
    service = rotation(store)
    await service.begin(ACTOR)
    await store.write(keep_digests([Found(seen.id, BOTH.digests(token), ONE.digest(token))]))
    assert [key.id for key in await service.unseen([OLD_ID])] == [unseen.id]
    await service.finish(ACTOR, [OLD_ID])
    assert (await service.standing()).in_use == (NEW_ID,)
    newest = (await audited(store))[0]
    assert (newest.action, newest.entity, newest.detail) == ("pepper.finish", OLD_ID, '{"coldKeys":1}')
    assert await store.read(key_by_digest(ONE.digest(other))) is None
    assert await store.read(key_by_digest(ONE.digest(token))) is None
    found = await store.read(key_by_digest(LAST.digest(token)))
    assert found is not None
    assert found.id == seen.id


async def test_the_last_pepper_in_use_stays(store: Store) -> None:
    with pytest.raises(Conflict, match="the only pepper in use"):
        await rotation(store).finish(ACTOR, [OLD_ID])


async def test_a_lost_pepper_is_replaced_and_its_signing_key_with_it(store: Store) -> None:
    await Signing(store, ONE).sign({})
    service = rotation(store, LAST)
    await service.begin(ACTOR, replacing=True)
    await service.finish(ACTOR, [OLD_ID])
    await Signing(store, LAST).sign({})
    keys = await Signing(store, LAST).list_keys()
    assert [(key.pepper_id, key.retired_at is None) for key in keys] == [(OLD_ID, False), (NEW_ID, True)]
