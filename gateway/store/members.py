"""The users of one tenant: read in pages, and changed by its admins within what they administer.

A user may be in several tenants, and her password and her being disabled concern all of them; so
whoever changes those has to be an admin of each. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.model import Permission
from gateway.store import people
from gateway.store.base import (
    AuditRow,
    Membership,
    Person,
    Tenant,
    UnknownEntityError,
    User,
)
from gateway.store.operations import tenant_of
from gateway.store.steps import Query, Row, Steps


class Member(msgspec.Struct, frozen=True):
    """A user as one tenant sees her: nothing of what else she is a member of."""

    user: User
    membership: Membership


class NotAdministeredError(ValueError):
    """A user is a member of a tenant that whoever changes her does not administer."""

    def __init__(self) -> None:
        super().__init__("the user is a member of another organisation too, which you do not administer")


class ForeignPasswordError(ValueError):
    """An admin of another tenant knows the user's password, so that she cannot be trusted with this one."""

    def __init__(self) -> None:
        super().__init__(
            "the user has a password that an admin of another organisation gave her: "
            "she has to choose one of her own first"
        )


def member_page(tenant_id: str, after: str | None, limit: int) -> Steps[list[Member]]:
    """Return at most ``limit`` members by address, those beyond the user ``after``.

    Raises UnknownEntityError for a cursor that is no member.
    """
    if after is not None and not (yield Query("member", (tenant_id, after))):
        raise UnknownEntityError("cursor", after)
    return [_member_of(row) for row in (yield Query("member_page", (tenant_id, after, limit)))]


def member(tenant_id: str, user_id: str) -> Steps[Member]:
    """Return one member. Raises UnknownEntityError."""
    rows = yield Query("member", (tenant_id, user_id))
    if not rows:
        raise UnknownEntityError("user", user_id)
    return _member_of(rows[0])


def change_member(
    tenant_id: str, user_id: str, works: Sequence[Steps[Person]], *, by: str | None = None
) -> Steps[Member]:
    """Do all of ``works``, which change a member, or none of them; the tenant keeps an admin.

    ``by`` is the user who has to administer every tenant that the member is in, because all of them
    are concerned. Raises UnknownEntityError, NotAdministeredError, LastAdminError.
    """
    found = yield from _known(tenant_id, user_id)
    if by is not None:
        yield from _check_administers(by, found)
    work = _all(works)
    for membership in found.memberships:
        concerned = by is not None or membership.tenant_id == tenant_id
        if concerned and membership.role is Permission.ADMIN:
            work = people.keeps_an_admin(membership.tenant_id, work)
    yield from work
    return (yield from member(tenant_id, user_id))


def join_member(membership: Membership, by: str, audit: AuditRow) -> Steps[Member]:
    """Make a user a member of one more tenant, in the name of its admin ``by``.

    Raises UnknownEntityError, DuplicateError, ForeignPasswordError.
    """
    joined = yield from people.join(membership, audit)
    known_to = joined.user.password_from
    if known_to not in (None, membership.tenant_id):
        admin = yield from people.person(by)
        if admin is None or admin.role_in(known_to) is not Permission.ADMIN:
            raise ForeignPasswordError
    return Member(joined.user, membership)


def remove_member(
    tenant_id: str, user_id: str, at: int, by: str, audit_of: people.AuditOf
) -> Steps[tuple[Person, list[str]]]:
    """Take a user out of a tenant, which keeps an admin; see ``people.leave``.

    Raises UnknownEntityError, LastAdminError.
    """
    found = yield from _known(tenant_id, user_id)
    work = people.leave(user_id, tenant_id, at, by, audit_of)
    if found.role_in(tenant_id) is Permission.ADMIN:
        work = people.keeps_an_admin(tenant_id, work)
    return (yield from work)


def tenants_of(user_id: str) -> Steps[list[Tenant]]:
    """Return the tenants that a user is in, by id."""
    return [tenant_of(row) for row in (yield Query("tenants_of_user", (user_id,)))]


def _all(works: Sequence[Steps[Person]]) -> Steps[None]:
    for work in works:
        yield from work


def _check_administers(by: str, found: Person) -> Steps[None]:
    """Raise NotAdministeredError unless ``by`` is an admin of every tenant that a user is in."""
    # Read here, in the transaction: the user may have joined another tenant a moment ago.
    admin = yield from people.person(by)
    for membership in found.memberships:
        if admin is None or admin.role_in(membership.tenant_id) is not Permission.ADMIN:
            raise NotAdministeredError


def _known(tenant_id: str, user_id: str) -> Steps[Person]:
    found = yield from people.person(user_id)
    if found is None or found.role_in(tenant_id) is None:
        raise UnknownEntityError("user", user_id)
    return found


def _member_of(row: Row) -> Member:
    width = len(User.__struct_fields__)
    user = User(**dict(zip(User.__struct_fields__, row[:width], strict=True)))
    tenant_id, role, created_at = row[width:]
    return Member(
        user,
        Membership(
            user_id=user.id, tenant_id=tenant_id, role=Permission[role.upper()], created_at=created_at
        ),
    )
