"""``/api/1/audit``: who changed what in an organisation, newest first. Imports its own plane."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.control.audit import LARGEST_PAGE
from gateway.control.domain import DomainService
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint
from gateway.control.http.members import Cursor, Instant, Since
from gateway.control.lifetime import rfc3339, since_when
from gateway.store.audit import AuditFilter
from gateway.store.base import AuditRow

DEFAULT_LIMIT = 100


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """One change: who made it, what was done to which entity, when, from where, by which request."""

    id: str
    at: Instant
    actor: str
    action: str
    kind: str
    entity: str
    tenant_id: str | None
    source: str
    request_id: str | None
    detail: dict[str, Any] | None


class Rows(msgspec.Struct, frozen=True):
    """Some changes; ``next`` is what ``after`` has to be for those before them, null at the end."""

    data: list[Row]
    next: str | None


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which changes are wanted.

    ``action`` is one action (``key.revoke``) or a family of them (``key``); ``since`` is an RFC 3339
    instant or so long ago (``24h``, ``P1D``).
    """

    actor: str | None = None
    action: str | None = None
    entity: str | None = None
    since: Since | None = None
    limit: Annotated[int, Meta(ge=1, le=LARGEST_PAGE)] = DEFAULT_LIMIT
    after: Cursor | None = None


class AuditDialect:
    """The one operation of the audit."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="GET",
                path="/api/1/audit",
                operation="listAudit",
                summary="List who changed what in the caller's tenant, newest first; for its admins",
                handler=self.list_rows,
                query=Wanted,
                answers={200: Rows},
                faults=(400, 401, 403, 429),
                tag="audit",
            )
        ]

    async def list_rows(self, call: Call[None, Wanted]) -> Answer:
        """List changes."""
        asked = call.query
        since = None if asked.since is None else since_when(asked.since, self._service.now_ms())
        wanted = AuditFilter(
            actor=asked.actor, action=asked.action, entity=asked.entity, since=since, after=asked.after
        )
        page = await self._service.read_audit_as(call.principal, wanted, limit=asked.limit)
        return Answer(content=Rows([_shown(row) for row in page.rows], page.next))


def _shown(row: AuditRow) -> Row:
    return Row(
        id=row.id,
        at=rfc3339(row.at),
        actor=row.actor,
        action=row.action,
        kind=row.kind,
        entity=row.entity,
        tenant_id=row.tenant_id,
        source=row.source,
        request_id=row.request_id,
        detail=json.loads(row.detail) if row.detail else None,
    )
