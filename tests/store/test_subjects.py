"""A subject's role in the store: given to all its keys or to none, and never lost to a rotation."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import Permission
from gateway.store.base import AuditRow, KeyRecord, MakerEndedError, Store, UnknownEntityError
from gateway.store.lineage import rotate_key
from gateway.store.subjects import give_role, subject, subject_page
from tests.store.samples import a_key, audit, audit_of, audited, now_ms


async def given(store: Store, record: KeyRecord, role: str, permission: Permission, **more: object) -> object:
    def check(checked: KeyRecord) -> None:
        if checked.id == more.get("forbidden"):
            raise PermissionError

    def row_of(changed: KeyRecord) -> AuditRow:
        return audit("key.role", "key", changed.id, changed.tenant_id)

    work = give_role(
        record.tenant_id, record.subject_id, role, permission, now_ms(), check=check, audit_of=row_of
    )
    return await store.write(work)


async def test_a_role_is_given_to_every_active_key_or_to_none(store: Store) -> None:
    first = a_key()
    second, ended = a_key(subject_id=first.subject_id), a_key(subject_id=first.subject_id, expires_at=1)
    for record in (first, second, ended):
        await store.insert_key(record, audit_of(record))
    with pytest.raises(PermissionError):
        await given(store, first, "editor", Permission.EDITOR, forbidden=second.id)
    rows = await audited(store)
    assert "key.role" not in {row.action for row in rows}
    assert {record.role for record in await store.keys()} == {"viewer"}
    await given(store, first, "editor", Permission.EDITOR)
    roles = {record.id: (record.role, record.permission) for record in await store.keys()}
    assert roles == {
        first.id: ("editor", Permission.EDITOR),
        second.id: ("editor", Permission.EDITOR),
        ended.id: ("viewer", Permission.VIEWER),
    }
    with pytest.raises(UnknownEntityError):
        await given(store, a_key(), "editor", Permission.EDITOR)


async def test_a_role_that_was_taken_during_a_rotation_does_not_live_on(
    store: Store,
) -> None:
    """The successor is made ready outside the transaction, which takes as long as argon2 does."""
    old = a_key(role="editor", permission=Permission.EDITOR)
    await store.insert_key(old, audit_of(old))
    fields = {name: getattr(a_key(), name) for name in ("id", "digest", "locator")}
    ready = msgspec.structs.replace(old, replaces=old.id, **fields)
    await given(store, old, "viewer", Permission.VIEWER)
    with pytest.raises(MakerEndedError):
        await store.write(rotate_key(old.id, now_ms(), ready, lambda a, e: audit(a, "key", e)))
    assert [record.id for record in await store.keys()] == [old.id]


async def test_a_subject_is_shown_by_its_newest_active_key(store: Store) -> None:
    older = a_key(name="older")
    newer = a_key(name="newer", subject_id=older.subject_id)
    other = a_key()
    for record in (older, newer, other):
        await store.insert_key(record, audit_of(record))
    shown = await store.read(subject("default", older.subject_id, now_ms()))
    assert (shown.name, shown.kind, shown.permission) == ("newer", "apiKey", Permission.VIEWER)
    await store.revoke_key(newer.id, now_ms(), "cli", audit("key.revoke", "key", newer.id))
    assert (await store.read(subject("default", older.subject_id, now_ms()))).name == "older"
    page = await store.read(subject_page("default", None, 10, now_ms()))
    assert [found.id for found in page] == sorted([older.subject_id, other.subject_id])
