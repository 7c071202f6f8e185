"""Records for tests: made up, valid, each different from the last."""

from __future__ import annotations

import itertools
import secrets
import time
from typing import Any

from gateway.core.model import Permission
from gateway.core.tokens import Digester
from gateway.core.uuid7 import uuid7
from gateway.store.audit import AuditFilter, audit_page
from gateway.store.base import DAY_MS, Actor, AuditRow, ChangeKind, KeyRecord, Store, Tenant
from gateway.store.operations import audit_row
from gateway.store.peppers import Pepper

ACTOR = Actor(name="cli:tester@here", source="test")
_serial = itertools.count(1)


def now_ms() -> int:
    return int(time.time() * 1000)


def a_key(**fields: Any) -> KeyRecord:
    now = now_ms()
    values: dict[str, Any] = {
        "id": f"apk_{uuid7(now, secrets.token_bytes(10))}",
        "tenant_id": "default",
        "subject_id": f"subject_{uuid7(now, secrets.token_bytes(10))}",
        "created_by": ACTOR.name,
        "name": f"key {next(_serial)}",
        "role": "viewer",
        "permission": Permission.VIEWER,
        "prefix": "gw_live_abcd",
        "last_four": "wxyz",
        "created_at": now,
        "updated_at": now,
        "expires_at": now + DAY_MS,
        "digest": secrets.token_bytes(32),
        "pepper_id": "01020304",
        "locator": f"gw_live_{secrets.token_hex(6)}",
        "verifier": "$argon2id$made-up",
    }
    return KeyRecord(**(values | fields))


def a_tenant(tenant_id: str, **fields: Any) -> Tenant:
    now = now_ms()
    return Tenant(**({"id": tenant_id, "name": tenant_id, "created_at": now, "updated_at": now} | fields))


def audit(
    action: str = "key.create", kind: ChangeKind = "key", entity: str = "x", tenant: str | None = None
) -> AuditRow:
    return audit_row(ACTOR, action, kind, entity, now_ms(), tenant)


def pepper_of(digester: Digester) -> Pepper:
    """Return the newest pepper of a digester, as a store knows it."""
    newest = digester.pepper_ids[0]
    return Pepper(newest, digester.check_values()[newest], now_ms())


async def audited(store: Store) -> list[AuditRow]:
    """Return the whole audit, newest first."""
    return await store.read(audit_page(AuditFilter(), 1000))


def audit_of(record: KeyRecord) -> AuditRow:
    return audit("key.create", "key", record.id, record.tenant_id)
