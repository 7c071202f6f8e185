"""Read the audit in pages, newest first. Imports ``store`` only."""

from __future__ import annotations

import msgspec

from gateway.store.base import UnknownEntityError
from gateway.store.records import AuditRow
from gateway.store.steps import Query, Row, Steps


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted; what is None does not narrow.

    ``action`` is one action (``key.create``) or a family of them (``key``); ``since`` is inclusive;
    ``after`` is the id of the last row of the page before.
    """

    tenant_id: str | None = None
    actor: str | None = None
    action: str | None = None
    entity: str | None = None
    since: int | None = None
    after: str | None = None


def audit_page(wanted: AuditFilter, limit: int) -> Steps[list[AuditRow]]:
    """Return at most ``limit`` rows, newest first. Raises UnknownEntityError for ``after``."""
    if wanted.after is not None:
        found = yield Query("audit_tenant", (wanted.after,))
        # A cursor into another tenant's rows is no cursor here.
        if not found or wanted.tenant_id not in (None, found[0][0]):
            raise UnknownEntityError("row of the audit", wanted.after)
    rows = yield Query("audit_page", (*msgspec.structs.astuple(wanted), limit))
    return [audit_of(row) for row in rows]


def audit_of(row: Row) -> AuditRow:
    """Return the record of a row of the audit's queries, whose columns stand in its fields' order."""
    return AuditRow(**dict(zip(AuditRow.__struct_fields__, row, strict=True)))
