"""Read keys in pages, in any order that clients may ask for; done by the store, never in memory.

A cursor is a key's id and stands for that key's place in the order (the value, then the id), so
that keys which are added or removed meanwhile move nobody else. Imports ``store`` only.
"""

from __future__ import annotations

import msgspec

from gateway.store.base import KeyRecord, KeyStatus, UnknownEntityError
from gateway.store.operations import key_of
from gateway.store.steps import Query, Steps

_STATUS = (
    "CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= $6 THEN 'expired' ELSE 'active' END"
)
SORTS = {
    "created": "created_at",
    "createdByUser": "created_by",
    "sub": "subject_id",
    "status": _STATUS,
    "description": "description",
    "number": "number",
}
"""What keys may be sorted by → the expression that says it."""


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys of a tenant are wanted; what is None does not narrow.

    ``own`` is a subject: only the keys that it made or that act as it.
    """

    tenant_id: str
    created_by: str | None = None
    subject_id: str | None = None
    own: str | None = None
    status: KeyStatus | None = None


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the list is wanted: ``sort`` with its direction, and what comes after or before a key."""

    sort: str = "created"
    descending: bool = True
    after: str | None = None
    before: str | None = None


class KeyPage(msgspec.Struct, frozen=True):
    """Some keys in the order that was asked for, and whether others come before and after them."""

    records: list[KeyRecord]
    more_before: bool
    more_after: bool


def key_page(wanted: KeyFilter, place: Place, limit: int, now_ms: int) -> Steps[KeyPage]:
    """Return one page. Raises UnknownEntityError for a cursor that is no key of this list."""
    cursor = place.after if place.after is not None else place.before
    if cursor is not None:
        yield from _check_cursor(wanted, cursor)
    backward = place.before is not None
    records = yield from _rows(wanted, place, cursor, backward, limit + 1, now_ms)
    more, records = len(records) > limit, records[:limit]
    if backward:
        records.reverse()
    if not records:
        return KeyPage([], False, False)
    edge = records[-1] if backward else records[0]
    others = yield from _rows(wanted, place, edge.id, not backward, 1, now_ms)
    return KeyPage(records, bool(others), more) if not backward else KeyPage(records, more, bool(others))


def _check_cursor(wanted: KeyFilter, cursor: str) -> Steps[None]:
    rows = yield Query("key", (cursor,))
    record = key_of(rows[0]) if rows else None
    if (
        record is None
        or record.tenant_id != wanted.tenant_id
        or wanted.own not in (None, record.created_by, record.subject_id)
    ):
        raise UnknownEntityError("cursor", cursor)


def _rows(
    wanted: KeyFilter, place: Place, cursor: str | None, backward: bool, limit: int, now_ms: int
) -> Steps[list[KeyRecord]]:
    descending = place.descending is not backward
    fill = {
        "/*sort*/": SORTS[place.sort],
        "/*beyond*/": "<" if descending else ">",
        "/*order*/": "DESC" if descending else "ASC",
    }
    narrowing = (wanted.tenant_id, wanted.created_by, wanted.subject_id, wanted.own, wanted.status)
    rows = yield Query("key_page", (*narrowing, now_ms, cursor, limit), fill=tuple(fill.items()))
    return [key_of(row) for row in rows]
