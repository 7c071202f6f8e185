"""The users of one tenant in a store: pages, changes within what is administered, who made which key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core.model import Permission
from gateway.store import members, people
from gateway.store.base import DuplicateError, Membership, Person, Store, UnknownEntityError
from gateway.store.lineage import makers
from gateway.store.members import ForeignPasswordError, NotAdministeredError
from gateway.store.operations import key_by_number
from gateway.store.people import LastAdminError
from tests.store.samples import a_key, a_tenant, audit, audit_of, audited, now_ms
from tests.store.test_people import a_user

ADMIN, VIEWER = Permission.ADMIN, Permission.VIEWER


@pytest.fixture
async def store(store: Store) -> Store:
    await store.insert_tenant(a_tenant("acme"), audit("tenant.create", "tenant", "acme"))
    return store


async def joined(
    store: Store, name: str, *where: tuple[str, Permission], password_from: str | None = None
) -> Person:
    """Keep a user of some tenants."""
    (tenant, role), *others = where
    user = a_user(f"{name}@example.com")
    fields: dict[str, Any] = {"default_tenant_id": tenant, "password_from": password_from}
    user = msgspec.structs.replace(user, **fields)
    first = Membership(user_id=user.id, tenant_id=tenant, role=role, created_at=now_ms())
    person = await store.write(people.add_user(user, first, audit("user.create", "user", user.id)))
    for tenant, role in others:
        more = Membership(user_id=user.id, tenant_id=tenant, role=role, created_at=now_ms())
        person = await store.write(people.join(more, audit("user.join", "user", user.id)))
    return person


def renamed(person: Person) -> Any:
    """Return work that changes a field which concerns every tenant."""
    row = audit("user.disable", "user", person.user.id)
    return people.change_user(person.user.id, {"disabled_at": 7}, now_ms(), row)


def demoted(person: Person, tenant: str = "default") -> Any:
    row = audit("user.role", "user", person.user.id)
    return people.change_role(person.user.id, tenant, VIEWER, row)


async def test_pages_hold_the_members_of_one_tenant_by_address(store: Store) -> None:
    for name in ("dan", "ann", "carl", "bob"):
        await joined(store, name, ("default", VIEWER))
    other = await joined(store, "aaron", ("acme", ADMIN))
    gone = await joined(store, "bert", ("default", VIEWER))
    await store.write(members.remove_member("default", gone.user.id, 9, "x", lambda a, k, e: audit(a, k, e)))
    first = await store.read(members.member_page("default", None, 3))
    assert [m.user.email for m in first] == ["ann@example.com", "bob@example.com", "carl@example.com"]
    assert {m.membership.tenant_id for m in first} == {"default"}
    rest = await store.read(members.member_page("default", first[-1].user.id, 3))
    assert [m.user.email for m in rest] == ["dan@example.com"]
    for cursor in (other.user.id, gone.user.id, "", "x"):
        with pytest.raises(UnknownEntityError):
            await store.read(members.member_page("default", cursor, 3))


async def test_a_member_is_one_where_she_is_one(store: Store) -> None:
    bob = await joined(store, "bob", ("default", ADMIN), ("acme", VIEWER), password_from="acme")
    found = await store.read(members.member("acme", bob.user.id))
    assert (found.user, found.membership.role) == (bob.user, VIEWER)
    assert found.user.password_from == "acme"
    with pytest.raises(UnknownEntityError):
        await store.read(members.member("nowhere", bob.user.id))
    assert [tenant.id for tenant in await store.read(members.tenants_of(bob.user.id))] == ["acme", "default"]


async def test_what_concerns_all_tenants_needs_an_admin_of_all_and_is_whole_or_nothing(store: Store) -> None:
    bob = await joined(store, "bob", ("default", VIEWER), ("acme", VIEWER))
    half = await joined(store, "half", ("default", ADMIN))
    both = await joined(store, "both", ("default", ADMIN), ("acme", ADMIN))
    rows = len(await audited(store))
    for by in (half.user.id, bob.user.id, "nobody"):
        with pytest.raises(NotAdministeredError):
            await store.write(members.change_member("default", bob.user.id, [renamed(bob)], by=by))
    works = [renamed(bob), demoted(bob, "nowhere")]
    with pytest.raises(UnknownEntityError):
        await store.write(members.change_member("default", bob.user.id, works, by=both.user.id))
    assert len(await audited(store)) == rows
    work = members.change_member("default", bob.user.id, [renamed(bob), demoted(bob)], by=both.user.id)
    assert (await store.write(work)).user.disabled_at == 7
    assert len(await audited(store)) == rows + 2


async def test_a_tenant_keeps_an_active_admin_whatever_is_changed(store: Store) -> None:
    ann = await joined(store, "ann", ("default", ADMIN))
    own = ann.user.id
    for work in (
        members.change_member("default", own, [demoted(ann)]),
        members.change_member("default", own, [renamed(ann)], by=own),
        members.remove_member("default", own, 9, "x", lambda a, k, e: audit(a, k, e)),
    ):
        with pytest.raises(LastAdminError):
            await store.write(work)  # type: ignore[arg-type]
    await joined(store, "bob", ("default", ADMIN))
    left, _ = await store.write(members.remove_member("default", own, 9, "x", lambda a, k, e: audit(a, k, e)))
    assert left.user.removed_at == 9


async def test_a_change_here_does_not_ask_after_admins_elsewhere(store: Store) -> None:
    await joined(store, "ann", ("default", ADMIN))
    bob = await joined(store, "bob", ("default", VIEWER), ("acme", ADMIN))
    await store.write(renamed(bob))  # acme has no active admin now
    changed = await store.write(members.change_member("default", bob.user.id, [demoted(bob)]))
    assert changed.membership.role is VIEWER


async def test_who_has_a_password_from_elsewhere_joins_by_an_admin_of_there_alone(store: Store) -> None:
    bob = await joined(store, "bob", ("acme", VIEWER), password_from="acme")
    here = await joined(store, "here", ("default", ADMIN))
    both = await joined(store, "both", ("default", ADMIN), ("acme", ADMIN))
    more = Membership(user_id=bob.user.id, tenant_id="default", role=ADMIN, created_at=now_ms())
    row = audit("user.join", "user", bob.user.id)
    with pytest.raises(ForeignPasswordError):
        await store.write(members.join_member(more, here.user.id, row))
    with pytest.raises(UnknownEntityError):
        await store.read(members.member("default", bob.user.id))
    assert (await store.write(members.join_member(more, both.user.id, row))).membership == more
    with pytest.raises(DuplicateError):
        await store.write(members.join_member(more, both.user.id, row))


async def test_a_key_is_found_by_its_number_in_its_tenant(store: Store) -> None:
    for tenant in ("default", "acme", "default"):
        key = a_key(tenant_id=tenant)
        await store.insert_key(key, audit_of(key))
    second = await store.read(key_by_number("default", 2))
    assert second is not None
    assert (second.tenant_id, second.number) == ("default", 2)
    for tenant, number in (("acme", 2), ("default", 3), ("nowhere", 1), ("default", 0), ("default", 10**18)):
        assert await store.read(key_by_number(tenant, number)) is None


async def test_who_made_keys_or_is_at_their_root_is_told_for_a_stretch_of_them(store: Store) -> None:
    bob, eve, dan = [await joined(store, name, ("default", VIEWER)) for name in ("bob", "eve", "dan")]
    for fields in (
        {"created_by": bob.user.id},
        {"created_by": "subject_of_a_key", "root_id": eve.user.id},
        {"created_by": "cli:ann@here"},
        {"created_by": dan.user.id},
    ):
        key = a_key(**fields)
        await store.insert_key(key, audit_of(key))
    found = await store.read(makers("default", 1, 3))
    assert found == {bob.user.id: "bob@example.com", eve.user.id: "eve@example.com"}
    assert await store.read(makers("acme", 1, 9)) == {}
