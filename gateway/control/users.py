"""Users, what they are in each tenant, and whether a password is theirs.

Imports ``core``, ``store`` and its own plane.

Promise: a password is hashed at once and kept nowhere; whether a user exists is not told by the
time that a wrong password takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.control.errors import Busy, Conflict, Forbidden, Invalid, NotFound
from gateway.control.names import checked_email, checked_password
from gateway.control.passwords import HasherBusyError, nobodys_hash
from gateway.control.tenants import TenantService
from gateway.core.model import Permission
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.uuid7 import uuid7
from gateway.store import people
from gateway.store.base import (
    Actor,
    DuplicateError,
    Membership,
    Person,
    Store,
    UnknownEntityError,
    User,
)
from gateway.store.members import ForeignPasswordError, NotAdministeredError
from gateway.store.steps import Steps

ROLES = {permission.word: permission for permission in Permission}


class Hasher(Protocol):
    """What makes and checks argon2id strings."""

    async def hash(self, secret: str) -> str:
        """Return the argon2id string of ``secret``."""
        ...

    async def verify(self, encoded: str, secret: str) -> bool:
        """Tell whether ``encoded`` was made of ``secret``."""
        ...


class LeftUser(msgspec.Struct, frozen=True):
    """A user as she is after leaving, and the keys that were revoked because they acted as her."""

    person: Person
    keys: tuple[str, ...]


class UserService(TenantService):
    """Adds, changes, lists and removes users and their memberships."""

    def __init__(
        self,
        store: Store,
        hasher: Hasher,
        policy: KeyPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a migrated store and what hashes passwords; the rest as ``AuditService`` has it."""
        super().__init__(store, policy, clock)
        self._hasher = hasher
        self._nobodys_hash = nobodys_hash()

    async def find_user(self, email: str) -> Person | None:
        """Return the user with an address, if there is one. Raises Invalid."""
        return await self._store.read(people.person_by_email(checked_email(email)))

    async def show_user(self, email: str) -> Person:
        """Return the user with an address. Raises NotFound, Invalid."""
        found = await self.find_user(email)
        if found is None:
            raise NotFound("user", email)
        return found

    async def list_users(self, *, tenant: str | None = None) -> list[Person]:
        """Return the users, of one tenant or all, by address. Raises NotFound (tenant)."""
        if tenant is not None:
            await self.show_tenant(tenant)
        return await self._store.read(people.people(tenant))

    async def add_user(
        self, actor: Actor, email: str, *, tenant: str, role: str, password: str | None = None
    ) -> Person:
        """Add a user to a tenant; who exists already joins one more, and keeps her password.

        Raises NotFound (tenant), Invalid, Conflict (a member already; a password for who has one).
        """
        known = await self.find_user(email)
        permission = checked_role(role)
        now = self.now_ms()
        if known is None:
            if password is None:
                raise Invalid("password", "is needed for a new user")
            user = User(
                id=f"subject_{uuid7(now, os.urandom(10))}",
                email=checked_email(email),
                password_hash=await self._hash(password),
                default_tenant_id=tenant,
                created_at=now,
                updated_at=now,
            )
        elif password is not None:
            raise Conflict(f"the user {known.user.email!r} has a password already: leave it out")
        else:
            user = known.user
        membership = Membership(user_id=user.id, tenant_id=tenant, role=permission, created_at=now)
        detail = {"email": user.email, "role": permission.word}
        if known is None:
            audit = self._audit(actor, "user.create", "user", user.id, tenant, detail=detail)
            return await self._told(people.add_user(user, membership, audit))
        audit = self._audit(actor, "user.join", "user", user.id, tenant, detail=detail)
        return await self._told(people.join(membership, audit))

    async def set_password(
        self, actor: Actor, email: str, password: str, *, tenant: str | None = None
    ) -> Person:
        """Give a user another password; ``tenant`` is in whose audit it stands. Raises NotFound, Invalid."""
        user = (await self.show_user(email)).user
        audit = self._audit(actor, "user.password", "user", user.id, tenant)
        changes = {"password_hash": await self._hash(password), "password_from": None}
        return await self._told(people.change_user(user.id, changes, self.now_ms(), audit))

    async def set_role(self, actor: Actor, email: str, *, tenant: str, role: str) -> Person:
        """Change what a user is in a tenant; keys that act as her follow. Raises NotFound, Invalid."""
        user, permission = (await self.show_user(email)).user, checked_role(role)
        detail = {"role": permission.word}
        audit = self._audit(actor, "user.role", "user", user.id, tenant, detail=detail)
        return await self._told(people.change_role(user.id, tenant, permission, audit))

    async def enable_user(self, actor: Actor, email: str, *, enabled: bool) -> Person:
        """Disable a user, or enable her again; the keys that act as her are refused meanwhile.

        Raises NotFound, Invalid.
        """
        user, now = (await self.show_user(email)).user, self.now_ms()
        audit = self._audit(actor, "user.enable" if enabled else "user.disable", "user", user.id, None)
        changes = {"disabled_at": None if enabled else user.disabled_at or now}
        return await self._told(people.change_user(user.id, changes, now, audit))

    async def set_default_tenant(self, actor: Actor, email: str, tenant: str) -> Person:
        """Choose which of her tenants a user is logged in to unless she asks. Raises NotFound, Invalid."""
        user = (await self.show_user(email)).user
        audit = self._audit(actor, "user.default", "user", user.id, tenant)
        changes = {"default_tenant_id": tenant}
        return await self._told(people.change_user(user.id, changes, self.now_ms(), audit))

    async def remove_user(self, actor: Actor, email: str, *, tenant: str | None = None) -> LeftUser:
        """Take a user out of a tenant, or out of all; the keys that act as her there are revoked.

        Who leaves her last tenant is removed. Raises NotFound (user, membership), Invalid.
        """
        user = (await self.show_user(email)).user
        left, keys = await self._told(
            people.leave(
                user.id,
                tenant,
                self.now_ms(),
                actor.name,
                lambda action, kind, entity: self._audit(actor, action, kind, entity, tenant),
            )
        )
        return LeftUser(left, tuple(keys))

    async def check_password(self, email: str, password: str) -> Person | None:
        """Return the active user whose password this is; None otherwise, after the same work.

        Raises Busy when too many are being checked at once.
        """
        try:
            found = await self.find_user(email)
            secret = checked_password(password, shortest=0)
        except Invalid:
            found, secret = None, ""
        encoded = found.user.password_hash if found is not None else self._nobodys_hash
        try:
            right = await self._hasher.verify(encoded, secret)
        except HasherBusyError as error:
            raise Busy(str(error)) from None
        return found if right and found is not None and found.user.disabled_at is None else None

    async def _hash(self, password: str) -> str:
        try:
            return await self._hasher.hash(checked_password(password))
        except HasherBusyError as error:
            raise Busy(str(error)) from None

    async def _told(self, work: Steps[people.T]) -> people.T:
        """Do a piece of work on the store; what it refuses is told as the service does."""
        try:
            return await self._store.write(work)
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        except (DuplicateError, people.LastAdminError, ForeignPasswordError) as error:
            raise Conflict(str(error)) from None
        except NotAdministeredError as error:
            raise Forbidden(str(error)) from None


def checked_role(role: str) -> Permission:
    """Return what a user is to be in a tenant, from its name in any case. Raises Invalid."""
    found = ROLES.get(role.lower())
    if found is None:
        raise Invalid("role", f"must be one of {', '.join(ROLES)}")
    return found
