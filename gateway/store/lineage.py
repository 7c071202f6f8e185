"""Keys and what came of them: successors that replace them, and the keys that they made.

A key descends from the one that made it; the successor of a descendant does too, so that rotating a
key does not take it out of the reach of its ancestor's revocation. Imports ``store`` only.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.store.base import (
    AuditRow,
    DuplicateError,
    EndedError,
    KeyRecord,
    MakerEndedError,
    UnknownEntityError,
)
from gateway.store.operations import check_maker, keep_key, key_of, recorded, revoke_key
from gateway.store.steps import Query, Steps

AuditOf = Callable[[str, str], AuditRow]
"""Makes the audit row of an action on a key: (action, key id) → row."""


def rotate_key(
    key_id: str,
    ends_at: int,
    successor: KeyRecord,
    audit_of: AuditOf,
    *,
    cap: int | None = None,
    user_id: str | None = None,
) -> Steps[tuple[KeyRecord, KeyRecord]]:
    """Keep ``successor``, and end the old key at the earlier of its own end and ``ends_at``.

    ``cap`` and ``user_id`` as ``insert_key`` has them.

    Returns both. Raises UnknownEntityError, EndedError (what has ended has no successor),
    DuplicateError (it has one that was not revoked), CapError, MakerEndedError (also: its role is
    another by now).
    """
    at = successor.created_at
    # The tenant's row is locked first, as for a change of roles: none is given between reading and keeping.
    yield Query("take_key_numbers", (successor.tenant_id, 0))
    rows = yield Query("key", (key_id,))
    if not rows:
        raise UnknownEntityError("key", key_id)
    old = key_of(rows[0])
    if old.status(at) != "active":
        raise EndedError(key_id, old.status(at))
    if (old.role, old.permission) != (successor.role, successor.permission):
        raise MakerEndedError
    if found := (yield Query("successor", (key_id,))):
        raise DuplicateError("successor", found[0][0])
    # Before the old key ends: it may be the one that asks.
    yield from check_maker(successor, user_id)
    yield Query("end_key", (key_id, min(old.expires_at, ends_at), at))
    yield from recorded(audit_of("key.rotate", key_id))
    kept = yield from keep_key(successor, audit_of("key.create", successor.id), cap=cap)
    rows = yield Query("key", (key_id,))
    return key_of(rows[0]), kept


def revoke_lineage(
    key_id: str, at: int, by: str, audit_of: AuditOf
) -> Steps[tuple[KeyRecord, bool, list[KeyRecord]]]:
    """Revoke a key and all that descend from it.

    Returns the key, whether this call revoked it, and the descendants that this call revoked.
    Raises UnknownEntityError.
    """
    record, done = yield from revoke_key(key_id, at, by, audit_of("key.revoke", key_id))
    taken: list[KeyRecord] = []
    for (found,) in (yield Query("descendants", (key_id,))):
        descendant, ended = yield from revoke_key(found, at, by, audit_of("key.revoke", found))
        taken += [descendant] if ended else []
    return record, done, taken


def remove_key(key_id: str, at: int, by: str, audit_of: AuditOf) -> Steps[KeyRecord]:
    """Revoke a key unless that was done before, and show it no longer. Raises UnknownEntityError."""
    yield from revoke_key(key_id, at, by, audit_of("key.revoke", key_id))
    if (yield Query("remove_key", (key_id, at))):
        yield from recorded(audit_of("key.remove", key_id))
    rows = yield Query("key", (key_id,))
    return key_of(rows[0])


def makers(tenant_id: str, lowest: int, highest: int) -> Steps[dict[str, str]]:
    """Return id → address of the users who made a tenant's keys of these numbers, or keys that made them."""
    return dict((yield Query("makers_of_keys", (tenant_id, lowest, highest))))
