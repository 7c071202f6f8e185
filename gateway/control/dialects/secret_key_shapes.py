"""How ``004`` writes keys: the members of what is sent and of what is told.

Imports its own plane.
"""

from __future__ import annotations

import msgspec

from gateway.control.http.members import Id, Instant, Lifetime, Name, RoleName, Text
from gateway.control.lifetime import rfc3339
from gateway.control.making import CreatedKey
from gateway.control.service import RevokedKey
from gateway.store.base import KeyRecord, KeyStatus


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """``004``: what a key is made of; null is the same as nothing.

    ``permission`` is ``viewer``, ``editor`` or a configured role, ``viewer`` when silent;
    ``expiresAt`` is as late as the tenant allows when silent; ``tenantId`` can be the caller's alone.
    """

    name: Name
    description: Text | None = None
    tenant_id: Id | None = None
    environment_id: Id | None = None
    expires_at: Instant | None = None
    intended_use: Name | None = None
    permission: RoleName | None = None


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the old key lives on beside its successor: a duration, ``P1D`` when silent, zero allowed."""

    overlap: Lifetime | None = None


class Key(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """``004``: a key as it is shown, without its secret.

    ``prefix`` is the first characters of the secret, ``lastFour`` its last ones. ``replaces`` is the
    key whose successor it is. ``lastUsedAt`` may be some minutes old; null: never used.
    """

    id: str
    subject_id: str
    tenant_id: str
    environment_id: str | None
    name: str
    description: str
    prefix: str
    last_four: str
    hash_algo: str
    created_by_subject_id: str
    created_at: Instant
    expires_at: Instant
    last_used_at: Instant | None
    status: KeyStatus
    intended_use: str | None
    permission: str
    replaces: str | None
    revoked_at: Instant | None


class NewKeyShown(Key, frozen=True, rename="camel", kw_only=True):
    """``004``: a key with its secret, which is shown this once."""

    secret_key: str


class KeyRevoked(Key, frozen=True, rename="camel", kw_only=True):
    """A key that was revoked, and the ids of those that were revoked along with it."""

    descendants: list[str]


class KeyPage(msgspec.Struct, frozen=True):
    """Some keys; ``next`` is what ``after`` has to be for those that follow, null at the end."""

    data: list[Key]
    next: str | None


def shown(record: KeyRecord, now_ms: int) -> Key:
    """Return a key as it is shown at ``now_ms``."""
    return Key(
        id=record.id,
        subject_id=record.subject_id,
        tenant_id=record.tenant_id,
        environment_id=record.environment_id,
        name=record.name,
        description=record.description,
        prefix=record.prefix,
        last_four=record.last_four,
        hash_algo=record.hash_algo,
        created_by_subject_id=record.created_by,
        created_at=instant_of(record.created_at),
        expires_at=instant_of(record.expires_at),
        last_used_at=None if record.last_used_at is None else instant_of(record.last_used_at),
        status=record.status(now_ms),
        intended_use=record.intended_use,
        permission=record.role,
        replaces=record.replaces,
        revoked_at=None if record.revoked_at is None else instant_of(record.revoked_at),
    )


def shown_once(made: CreatedKey, now_ms: int, *, permission: str | None = None) -> NewKeyShown:
    """Return a new key with its secret; ``permission`` echoes what was asked for in other letters."""
    members = msgspec.structs.asdict(shown(made.record, now_ms))
    if permission is not None:
        members["permission"] = permission
    return NewKeyShown(**members, secret_key=made.token)


def shown_revoked(revoked: RevokedKey, now_ms: int) -> KeyRevoked:
    """Return a revoked key, with what it took along."""
    members = msgspec.structs.asdict(shown(revoked.record, now_ms))
    return KeyRevoked(**members, descendants=[record.id for record in revoked.descendants])


def instant_of(at_ms: int) -> str:
    """Return an instant as ``004`` writes it: without a fraction where there is none."""
    return rfc3339(at_ms).replace(".000Z", "Z")
