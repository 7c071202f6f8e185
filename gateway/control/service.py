"""The one domain service: what the CLI and every wire dialect do to keys, tenants and environments.

It checks, makes and names things; the store keeps them. Imports ``core``, ``store`` and its own
plane.
"""

from __future__ import annotations

import os

import msgspec

from gateway.control.errors import Conflict, NotFound
from gateway.control.grants import Maker
from gateway.control.lifetime import after, expiry
from gateway.control.making import CreatedKey, KeyMaker, longest
from gateway.control.minting import claims_of
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    Actor,
    DuplicateError,
    EndedError,
    KeyRecord,
    KeyStatus,
)
from gateway.store.lineage import AuditOf, remove_key, revoke_lineage, rotate_key

DEFAULT_OVERLAP = "P1D"


class RotatedKey(msgspec.Struct, frozen=True):
    """A key that has a successor: when it ends now, and the successor with its token."""

    old: KeyRecord
    successor: CreatedKey


class RevokedKey(msgspec.Struct, frozen=True):
    """A revoked key; ``already`` when it had been revoked before, which then still stands.

    ``descendants`` are the keys that were revoked along with it.
    """

    record: KeyRecord
    already: bool
    descendants: tuple[KeyRecord, ...] = ()


class KeyService(KeyMaker):
    """Shows, rotates and ends keys besides making them.

    What it stands on looks after users, tenants and environments, and reads the audit.

    Every method may raise ``StoreError`` (the store could not be had) and the errors of
    ``gateway.control.errors``.
    """

    async def list_keys(
        self, *, tenant: str | None = None, status: KeyStatus | None = None
    ) -> list[KeyRecord]:
        """Return the keys, of one tenant or all, by tenant and number. Raises NotFound (tenant)."""
        if tenant is not None and await self._store.tenant(tenant) is None:
            raise NotFound("tenant", tenant)
        now = self.now_ms()
        keys = await self._store.keys(tenant_id=tenant)
        return [key for key in keys if status is None or key.status(now) == status]

    async def show_key(self, key_id: str) -> KeyRecord:
        """Return one key. Raises NotFound."""
        record = await self._store.key(key_id)
        if record is None:
            raise NotFound("key", key_id)
        return record

    async def revoke_key(self, actor: Actor, key_id: str, *, descendants: bool = False) -> RevokedKey:
        """Revoke a key for good; doing so twice changes nothing.

        With ``descendants`` also the keys that it made, those that they made, and their successors.
        Raises NotFound.
        """
        record = await self.show_key(key_id)
        now, audit_of = self.now_ms(), self._key_audit(actor, record.tenant_id)
        if descendants:
            record, done, taken = await self._store.write(revoke_lineage(key_id, now, actor.name, audit_of))
            return RevokedKey(record, already=not done, descendants=tuple(taken))
        record, done = await self._store.revoke_key(key_id, now, actor.name, audit_of("key.revoke", key_id))
        return RevokedKey(record, already=not done)

    async def rotate_key(
        self,
        actor: Actor,
        key_id: str,
        *,
        overlap: str = DEFAULT_OVERLAP,
        ttl: str | None = None,
        maker: Maker | None = None,
    ) -> RotatedKey:
        """Make a successor with the same subject, role, limits and form; the old key ends after ``overlap``.

        ``overlap`` is a duration and may be no time at all. The successor lives as long as its
        predecessor was made to, unless ``ttl`` says otherwise, within what the tenant allows now.
        Raises NotFound, Invalid, Conflict (the key has ended or has a successor), Forbidden (the
        tenant's keys are switched off, the cap is reached).
        """
        old = await self.show_key(key_id)
        policy = self.policy_of(await self._open_tenant(old.tenant_id))
        by = maker or Maker(created_by=actor.name)
        now = self.now_ms()
        ends_at = after(now, overlap, member="overlap")
        latest = expiry(now, ttl=ttl, expires_at=None, maximum=longest(policy, old.sub_type))
        successor = msgspec.structs.replace(
            old,
            id=f"apk_{uuid7(now, os.urandom(10))}",
            created_by=by.created_by,
            created_by_key=by.created_by_key,
            root_id=old.root_id or by.root_id,
            created_at=now,
            updated_at=now,
            expires_at=latest if ttl is not None else min(latest, now + old.expires_at - old.created_at),
            revoked_at=None,
            revoked_by=None,
            replaces=old.id,
            last_used_at=None,
        )
        prefix = await self._prefix(old.tenant_id, old.environment_id)
        token, fields = await self._mint.make(prefix, jwt=claims_of(successor) if old.is_jwt else None)
        successor = msgspec.structs.replace(successor, **fields)
        try:
            audit_of = self._key_audit(actor, old.tenant_id)
            cap = None if maker is None else policy.max_keys_per_user
            work = rotate_key(key_id, ends_at, successor, audit_of, cap=cap, user_id=by.user_id)
            ended, kept = await self._capped(work)
        except EndedError as error:
            raise Conflict(f"{error}, and only an active key can be rotated: make a new one") from None
        except DuplicateError as error:
            raise Conflict(f"the key {key_id!r} has a successor already, {error.entity}") from None
        return RotatedKey(ended, CreatedKey(kept, token))

    async def remove_key(self, actor: Actor, key_id: str) -> KeyRecord:
        """Revoke a key for good and show it no longer. Raises NotFound."""
        record = await self.show_key(key_id)
        audit_of = self._key_audit(actor, record.tenant_id)
        return await self._store.write(remove_key(key_id, self.now_ms(), actor.name, audit_of))

    def _key_audit(self, actor: Actor, tenant_id: str) -> AuditOf:
        return lambda action, key_id: self._audit(actor, action, "key", key_id, tenant_id)
