"""Users, and what they are in each organisation: what happens inside one transaction.

A change of a user is in the feed under her id; the keys that act as her are revoked in the
transaction in which she leaves. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.core.model import Permission
from gateway.store.base import (
    AuditRow,
    ChangeKind,
    DuplicateError,
    Membership,
    Person,
    UnknownEntityError,
    User,
)
from gateway.store.operations import recorded, revoke_key, values_of
from gateway.store.steps import Query, Row, Steps

T = TypeVar("T")
AuditOf = Callable[[str, ChangeKind, str], AuditRow]
"""Makes an audit row: (action, kind, entity) → row."""


class LastAdminError(ValueError):
    """The tenant would be left without anybody who may look after it."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"the tenant {tenant_id!r} would be left without an admin: make another one first")


def person(user_id: str) -> Steps[Person | None]:
    """Return one user by her id, also a removed one."""
    return (yield from _person((yield Query("user", (user_id,)))))


def person_by_email(email: str) -> Steps[Person | None]:
    """Return one user by her address."""
    return (yield from _person((yield Query("user_by_email", (email,)))))


def standing(user_id: str, tenant_id: str) -> Steps[Permission | None]:
    """Return what an active user is in a tenant; None: nothing."""
    rows = yield Query("standing", (user_id, tenant_id))
    return Permission[rows[0][0].upper()] if rows else None


def people(tenant_id: str | None) -> Steps[list[Person]]:
    """Return the users, of one tenant or all, by address."""
    users = [_user_of(row) for row in (yield Query("users", (tenant_id,)))]
    memberships: dict[str, list[Membership]] = {}
    for row in (yield Query("all_memberships")):
        memberships.setdefault(row[0], []).append(_membership_of(row))
    return [Person(user, tuple(memberships.get(user.id, ()))) for user in users]


def add_user(user: User, membership: Membership, audit: AuditRow) -> Steps[Person]:
    """Keep a new user with her first membership. Raises UnknownEntityError (tenant), DuplicateError."""
    yield from _tenant_exists(membership.tenant_id)
    if not (yield Query("insert_user", values_of(user))):
        raise DuplicateError("user", user.email)
    yield Query("insert_membership", values_of(membership))
    yield from recorded(audit)
    return Person(user, (membership,))


def join(membership: Membership, audit: AuditRow) -> Steps[Person]:
    """Make a user a member of one more tenant. Raises UnknownEntityError, DuplicateError."""
    yield from _tenant_exists(membership.tenant_id)
    found = yield from _known(membership.user_id)
    if not (yield Query("insert_membership", values_of(membership))):
        raise DuplicateError("member", f"{found.user.email} of {membership.tenant_id}")
    if found.user.default_tenant_id is None:
        yield from _update(found.user, {"default_tenant_id": membership.tenant_id}, membership.created_at)
    yield from recorded(audit)
    return (yield from _known(membership.user_id))


def change_user(user_id: str, changes: Mapping[str, Any], at: int, audit: AuditRow) -> Steps[Person]:
    """Change some of a user's fields. Raises UnknownEntityError (user; a default tenant she is not in)."""
    found = yield from _known(user_id)
    tenant_id = changes.get("default_tenant_id")
    if tenant_id is not None and found.role_in(tenant_id) is None:
        raise UnknownEntityError("membership", tenant_id)
    yield from _update(found.user, changes, at)
    yield from recorded(audit)
    return (yield from _known(user_id))


def change_role(user_id: str, tenant_id: str, role: Permission, audit: AuditRow) -> Steps[Person]:
    """Change what a user is in a tenant. Raises UnknownEntityError (membership)."""
    if not (yield Query("update_membership", (user_id, tenant_id, role.word))):
        raise UnknownEntityError("membership", tenant_id)
    yield from recorded(audit)
    return (yield from _known(user_id))


def keeps_an_admin(tenant_id: str, work: Steps[T]) -> Steps[T]:
    """Change users so that somebody active is still an admin of a tenant. Raises LastAdminError."""
    done = yield from work
    # Asked last: the change's number is taken by now, so that of two at once each sees the other.
    ((count,),) = yield Query("active_admins", (tenant_id,))
    if not count:
        raise LastAdminError(tenant_id)
    return done


def leave(
    user_id: str, tenant_id: str | None, at: int, by: str, audit_of: AuditOf
) -> Steps[tuple[Person, list[str]]]:
    """Take a user out of a tenant, or out of all and away; the keys that act as her there are revoked.

    Who leaves her last tenant goes away too. Returns her as she is now, and the ids of those keys.
    Raises UnknownEntityError (user, membership).
    """
    found = yield from _known(user_id)
    if tenant_id is not None and found.role_in(tenant_id) is None:
        raise UnknownEntityError("membership", tenant_id)
    left = [m for m in found.memberships if tenant_id in (None, m.tenant_id)]
    for membership in left:
        yield Query("delete_membership", (user_id, membership.tenant_id))
    stays = [m for m in found.memberships if m not in left]
    taken = [row[0] for row in (yield Query("keys_acting_as", (user_id, tenant_id)))]
    for key_id in taken:
        yield from revoke_key(key_id, at, by, audit_of("key.revoke", "key", key_id))
    yield from _update(found.user, _after_leaving(found.user, stays, at), at)
    yield from recorded(audit_of("user.leave" if stays else "user.remove", "user", user_id))
    now = yield from person(user_id)
    assert now is not None
    return now, taken


def _after_leaving(user: User, stays: Sequence[Membership], at: int) -> dict[str, Any]:
    if not stays:
        return {"default_tenant_id": None, "removed_at": at, "password_hash": ""}
    if user.default_tenant_id in {membership.tenant_id for membership in stays}:
        return {}
    return {"default_tenant_id": stays[0].tenant_id}


def _known(user_id: str) -> Steps[Person]:
    found = yield from person(user_id)
    if found is None or found.user.removed_at is not None:
        raise UnknownEntityError("user", user_id)
    return found


def _person(rows: list[Row]) -> Steps[Person | None]:
    if not rows:
        return None
    user = _user_of(rows[0])
    memberships = yield Query("memberships", (user.id,))
    return Person(user, tuple(map(_membership_of, memberships)))


def _tenant_exists(tenant_id: str) -> Steps[None]:
    if not (yield Query("tenant", (tenant_id,))):
        raise UnknownEntityError("tenant", tenant_id)


def _update(user: User, changes: Mapping[str, Any], at: int) -> Steps[None]:
    new = msgspec.structs.replace(user, **changes, updated_at=at)
    values = (new.email, new.password_hash, new.default_tenant_id, new.disabled_at, new.removed_at)
    yield Query("update_user", (new.id, *values, new.updated_at, new.password_from))


def _user_of(row: Row) -> User:
    return User(**dict(zip(User.__struct_fields__, row, strict=True)))


def _membership_of(row: Row) -> Membership:
    user_id, tenant_id, role, created_at = row
    return Membership(
        user_id=user_id, tenant_id=tenant_id, role=Permission[role.upper()], created_at=created_at
    )
