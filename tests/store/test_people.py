"""Users and memberships in a store, and how their changes reach a key table."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from gateway.core.model import Permission
from gateway.core.uuid7 import uuid7
from gateway.keys.clock import boot_clock
from gateway.store import people
from gateway.store.base import (
    AuditRow,
    ChangeKind,
    Delta,
    DuplicateError,
    Membership,
    Person,
    Store,
    UnknownEntityError,
    User,
)
from gateway.store.history import Standing
from gateway.store.steps import Steps
from tests.store.samples import a_key, a_tenant, audit, audit_of, now_ms


def a_user(email: str) -> User:
    now = now_ms()
    return User(
        id=f"subject_{uuid7(now, secrets.token_bytes(10))}",
        email=email,
        password_hash="$argon2id$made-up",
        default_tenant_id="default",
        created_at=now,
        updated_at=now,
    )


def member(user: User, tenant: str = "default", role: Permission = Permission.EDITOR) -> Membership:
    return Membership(user_id=user.id, tenant_id=tenant, role=role, created_at=now_ms())


async def added(store: Store, email: str = "ann@example.com", role: Permission = Permission.EDITOR) -> Person:
    user = a_user(email)
    return await store.write(
        people.add_user(user, member(user, role=role), audit(kind="user", entity=user.id))
    )


def told(action: str, kind: ChangeKind, entity: str) -> AuditRow:
    return audit(action, kind, entity)


async def test_a_user_comes_back_as_she_was_kept(store: Store) -> None:
    ann = await added(store)
    assert await store.read(people.person(ann.user.id)) == ann
    assert await store.read(people.person_by_email("ann@example.com")) == ann
    assert await store.read(people.person_by_email("bob@example.com")) is None
    assert await store.read(people.people(None)) == [ann]
    assert await store.read(people.people("default")) == [ann]
    assert await store.read(people.people("acme")) == []
    assert ann.role_in("default") is Permission.EDITOR
    assert ann.role_in("acme") is None
    assert "argon2" not in repr(ann)


async def test_an_address_is_one_users_and_a_membership_is_one(store: Store) -> None:
    ann = await added(store)
    with pytest.raises(DuplicateError):
        await added(store)
    with pytest.raises(DuplicateError):
        await store.write(people.join(member(ann.user), audit()))
    with pytest.raises(UnknownEntityError):
        await store.write(people.join(member(ann.user, "nowhere"), audit()))
    stranger = a_user("bob@example.com")
    with pytest.raises(UnknownEntityError):
        await store.write(people.add_user(stranger, member(stranger, "nowhere"), audit()))
    assert await store.read(people.people(None)) == [ann]


async def test_who_leaves_takes_the_keys_that_act_as_her_along(store: Store) -> None:
    await store.insert_tenant(a_tenant("acme"), audit())
    ann = (await added(store)).user
    await store.write(people.join(member(ann, "acme"), audit(kind="user", entity=ann.id)))
    here = a_key(sub_type="user", subject_id=ann.id)
    there = a_key(sub_type="user", subject_id=ann.id, tenant_id="acme")
    own = a_key(created_by=ann.id)
    for key in (here, there, own):
        await store.insert_key(key, audit_of(key))
    left, taken = await store.write(people.leave(ann.id, "default", 1000, "bob", told))
    assert taken == [here.id]
    assert left.user.default_tenant_id == "acme"
    assert left.user.removed_at is None
    revoked = await store.key(here.id)
    assert revoked is not None
    assert (revoked.revoked_at, revoked.revoked_by) == (1000, "bob")
    left, taken = await store.write(people.leave(ann.id, None, 2000, "bob", told))
    assert taken == [there.id]
    assert (left.user.removed_at, left.user.password_hash, left.memberships) == (2000, "", ())
    kept = await store.key(own.id)
    assert kept is not None
    assert kept.revoked_at is None
    with pytest.raises(UnknownEntityError):
        await store.write(people.leave(ann.id, None, 3000, "bob", told))
    assert (await added(store)).user.id != ann.id


async def test_a_default_tenant_is_one_of_hers(store: Store) -> None:
    await store.insert_tenant(a_tenant("acme"), audit())
    ann = (await added(store)).user
    with pytest.raises(UnknownEntityError):
        await store.write(people.change_user(ann.id, {"default_tenant_id": "acme"}, 9, audit()))
    with pytest.raises(UnknownEntityError):
        await store.write(people.change_role(ann.id, "acme", Permission.ADMIN, audit()))


async def test_a_follower_sees_what_users_are_now(store: Store) -> None:
    ann = (await added(store)).user
    follower = store.follow(boot_clock)
    start = await follower.begin_load()
    assert start.users.ids is None
    assert start.users.standings == [(ann.id, "default", "editor")]
    position = start.position
    viewer = [(ann.id, "default", "viewer")]
    changes: list[tuple[Steps[Any], list[Standing]]] = [
        (
            people.change_role(ann.id, "default", Permission.VIEWER, audit(kind="user", entity=ann.id)),
            viewer,
        ),
        (people.change_user(ann.id, {"disabled_at": 9}, 9, audit(kind="user", entity=ann.id)), []),
        (people.change_user(ann.id, {"disabled_at": None}, 9, audit(kind="user", entity=ann.id)), viewer),
        (people.leave(ann.id, None, 9, "bob", told), []),
    ]
    for work, standings in changes:
        await store.write(work)
        delta = await follower.poll(position, lambda row: row.id)
        assert isinstance(delta, Delta)
        assert delta.users is not None
        assert (delta.users.ids, delta.users.standings) == (frozenset({ann.id}), standings)
        assert delta.scopes is None
        position = delta.position
    await follower.close()
