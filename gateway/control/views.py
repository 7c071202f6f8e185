"""How keys, settings and the audit are shown as JSON: never a secret, but a new key's token once."""

from __future__ import annotations

import json
from typing import Any

from gateway.control.lifetime import rfc3339
from gateway.core.policy import KeyPolicy
from gateway.store.base import AuditRow, KeyRecord, Person


def key_view(record: KeyRecord, now_ms: int, *, token: str | None = None) -> dict[str, Any]:
    """Return one key as a JSON object; ``token`` only in the answer to its creation."""
    view: dict[str, Any] = {
        "id": record.id,
        "keyId": record.number,
        "subjectId": record.subject_id,
        "tenantId": record.tenant_id,
        "environmentId": record.environment_id,
        "name": record.name,
        "description": record.description,
        "permission": record.role,
        "prefix": record.prefix,
        "lastFour": record.last_four,
        "hashAlgo": record.hash_algo,
        "createdBySubjectId": record.created_by,
        "createdAt": rfc3339(record.created_at),
        "expiresAt": rfc3339(record.expires_at),
        "status": record.status(now_ms),
        "lastUsedAt": None if record.last_used_at is None else rfc3339(record.last_used_at),
        "intendedUse": record.intended_use,
    }
    if token is not None:
        view["secretKey"] = token
    if record.replaces is not None:
        view["replaces"] = record.replaces
    if record.revoked_at is not None:
        view["revokedAt"] = rfc3339(record.revoked_at)
        view["revokedBy"] = record.revoked_by
    return view


def policy_view(policy: KeyPolicy) -> dict[str, Any]:
    """Return the settings of a tenant's keys that are in effect, under the names that clients know."""
    return {
        "api_keys_enabled": policy.api_keys_enabled,
        "max_keys_per_user": policy.max_keys_per_user,
        "max_api_key_expiry": policy.max_api_key_expiry,
        "scim_externalClient_expiry": policy.scim_client_expiry,
    }


def audit_view(row: AuditRow) -> dict[str, Any]:
    """Return one row of the audit as a JSON object."""
    return {
        "id": row.id,
        "at": rfc3339(row.at),
        "actor": row.actor,
        "action": row.action,
        "kind": row.kind,
        "entity": row.entity,
        "tenantId": row.tenant_id,
        "source": row.source,
        "requestId": row.request_id,
        "detail": json.loads(row.detail) if row.detail else None,
    }


def user_view(person: Person) -> dict[str, Any]:
    """Return one user as a JSON object, never her password's hash."""
    user = person.user
    return {
        "id": user.id,
        "email": user.email,
        "enabled": user.disabled_at is None,
        "defaultTenantId": user.default_tenant_id,
        "memberships": [{"tenantId": m.tenant_id, "role": m.role.word} for m in person.memberships],
        "createdAt": rfc3339(user.created_at),
    }
