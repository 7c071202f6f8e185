"""What happens to keys, tenants and the change log inside one transaction, for every engine.

Time and randomness are arguments or come from ``secrets``. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.core.model import Permission
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    DEFAULT_TENANT,
    Actor,
    AuditRow,
    CapError,
    ChangeKind,
    DuplicateError,
    Environment,
    KeyRecord,
    MakerEndedError,
    Tenant,
    UnknownEntityError,
)
from gateway.store.steps import Query, Row, Steps
from gateway.store.texts import Migration

T = TypeVar("T")


def insert_key(
    record: KeyRecord, audit: AuditRow, *, cap: int | None = None, user_id: str | None = None
) -> Steps[KeyRecord]:
    """Keep one key under the next number of its tenant.

    ``cap`` is how many active keys the subject at the root of its lineage may have, ``user_id`` who
    makes it, or for whom the key acts that makes it. Raises UnknownEntityError (tenant, environment),
    CapError, MakerEndedError.
    """
    if not (yield Query("take_key_numbers", (record.tenant_id, 0))):
        raise UnknownEntityError("tenant", record.tenant_id)
    # The tenant's row is locked by now, so that of many at once each sees what the others made.
    yield from check_maker(record, user_id)
    return (yield from keep_key(record, audit, cap=cap))


def keep_key(record: KeyRecord, audit: AuditRow, *, cap: int | None = None) -> Steps[KeyRecord]:
    """Keep a key whose maker was found to be one; the row of its tenant, which exists, is locked."""
    if record.root_id is not None and cap is not None:
        ((count,),) = yield Query("active_keys", (record.tenant_id, record.root_id, record.created_at))
        if count >= cap:
            raise CapError(cap)
    if record.environment_id is not None:
        found = yield Query("environment", (record.tenant_id, record.environment_id))
        if not found:
            raise UnknownEntityError("environment", record.environment_id)
    numbers = yield Query("take_key_numbers", (record.tenant_id, 1))
    record = msgspec.structs.replace(record, number=numbers[0][0])
    yield Query("insert_key", values_of(record))
    yield from recorded(audit)
    return record


def check_maker(record: KeyRecord, user_id: str | None) -> Steps[None]:
    """Raise MakerEndedError unless who makes a key still may, after the time that its hash took."""
    if record.created_by_key is not None:
        rows = yield Query("key", (record.created_by_key,))
        maker = key_of(rows[0]) if rows else None
        if (
            maker is None
            or maker.status(record.created_at) != "active"
            or maker.permission < Permission.EDITOR
        ):
            raise MakerEndedError
    if user_id is not None:
        standing = yield Query("standing", (user_id, record.tenant_id))
        if not standing or Permission[standing[0][0].upper()] < Permission.EDITOR:
            raise MakerEndedError
    if record.sub_type == "user" and not (yield Query("standing", (record.subject_id, record.tenant_id))):
        raise MakerEndedError


def change_key(key_id: str, description: str, at: int, audit: AuditRow) -> Steps[KeyRecord]:
    """Change a key's description. Raises UnknownEntityError."""
    yield Query("describe_key", (key_id, description, at))
    rows = yield Query("key", (key_id,))
    if not rows:
        raise UnknownEntityError("key", key_id)
    yield from recorded(audit)
    return key_of(rows[0])


def key_by_digest(digest: bytes) -> Steps[KeyRecord | None]:
    """Return the key with a digest."""
    rows = yield Query("key_by_digest", (digest,))
    return key_of(rows[0]) if rows else None


def key_by_number(tenant_id: str, number: int) -> Steps[KeyRecord | None]:
    """Return the key with a number in a tenant."""
    rows = yield Query("key_by_number", (tenant_id, number))
    return key_of(rows[0]) if rows else None


def insert_keys(records: Sequence[KeyRecord], actor: Actor) -> Steps[int]:
    """Keep one batch of keys: a number and a change for each, one audit row for all of them."""
    numbered: list[KeyRecord] = []
    for tenant_id in sorted({record.tenant_id for record in records}):
        own = [record for record in records if record.tenant_id == tenant_id]
        numbers = yield Query("take_key_numbers", (tenant_id, len(own)))
        if not numbers:
            raise UnknownEntityError("tenant", tenant_id)
        first = numbers[0][0] - len(own) + 1
        numbered += [msgspec.structs.replace(r, number=first + i) for i, r in enumerate(own)]
    yield Query("insert_key", [values_of(record) for record in numbered], many=True)
    at = max(record.created_at for record in numbered)
    head = yield Query("take_change_numbers", (len(numbered),))
    first = head[0][0] - len(numbered) + 1
    yield Query(
        "insert_change",
        [(first + i, secrets.token_hex(8), "key", r.id) for i, r in enumerate(numbered)],
        many=True,
    )
    yield Query("insert_audit", values_of(audit_row(actor, "key.import", "key", f"{len(numbered)} keys", at)))
    return len(numbered)


