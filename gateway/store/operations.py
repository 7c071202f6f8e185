"""What happens to keys, tenants and the change log inside one transaction, for every engine.

Time and randomness are arguments or come from ``secrets``. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.core.model import Permission
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    DEFAULT_TENANT,
    Actor,
    AuditRow,
    Change,
    ChangeKind,
    Delta,
    DuplicateError,
    Environment,
    KeyRecord,
    LiveRow,
    LoadStart,
    Position,
    Reload,
    Scopes,
    Tenant,
    UnknownEntityError,
    Users,
)
from gateway.store.steps import Query, Row, Steps
from gateway.store.texts import Migration

CHANGES_A_READ = 1000
PEPPER_CHECK = "pepper_check"

T = TypeVar("T")


def insert_key(record: KeyRecord, audit: AuditRow) -> Steps[KeyRecord]:
    """Keep one key under the next number of its tenant."""
    numbers = yield Query("take_key_numbers", (record.tenant_id, 1))
    if not numbers:
        raise UnknownEntityError("tenant", record.tenant_id)
    if record.environment_id is not None:
        found = yield Query("environment", (record.tenant_id, record.environment_id))
        if not found:
            raise UnknownEntityError("environment", record.environment_id)
    record = msgspec.structs.replace(record, number=numbers[0][0])
    yield Query("insert_key", values_of(record))
    yield from recorded(audit, record.created_at)
    return record


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
        [(first + i, secrets.token_hex(8), "key", r.id, at) for i, r in enumerate(numbered)],
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
        yield from recorded(audit, at)
    return key_of(rows[0]), bool(done)


def insert_tenant(tenant: Tenant, audit: AuditRow) -> Steps[None]:
    """Keep a new tenant."""
    if not (yield Query("insert_tenant", values_of(tenant))):
        raise DuplicateError("tenant", tenant.id)
    yield from recorded(audit, tenant.created_at)


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
    yield from recorded(audit, at)
    return tenant


def insert_environment(environment: Environment, audit: AuditRow) -> Steps[None]:
    """Keep a new environment of a tenant that exists."""
    if not (yield Query("tenant", (environment.tenant_id,))):
        raise UnknownEntityError("tenant", environment.tenant_id)
    if not (yield Query("insert_environment", values_of(environment))):
        raise DuplicateError("environment", environment.id)
    yield from recorded(audit, environment.created_at)


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


def tie_pepper(check: bytes) -> Steps[bytes]:
    """Keep a pepper's check value unless there is one; return the one that holds."""
    yield Query("keep_fact", (PEPPER_CHECK, check))
    rows = yield Query("fact", (PEPPER_CHECK,))
    return bytes(rows[0][0])


def read(name: str, *args: Any) -> Steps[list[Row]]:
    """Return the rows of one query."""
    return (yield Query(name, args))


def begin_load(offset_s: float) -> Steps[LoadStart]:
    """Read the head of a full load: where the history stands, and the small tables."""
    ((number, change_id),) = yield Query("change_head")
    checks = yield Query("fact", (PEPPER_CHECK,))
    scopes = yield from _scopes()
    standings = yield Query("standings")
    return LoadStart(
        # A head without its row is a history that cannot be followed: no id will ever match "".
        position=Position(number, change_id or ""),
        scopes=scopes,
        users=Users(None, standings),
        pepper_check=bytes(checks[0][0]) if checks else None,
        offset_s=offset_s,
    )


def changes_after(
    position: Position, build: Callable[[LiveRow], T], offset_s: float
) -> Steps[Delta[T] | Reload]:
    """Return what followed a position, or that its history is not this store's."""
    ((head, _),) = yield Query("change_head")
    if head < position.number:
        return Reload(f"the change log stands at {head}, before {position.number}")
    known = yield Query("change_id", (position.number,))
    if not known or known[0][0] != position.id:
        return Reload(f"change {position.number} is not the one that was read before")
    last = min(head, position.number + CHANGES_A_READ)
    changes = [Change(*row) for row in (yield Query("changes_between", (position.number, last)))]
    if len(changes) != last - position.number:
        return Reload(f"changes are missing between {position.number} and {last}")
    if not changes:
        return Delta(position, [], None, None, False, 0, offset_s)
    changed = yield Query("live_keys_changed", (position.number, last))
    scopes = None
    if any(change.kind in ("tenant", "environment") for change in changes):
        scopes = yield from _scopes()
    users = None
    if ids := frozenset(change.entity for change in changes if change.kind == "user"):
        users = Users(ids, (yield Query("standings_changed", (position.number, last))))
    return Delta(
        position=Position(last, changes[-1].id),
        keys=[build(LiveRow(*row)) for row in changed],
        scopes=scopes,
        users=users,
        more=last < head,
        latest_at=changes[-1].at,
        offset_s=offset_s,
    )


def audit_row(
    actor: Actor, action: str, kind: ChangeKind, entity: str, at: int, tenant_id: str | None = None
) -> AuditRow:
    """Return a row of the audit with an id of its own."""
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


def _scopes() -> Steps[Scopes]:
    tenants = yield Query("tenants")
    prefixes = yield Query("prefixes")
    return Scopes(tuple(map(tenant_of, tenants)), tuple(row[0] for row in prefixes))


def recorded(audit: AuditRow, at: int) -> Steps[None]:
    """Write the audit row and the change of what was just done, so that one is not without the other."""
    yield Query("insert_audit", values_of(audit))
    head = yield Query("take_change_numbers", (1,))
    yield Query("insert_change", (head[0][0], secrets.token_hex(8), audit.kind, audit.entity, at))


def values_of(record: msgspec.Struct) -> tuple[Any, ...]:
    """Return a record's fields in order, as the engines' parameters."""
    return tuple(
        value.word if isinstance(value, Permission) else value for value in msgspec.structs.astuple(record)
    )
