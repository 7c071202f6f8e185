"""The users of a tenant, as its admins look after them, and what a user does to herself.

Rules: only admins see, add, change and take out the users of their tenant. A password and being
disabled concern every tenant that a user is in, so whoever changes them administers all of those.
A tenant keeps an active admin. Imports ``core``, ``store`` and its own plane.

Promise: no admin of one tenant becomes somebody in another by way of a user of both.
"""

from __future__ import annotations

import os

import msgspec

from gateway.control import grants
from gateway.control.errors import Conflict, Forbidden, Invalid, NotFound
from gateway.control.grants import Principal
from gateway.control.names import checked_email
from gateway.control.permissions import PermissionService
from gateway.control.users import LeftUser, checked_role
from gateway.core.uuid7 import uuid7
from gateway.store import members, people
from gateway.store.base import Actor, AuditRow, Membership, Person, UnknownEntityError, User
from gateway.store.members import Member
from gateway.store.steps import Steps

LARGEST_PAGE = 100


class MemberPage(msgspec.Struct, frozen=True):
    """Some members by address; ``next`` is the cursor of the page that follows, if any."""

    members: list[Member]
    next: str | None


class MemberWish(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of a member; what is None stays.

    ``default``: this is to be the tenant that she is logged in to unless she asks for another.
    """

    role: str | None = None
    enabled: bool | None = None
    password: str | None = None
    default: bool = False

    @property
    def is_nothing(self) -> bool:
        """Tell whether nothing is to change."""
        return self == MemberWish()


class MemberService(PermissionService):
    """Looks after the users of the principal's tenant, in her name."""

    async def list_members_as(
        self, principal: Principal, *, after: str | None = None, limit: int = LARGEST_PAGE
    ) -> MemberPage:
        """Return one page of the tenant's users, by address. Raises Forbidden, Invalid (limit, after)."""
        grants.check_admin(principal)
        if not 1 <= limit <= LARGEST_PAGE:
            raise Invalid("limit", f"must be a whole number from 1 to {LARGEST_PAGE}")
        try:
            found = await self._store.read(members.member_page(principal.tenant_id, after, limit + 1))
        except UnknownEntityError:
            raise Invalid("after", "is not a user of this list") from None
        return MemberPage(found[:limit], found[limit - 1].user.id if len(found) > limit else None)

    async def show_member_as(self, principal: Principal, user_id: str) -> Member:
        """Return a user of the tenant, to its admins and to herself. Raises NotFound, Forbidden."""
        if principal.user_id != user_id:
            grants.check_admin(principal)
        try:
            return await self._store.read(members.member(principal.tenant_id, user_id))
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None

    async def add_member_as(
        self, principal: Principal, actor: Actor, email: str, role: str, password: str | None = None
    ) -> Member:
        """Add a user to the tenant; who exists already joins it, and keeps her password.

        Raises Forbidden, Invalid, Conflict (a member already; a password for who has one; an admin of
        a foreign tenant knows her password).
        """
        admin, tenant = _admin(principal), principal.tenant_id
        address, permission = checked_email(email), checked_role(role)
        known, now = await self.find_user(address), self.now_ms()
        detail = {"email": address, "role": permission.word}
        if known is not None:
            if password is not None:
                raise Conflict(f"the user {address!r} has a password already: leave it out")
            joined = Membership(user_id=known.user.id, tenant_id=tenant, role=permission, created_at=now)
            audit = self._audit(actor, "user.join", "user", known.user.id, tenant, detail=detail)
            return await self._told(members.join_member(joined, admin, audit))
        if password is None:
            raise Invalid("password", "is needed for a new user")
        user = User(
            id=f"subject_{uuid7(now, os.urandom(10))}",
            email=address,
            password_hash=await self._hash(password),
            default_tenant_id=tenant,
            created_at=now,
            updated_at=now,
            password_from=tenant,
        )
        first = Membership(user_id=user.id, tenant_id=tenant, role=permission, created_at=now)
        audit = self._audit(actor, "user.create", "user", user.id, tenant, detail=detail)
        await self._told(people.add_user(user, first, audit))
        return Member(user, first)

    async def change_member_as(
        self, principal: Principal, actor: Actor, user_id: str, wish: MemberWish
    ) -> Member:
        """Change what a user is here, or her password, or whether she is enabled: all of it or nothing.

        Raises NotFound, Forbidden (not an admin of every tenant that is concerned; one's own
        password), Invalid, Conflict (the tenant would have no admin).
        """
        herself = principal.key_id is None and principal.user_id == user_id
        if not (herself and wish == MemberWish(default=True)):
            grants.check_admin(principal)
        before = await self.show_member_as(principal, user_id)
        if wish.is_nothing:
            return before
        if herself and wish.password is not None:
            raise Forbidden("one's own password is changed by showing the present one beside it")
        works = await self._works(principal, actor, before.user, wish)
        beyond = wish.enabled is not None or wish.password is not None or (wish.default and not herself)
        work = members.change_member(
            principal.tenant_id, user_id, works, by=_admin(principal) if beyond else None
        )
        return await self._told(work)

    async def remove_member_as(self, principal: Principal, actor: Actor, user_id: str) -> LeftUser:
        """Take a user out of the tenant; the keys that act as her here are revoked.

        Who leaves her last tenant is removed. Raises NotFound, Forbidden, Conflict (the last admin).
        """
        grants.check_admin(principal)
        tenant = principal.tenant_id
        work = members.remove_member(
            tenant,
            user_id,
            self.now_ms(),
            actor.name,
            lambda action, kind, entity: self._audit(actor, action, kind, entity, tenant),
        )
        left, keys = await self._told(work)
        return LeftUser(left, tuple(keys))

    async def _works(
        self, principal: Principal, actor: Actor, user: User, wish: MemberWish
    ) -> list[Steps[Person]]:
        """Return what has to be done to a user, with an audit row for each."""
        tenant, now = principal.tenant_id, self.now_ms()

        def audit(action: str, detail: dict[str, object] | None = None) -> AuditRow:
            return self._audit(actor, action, "user", user.id, tenant, detail=detail)

        works: list[Steps[Person]] = []
        if wish.role is not None:
            role = checked_role(wish.role)
            row = audit("user.role", {"role": role.word})
            works.append(people.change_role(user.id, tenant, role, row))
        if wish.enabled is not None:
            row = audit("user.enable" if wish.enabled else "user.disable")
            changes = {"disabled_at": None if wish.enabled else user.disabled_at or now}
            works.append(people.change_user(user.id, changes, now, row))
        if wish.password is not None:
            new = {"password_hash": await self._hash(wish.password), "password_from": tenant}
            works.append(people.change_user(user.id, new, now, audit("user.password")))
        if wish.default:
            chosen = {"default_tenant_id": tenant}
            works.append(people.change_user(user.id, chosen, now, audit("user.default")))
        return works


def _admin(principal: Principal) -> str:
    """Return the user who is an admin here: keys never are. Raises Forbidden."""
    grants.check_admin(principal)
    assert principal.user_id is not None, "only users are admins"
    return principal.user_id
