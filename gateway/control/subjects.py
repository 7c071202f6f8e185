"""Subjects and their roles: who they are in a tenant, and who may change what they may do.

A key with an identity of its own takes the role that its subject is given, and so do its successors;
a user is what her membership says. Imports ``core``, ``store`` and its own plane.

Promise: nobody gives a role that is more than what she has, nor to what is not hers unless she is an
admin; and a tenant keeps an admin.
"""

from __future__ import annotations

import msgspec

from gateway.control import grants
from gateway.control.errors import Conflict, Invalid, NotFound
from gateway.control.grants import Principal
from gateway.control.service import KeyService
from gateway.control.users import ROLES
from gateway.core.model import Permission
from gateway.store import people, subjects
from gateway.store.base import Actor, AuditRow, KeyRecord, UnknownEntityError
from gateway.store.subjects import Subject

LARGEST_PAGE = 100


class SubjectPage(msgspec.Struct, frozen=True):
    """Some subjects by id; ``next`` is the cursor of the page that follows, if any."""

    subjects: list[Subject]
    next: str | None


class SubjectService(KeyService):
    """Lists subjects and gives them roles, in the name of a principal of their tenant."""

    async def list_subjects_as(
        self, principal: Principal, *, after: str | None = None, limit: int = LARGEST_PAGE
    ) -> SubjectPage:
        """Return one page of the tenant's users and of the identities of its active keys, to an admin.

        Raises Forbidden, Invalid (limit, after).
        """
        grants.check_admin(principal)
        if not 1 <= limit <= LARGEST_PAGE:
            raise Invalid("limit", f"must be a whole number from 1 to {LARGEST_PAGE}")
        work = subjects.subject_page(principal.tenant_id, after, limit + 1, self.now_ms())
        try:
            found = await self._store.read(work)
        except UnknownEntityError:
            raise Invalid("after", "is not a subject of this list") from None
        return SubjectPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def show_subject_as(self, principal: Principal, subject_id: str) -> Subject:
        """Return one subject of the principal's tenant; a user to herself and to admins.

        Raises NotFound, Forbidden.
        """
        try:
            found = await self._store.read(subjects.subject(principal.tenant_id, subject_id, self.now_ms()))
        except UnknownEntityError:
            raise NotFound("subject", subject_id) from None
        if found.kind == subjects.USER and found.id != principal.user_id:
            grants.check_admin(principal)
        return found

    async def give_role_as(self, principal: Principal, actor: Actor, subject_id: str, wanted: str) -> Subject:
        """Give a subject a role: all its active keys take it, a user is that in the tenant.

        Raises NotFound, Invalid (role), Forbidden (more than she has, or not hers), Conflict (the last
        admin would be none any more).
        """
        subject = await self.show_subject_as(principal, subject_id)
        if subject.kind == subjects.USER:
            return await self._give_user(principal, actor, subject, wanted)
        return await self._give_keys(principal, actor, subject, wanted)

    def present_permission(self, subject: Subject) -> Permission | None:
        """Return what a subject's role lets it do now; None: the role is no longer configured."""
        if subject.kind == subjects.USER:
            return subject.permission
        role = self._roles.get(subject.role)
        return None if role is None else min(subject.permission, role.permission)

    async def _give_user(self, principal: Principal, actor: Actor, subject: Subject, wanted: str) -> Subject:
        role = ROLES.get(wanted.lower())
        if role is None:
            raise Invalid("role", f"must be one of {', '.join(ROLES)} for a user")
        grants.check_admin(principal)
        if role is not subject.permission:
            tenant = principal.tenant_id
            detail = {"role": role.word, "before": subject.role}
            audit = self._audit(actor, "user.role", "user", subject.id, tenant, detail=detail)
            work = people.change_role(subject.id, tenant, role, audit)
            try:
                await self._store.write(people.keeps_an_admin(tenant, work))
            except UnknownEntityError:
                raise NotFound("subject", subject.id) from None
            except people.LastAdminError as error:
                raise Conflict(str(error)) from None
        return await self.show_subject_as(principal, subject.id)

    async def _give_keys(self, principal: Principal, actor: Actor, subject: Subject, wanted: str) -> Subject:
        try:
            role = self._role(wanted)
        except Invalid as error:
            raise Invalid("role", error.reason) from None
        tenant = principal.tenant_id

        def check(record: KeyRecord) -> None:
            grants.check_manages(principal, record)

        def audit_of(record: KeyRecord) -> AuditRow:
            detail = {"subjectId": subject.id, "role": role.name, "before": record.role}
            return self._audit(actor, "key.role", "key", record.id, tenant, detail=detail)

        grants.check_grant(principal, role)
        work = subjects.give_role(
            tenant, subject.id, role.name, role.permission, self.now_ms(), check=check, audit_of=audit_of
        )
        try:
            return await self._store.write(work)
        except UnknownEntityError:
            raise NotFound("subject", subject.id) from None
