"""Successors, and what goes along when a key is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.control.errors import Invalid, NotFound, Refused
from gateway.control.grants import EXTERNAL_CLIENT, Maker
from gateway.control.service import KeyService
from gateway.core.model import Permission
from gateway.core.tokens import is_opaque
from gateway.store.base import DAY_MS, Store
from tests.control.samples import ANN, DIGESTER, NOW_MS
from tests.store.samples import a_key, audit_of, audited

Make = Callable[..., Any]


async def test_a_successor_has_its_own_id_and_token_and_all_else_of_the_old_key(
    make: Make, service: KeyService, store: Store
) -> None:
    await service.add_environment(ANN, "prod", tenant="default", prefix="qs_live_")
    old = (await make(environment="prod", permission="MediaEditor", description="d", ttl="30d")).record
    rotated = await service.rotate_key(ANN, old.id)
    new = rotated.successor.record
    assert is_opaque(rotated.successor.token.encode(), b"qs_live_")
    assert new.digest == DIGESTER.digest(rotated.successor.token.encode())
    assert (new.replaces, new.number) == (old.id, old.number + 1)
    for field in ("subject_id", "role", "permission", "environment_id", "tenant_id", "name", "description"):
        assert getattr(new, field) == getattr(old, field)
    assert new.id != old.id
    assert new.locator != old.locator
    assert (new.expires_at, rotated.old.expires_at) == (NOW_MS + 30 * DAY_MS, NOW_MS + DAY_MS)
    assert await store.key(old.id) == rotated.old
    actions = {(row.action, row.entity) for row in await audited(store)}
    assert {("key.rotate", old.id), ("key.create", new.id)} <= actions


@pytest.mark.parametrize(
    ("overlap", "ends_in_ms"), [("0s", 0), ("PT0S", 0), ("90m", 5_400_000), ("300d", 30 * DAY_MS)]
)
async def test_the_old_key_ends_at_the_earlier_of_its_end_and_the_overlap(
    make: Make, service: KeyService, overlap: str, ends_in_ms: int
) -> None:
    old = (await make(ttl="30d")).record
    rotated = await service.rotate_key(ANN, old.id, overlap=overlap)
    assert rotated.old.expires_at == NOW_MS + ends_in_ms
    assert rotated.old.status(NOW_MS) == ("active" if ends_in_ms else "expired")


async def test_a_successor_lives_no_longer_than_the_tenant_allows_now(
    make: Make, service: KeyService
) -> None:
    old = (await make()).record
    await service.set_tenant(ANN, "default", max_api_key_expiry="P7D")
    assert (await service.rotate_key(ANN, old.id)).successor.record.expires_at == NOW_MS + 7 * DAY_MS
    with pytest.raises(Invalid, match="ttl must be no later"):
        await service.rotate_key(ANN, old.id, ttl="8d")
    outside = (await make(maker=Maker(created_by="ann", sub_type=EXTERNAL_CLIENT))).record
    successor = (await service.rotate_key(ANN, outside.id)).successor.record
    assert successor.expires_at == outside.expires_at == NOW_MS + 365 * DAY_MS


@pytest.mark.parametrize("overlap", ["", "soon", "-1d", "P99999999999D", "P9999Y"])
async def test_an_overlap_is_a_duration(make: Make, service: KeyService, overlap: str) -> None:
    old = (await make()).record
    with pytest.raises(Invalid, match=r"^overlap "):
        await service.rotate_key(ANN, old.id, overlap=overlap)
    assert await service.list_keys() == [old]


async def test_what_has_ended_has_no_successor(make: Make, service: KeyService, clock: list[float]) -> None:
    revoked, expired = (await make()).record, (await make(ttl="1s")).record
    await service.revoke_key(ANN, revoked.id)
    clock[0] += 1
    for key, word in ((revoked, "revoked"), (expired, "expired")):
        with pytest.raises(Refused, match=f"is {word}"):
            await service.rotate_key(ANN, key.id)
    with pytest.raises(NotFound):
        await service.rotate_key(ANN, "apk_none")
    assert len(await service.list_keys()) == 2


async def test_a_key_has_one_successor(make: Make, service: KeyService) -> None:
    old = (await make()).record
    first = (await service.rotate_key(ANN, old.id)).successor.record
    with pytest.raises(Refused, match=f"has a successor already, {first.id}"):
        await service.rotate_key(ANN, old.id)
    results = await asyncio.gather(
        *(service.rotate_key(ANN, first.id) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, Refused) for result in results) == 4
    assert len(await service.list_keys()) == 3


async def test_keys_that_are_switched_off_have_no_successor(make: Make, service: KeyService) -> None:
    old = (await make()).record
    await service.set_tenant(ANN, "default", api_keys_enabled=False)
    with pytest.raises(Refused, match="switched off"):
        await service.rotate_key(ANN, old.id)


async def test_descendants_go_along_and_nobody_else(service: KeyService, store: Store) -> None:
    """root → child → grandchild; the child's successor is of the line, the root's is not."""
    keys = {}
    for name, maker, replaced in (
        ("root", None, None),
        ("child", "root", None),
        ("grandchild", "child", None),
        ("child's successor", None, "child"),
        ("of the child's successor", "child's successor", None),
        ("root's successor", None, "root"),
        ("stranger", None, None),
    ):
        record = a_key(
            name=name,
            permission=Permission.EDITOR,
            created_by_key=keys[maker].id if maker else None,
            replaces=keys[replaced].id if replaced else None,
        )
        keys[name] = await store.insert_key(record, audit_of(record))
    done = await service.revoke_key(ANN, keys["root"].id, descendants=True)
    assert not done.already
    gone = {"child", "grandchild", "child's successor", "of the child's successor"}
    assert {record.name for record in done.descendants} == gone
    for name, key in keys.items():
        record = await service.show_key(key.id)
        assert (record.revoked_at is not None) == (name in gone | {"root"}), name
    again = await service.revoke_key(ANN, keys["root"].id, descendants=True)
    assert again.already
    assert again.descendants == ()
    revoked = [row.entity for row in await audited(store) if row.action == "key.revoke"]
    assert sorted(revoked) == sorted(keys[name].id for name in gone | {"root"})


async def test_descendants_live_on_unless_asked(service: KeyService, store: Store) -> None:
    root = a_key(permission=Permission.EDITOR)
    child = a_key(created_by_key=root.id)
    for record in (root, child):
        await store.insert_key(record, audit_of(record))
    await service.revoke_key(ANN, root.id)
    assert (await service.show_key(child.id)).revoked_at is None
