"""The audit: how every change is written down, and how it is read. The root of the domain service.

Imports ``core``, ``store`` and its own plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec

from gateway.control.errors import Invalid
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.store.audit import AuditFilter, audit_page
from gateway.store.base import Actor, AuditRow, ChangeKind, Store, UnknownEntityError
from gateway.store.operations import audit_row

LARGEST_PAGE = 1000


class AuditPage(msgspec.Struct, frozen=True):
    """Some rows of the audit, newest first; ``next`` is the cursor of the page that follows, if any."""

    rows: list[AuditRow]
    next: str | None


class AuditService:
    """Holds what every part of the domain service needs: the store, the policy, the clock, the audit."""

    def __init__(
        self,
        store: Store,
        policy: KeyPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a migrated store and the policy of tenants that set nothing; ``clock`` tells epoch seconds."""
        self._store = store
        self._policy = policy
        self._clock = clock

    def now_ms(self) -> int:
        """Return the time in epoch milliseconds, on the clock that keys are made by."""
        return int(self._clock() * 1000)

    async def read_audit(self, wanted: AuditFilter, *, limit: int = 100) -> AuditPage:
        """Return one page of the audit, newest first; rows that are added meanwhile move none.

        Raises Invalid (limit, after).
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise Invalid("limit", f"must be a whole number from 1 to {LARGEST_PAGE}")
        try:
            rows = await self._store.read(audit_page(wanted, limit + 1))
        except UnknownEntityError:
            raise Invalid("after", "is not a cursor that a page of this list has named") from None
        more = len(rows) > limit
        return AuditPage(rows[:limit], rows[limit - 1].id if more else None)

    def _audit(
        self,
        actor: Actor,
        action: str,
        kind: ChangeKind,
        entity: str,
        tenant_id: str | None,
        *,
        detail: Mapping[str, object] | None = None,
    ) -> AuditRow:
        told = msgspec.json.encode(detail).decode() if detail else None
        return audit_row(actor, action, kind, entity, self.now_ms(), tenant_id, told)