def revoke_key(key_id: str, at: int, by: str, audit: AuditRow) -> Steps[tuple[KeyRecord, bool]]:
    """Revoke a key unless that was done before; tell which."""
    done = yield Query("revoke_key", (key_id, at, by))
    rows = yield Query("key", (key_id,))
    if not rows:
        raise UnknownEntityError("key", key_id)
    if done:
        yield from recorded(audit)
    return key_of(rows[0]), bool(done)


def insert_tenant(tenant: Tenant, audit: AuditRow) -> Steps[None]:
    """Keep a new tenant."""
    if not (yield Query("insert_tenant", values_of(tenant))):
        raise DuplicateError("tenant", tenant.id)
    yield from recorded(audit)


def change_tenant(tenant_id: str, changes: Mapping[str, Any], at: int, audit: AuditRow) -> Steps[Tenant]:
    """Change some of a tenant's fields, read in the same transaction so that none of another's is lost."""
    rows = yield Query("tenant", (tenant_id,))
    if not rows:
        raise UnknownEntityError("tenant", tenant_id)
    tenant = msgspec.structs.replace(tenant_of(rows[0]), **changes, updated_at=at)
    values = (
        tenant.id,
        tenant.name,
        tenant.api_keys_enabled,
        tenant.max_keys_per_user,
        tenant.max_api_key_expiry,
        tenant.scim_client_expiry,
        tenant.updated_at,
    )
    yield Query("update_tenant", values)
    yield from recorded(audit)
    return tenant


def insert_environment(environment: Environment, audit: AuditRow) -> Steps[None]:
    """Keep a new environment of a tenant that exists."""
    if not (yield Query("tenant", (environment.tenant_id,))):
        raise UnknownEntityError("tenant", environment.tenant_id)
    if not (yield Query("insert_environment", values_of(environment))):
        raise DuplicateError("environment", environment.id)
    yield from recorded(audit)


def migration(step: Migration, at: int) -> Steps[None]:
    """Apply one step of the schema; the first also gives the store its first tenant."""
    yield Query("create_schema_migrations")
    for statement in step.statements:
        yield Query(statement, literal=True)
    yield Query("insert_schema_migration", (step.version, step.name, at))
    if step.version == 1:
        yield from _seed(at)


def _seed(at: int) -> Steps[None]:
    """Give a new store its first tenant; its change begins a history that no other store has."""
    tenant = Tenant(id=DEFAULT_TENANT, name="Default", created_at=at, updated_at=at)
    actor = Actor(name="gateway", source="migrate")
    yield from insert_tenant(tenant, audit_row(actor, "tenant.create", "tenant", tenant.id, at, tenant.id))


def read(name: str, *args: Any) -> Steps[list[Row]]:
    """Return the rows of one query."""
    return (yield Query(name, args))


def audit_row(
    actor: Actor,
    action: str,
    kind: ChangeKind,
    entity: str,
    at: int,
    tenant_id: str | None = None,
    detail: str | None = None,
) -> AuditRow:
    """Return a row of the audit with an id of its own; ``detail`` is JSON."""
    return AuditRow(
        id=f"audit_{uuid7(at, secrets.token_bytes(10))}",
        at=at,
        actor=actor.name,
        action=action,
        kind=kind,
        entity=entity,
        tenant_id=tenant_id,
        source=actor.source,
        request_id=actor.request_id,
        detail=detail,
    )


def key_of(row: Row) -> KeyRecord:
    """Return the record of a row of the ``key`` queries, whose columns stand in its fields' order."""
    fields = dict(zip(KeyRecord.__struct_fields__, row, strict=True))
    fields["permission"] = Permission[fields["permission"].upper()]
    if fields["digest"] is not None:
        fields["digest"] = bytes(fields["digest"])
    return KeyRecord(**fields)


def tenant_of(row: Row) -> Tenant:
    """Return the record of a row of the ``tenant`` queries."""
    fields = dict(zip(Tenant.__struct_fields__, row, strict=True))
    if fields["api_keys_enabled"] is not None:
        fields["api_keys_enabled"] = bool(fields["api_keys_enabled"])
    return Tenant(**fields)


def environment_of(row: Row) -> Environment:
    """Return the record of a row of the ``environment`` queries."""
    return Environment(**dict(zip(Environment.__struct_fields__, row, strict=True)))


def recorded(audit: AuditRow) -> Steps[None]:
    """Write the audit row and the change of what was just done, so that one is not without the other."""
    yield Query("insert_audit", values_of(audit))
    head = yield Query("take_change_numbers", (1,))
    yield Query("insert_change", (head[0][0], secrets.token_hex(8), audit.kind, audit.entity))


def values_of(record: msgspec.Struct) -> tuple[Any, ...]:
    """Return a record's fields in order, as the engines' parameters."""
    return tuple(
        value.word if isinstance(value, Permission) else value for value in msgspec.structs.astuple(record)
    )
