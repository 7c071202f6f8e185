"""``/api/1/tenants/{tenant}/subjects``: the users and the identities of keys, and the roles that they have.

``004`` says of a key's own subject that it can be given roles; here that is done. Imports its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

from gateway.control import grants
from gateway.control.domain import DomainService
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.members import Cursor, Limit, RoleName
from gateway.control.subjects import LARGEST_PAGE
from gateway.store import subjects

ALL = "/api/1/tenants/{tenant}/subjects"
ONE = f"{ALL}/{{subject}}"

SubjectType = Literal["user", "apiKey", "externalClient"]
Word = Literal["viewer", "editor", "admin"]


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the list: at most ``limit`` subjects, those whose ids follow ``after``."""

    limit: Limit = LARGEST_PAGE
    after: Cursor | None = None


class RoleWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The role to be given.

    A key's subject: ``viewer``, ``editor`` or a configured role; a user: ``viewer``, ``editor`` or ``admin``.
    """

    role: RoleName


class Subject(msgspec.Struct, frozen=True):
    """A user, or the identity of an active key with one of its own.

    ``name`` is a user's address or the name of the newest key. ``permission`` is what the role lets it
    do, null when the role is no longer configured.
    """

    id: str
    type: SubjectType
    name: str
    role: str
    permission: Word | None


class SubjectList(msgspec.Struct, frozen=True):
    """Some subjects by id; ``next`` is what ``after`` has to be for those that follow, null at the end."""

    data: list[Subject]
    next: str | None


class SubjectsDialect:
    """The three operations of subjects."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="GET",
                path=ALL,
                operation="listSubjects",
                summary="List the users of a tenant and the identities of its active keys, to an admin",
                handler=self.list_subjects,
                query=Page,
                answers={200: SubjectList},
                tag="subjects",
            ),
            Endpoint(
                method="GET",
                path=ONE,
                operation="getSubject",
                summary="Show one subject; a user to herself and to admins",
                handler=self.show,
                answers={200: Subject},
                tag="subjects",
            ),
            Endpoint(
                method="PUT",
                path=f"{ONE}/role",
                operation="giveSubjectRole",
                summary="Give a subject a role: all its active keys take it, a user is that in the tenant",
                handler=self.give_role,
                body=RoleWanted,
                answers={200: Subject},
                faults=(400, 401, 403, 404, 409, 429),
                tag="subjects",
            ),
        ]

    async def list_subjects(self, call: Call[None, Page]) -> Answer:
        """Return the tenant's subjects."""
        _check_tenant(call)
        page = await self._service.list_subjects_as(
            call.principal, after=call.query.after, limit=call.query.limit
        )
        return Answer(content=SubjectList([self._shown(each) for each in page.subjects], page.next))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show one subject."""
        _check_tenant(call)
        found = await self._service.show_subject_as(call.principal, call.path("subject"))
        return Answer(content=self._shown(found))

    async def give_role(self, call: Call[RoleWanted, Nothing]) -> Answer:
        """Give a subject a role, and show it as it is now."""
        _check_tenant(call)
        given = await self._service.give_role_as(
            call.principal, call.actor, call.path("subject"), call.body.role
        )
        return Answer(content=self._shown(given))

    def _shown(self, found: subjects.Subject) -> Subject:
        permission = self._service.present_permission(found)
        return Subject(
            id=found.id,
            type=cast(SubjectType, found.kind),
            name=found.name,
            role=found.role,
            permission=None if permission is None else cast(Word, permission.word),
        )


def _check_tenant(call: Call[Any, Any]) -> None:
    grants.check_tenant(call.principal, call.path("tenant"))
