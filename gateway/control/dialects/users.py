"""``/api/1/tenants/{tenant}/users``: who is in an organisation, and what. Imports its own plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.control import grants
from gateway.control.dialects.tenants import ONE as TENANT
from gateway.control.domain import DomainService
from gateway.control.errors import Invalid
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.members import Cursor, Email, Instant, Limit
from gateway.control.lifetime import rfc3339
from gateway.control.members import LARGEST_PAGE, MemberWish
from gateway.control.names import LONGEST_PASSWORD_BYTES, SHORTEST_PASSWORD
from gateway.store.members import Member

ALL = f"{TENANT}/users"
ONE = f"{ALL}/{{user}}"
Role = Literal["viewer", "editor", "admin"]
Password = Annotated[str, Meta(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD_BYTES)]
"""A password; it is never shown."""


class User(msgspec.Struct, frozen=True, rename="camel"):
    """A user as one tenant sees her.

    ``default``: this is the tenant that she is logged in to unless she asks for another.
    """

    id: str
    email: str
    tenant_id: str
    role: Role
    enabled: bool
    default: bool
    created_at: Instant


class Users(msgspec.Struct, frozen=True):
    """Some users by address; ``next`` is what ``after`` has to be for those that follow, null at the end."""

    data: list[User]
    next: str | None


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the list: at most ``limit`` users, those that follow the user ``after``."""

    limit: Limit = LARGEST_PAGE
    after: Cursor | None = None


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user to be added; one who exists already joins, and keeps her password: then it is left out."""

    email: Email
    role: Role
    password: Password | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"NewUser(role={self.role!r})"


class UserChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to change; what is absent stays. ``default`` can be made true, in another tenant too."""

    role: Role | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    default: Annotated[bool, Meta(extra_json_schema={"const": True})] | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"UserChange(role={self.role!r}, enabled={self.enabled!r}, default={self.default!r})"


class Left(msgspec.Struct, frozen=True, rename="camel"):
    """A user who is no longer in the tenant, and the keys that were revoked because they acted as her."""

    id: str
    email: str
    revoked_keys: list[str]


class UsersDialect:
    """The five operations of users."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="GET",
                path=ALL,
                operation="listUsers",
                summary="List the users of the caller's tenant; for its admins",
                handler=self.list_users,
                query=Page,
                answers={200: Users},
                tag="users",
            ),
            Endpoint(
                method="POST",
                path=ALL,
                operation="addUser",
                summary="Add a user to the caller's tenant; for its admins",
                handler=self.add,
                body=NewUser,
                answers={201: User},
                faults=(400, 401, 403, 404, 409, 429),
                tag="users",
            ),
            *self._of_one(),
        ]

    def _of_one(self) -> Sequence[AnyEndpoint]:
        return [
            Endpoint(
                method="GET",
                path=ONE,
                operation="getUser",
                summary="Show a user, to admins and to herself",
                handler=self.show,
                answers={200: User},
                tag="users",
            ),
            Endpoint(
                method="PATCH",
                path=ONE,
                operation="changeUser",
                summary="Change what a user is; what concerns all her tenants, only as an admin of each",
                handler=self.change,
                body=UserChange,
                answers={200: User},
                faults=(400, 401, 403, 404, 409, 429),
                tag="users",
            ),
            Endpoint(
                method="DELETE",
                path=ONE,
                operation="removeUser",
                summary="Take a user out of the caller's tenant; keys that act as her there are revoked",
                handler=self.remove,
                answers={200: Left},
                faults=(400, 401, 403, 404, 409, 429),
                tag="users",
            ),
        ]

    async def list_users(self, call: Call[None, Page]) -> Answer:
        """List users by address."""
        _check_tenant(call)
        page = await self._service.list_members_as(
            call.principal, after=call.query.after, limit=call.query.limit
        )
        return Answer(content=Users([_shown(each) for each in page.members], page.next))

    async def add(self, call: Call[NewUser, Nothing]) -> Answer:
        """Add a user, or have one who exists join."""
        _check_tenant(call)
        wanted = call.body
        password = None if wanted.password is UNSET else wanted.password
        added = await self._service.add_member_as(
            call.principal, call.actor, wanted.email, wanted.role, password
        )
        return Answer(201, _shown(added))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show a user."""
        _check_tenant(call)
        return Answer(content=_shown(await self._service.show_member_as(call.principal, call.path("user"))))

    async def change(self, call: Call[UserChange, Nothing]) -> Answer:
        """Change a user."""
        _check_tenant(call)
        given = {
            name: value for name, value in msgspec.structs.asdict(call.body).items() if value is not UNSET
        }
        if given.get("default") is False:
            raise Invalid("default", "can only be true: make another tenant her default there")
        wish = MemberWish(**given)
        changed = await self._service.change_member_as(call.principal, call.actor, call.path("user"), wish)
        return Answer(content=_shown(changed))

    async def remove(self, call: Call[None, Nothing]) -> Answer:
        """Take a user out."""
        _check_tenant(call)
        left = await self._service.remove_member_as(call.principal, call.actor, call.path("user"))
        user = left.person.user
        return Answer(content=Left(user.id, user.email, list(left.keys)))


def _check_tenant(call: Call[Any, Any]) -> None:
    grants.check_tenant(call.principal, call.path("tenant"))


def _shown(found: Member) -> User:
    user, membership = found.user, found.membership
    return User(
        id=user.id,
        email=user.email,
        tenant_id=membership.tenant_id,
        role=cast(Role, membership.role.word),
        enabled=user.disabled_at is None,
        default=user.default_tenant_id == membership.tenant_id,
        created_at=rfc3339(user.created_at),
    )
