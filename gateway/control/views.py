"""How a key is shown as JSON: the members of the key resource, and never its secret but once."""

from __future__ import annotations

from typing import Any

from gateway.control.lifetime import rfc3339
from gateway.core.policy import KeyPolicy
from gateway.store.base import KeyRecord


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
        "intendedUse": record.intended_use,
    }
    if token is not None:
        view["secretKey"] = token
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
