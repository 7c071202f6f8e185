"""Subjects of a tenant: its users, and the identities that keys have of their own, with their roles.

The identity of a key is there while one of its keys is active; the role that it is given is that of
all of them, so that a key and its successor stay alike. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.core.model import Permission
from gateway.store.base import AuditRow, KeyRecord, UnknownEntityError
from gateway.store.operations import key_of, recorded
from gateway.store.steps import Query, Row, Steps

USER = "user"


class Subject(msgspec.Struct, frozen=True):
    """Somebody who may be given a role.

    Attributes:
        kind: ``user``, or the ``sub_type`` of its keys (``apiKey``, ``externalClient``).
        name: a user's address, or the name of the newest key.
        role: of a user what she is in the tenant, of keys the role that they have.
        permission: what that role was when it was given.
    """

    id: str
    kind: str
    name: str
    role: str
    permission: Permission


def subject_page(tenant_id: str, after: str | None, limit: int, now_ms: int) -> Steps[list[Subject]]:
    """Return at most ``limit`` subjects of a tenant by id, those beyond ``after``.

    Raises UnknownEntityError for an ``after`` that never was a subject here; one that has ended since
    keeps its place.
    """
    if after is not None and not (yield Query("subject_known", (tenant_id, after))):
        raise UnknownEntityError("cursor", after)
    rows = yield Query("subject_page", (tenant_id, now_ms, after or "", limit))
    return [_subject_of(row) for row in rows]


def subject(tenant_id: str, subject_id: str, now_ms: int) -> Steps[Subject]:
    """Return one subject. Raises UnknownEntityError."""
    rows = yield Query("subject", (tenant_id, now_ms, subject_id))
    if not rows:
        raise UnknownEntityError("subject", subject_id)
    return _subject_of(rows[0])


def give_role(
    tenant_id: str,
    subject_id: str,
    role: str,
    permission: Permission,
    at: int,
    *,
    check: Callable[[KeyRecord], None],
    audit_of: Callable[[KeyRecord], AuditRow],
) -> Steps[Subject]:
    """Give the active keys that share an identity a role; those that have it already stay as they are.

    ``check`` raises where a key may not be changed; then none is. Raises UnknownEntityError.
    """
    # The tenant's row is locked first, as whoever makes a key does: no successor slips in with the old role.
    yield Query("take_key_numbers", (tenant_id, 0))
    rows = yield Query("active_keys_of_subject", (tenant_id, subject_id, at))
    if not rows:
        raise UnknownEntityError("subject", subject_id)
    records = [key_of(row) for row in rows]
    for record in records:
        check(record)
    for record in records:
        if (record.role, record.permission) != (role, permission):
            yield Query("give_key_role", (record.id, role, permission.word, at))
            yield from recorded(audit_of(record))
    return (yield from subject(tenant_id, subject_id, at))


def _subject_of(row: Row) -> Subject:
    subject_id, kind, name, role, permission = row
    return Subject(subject_id, kind, name, role, Permission[permission.upper()])
