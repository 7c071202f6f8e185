"""Make keys: what is checked before, and what a new record holds.

Imports ``core``, ``store`` and its own plane.

Promise: a token leaves ``create_key`` only after the key, its audit row and its change are durable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from gateway.control.errors import Forbidden, Invalid, NotFound
from gateway.control.grants import EXTERNAL_CLIENT, Maker
from gateway.control.lifetime import expiry
from gateway.control.minting import KeyClaims, KeyFormat, Mint
from gateway.control.names import checked_description, checked_name
from gateway.control.signing import Signing
from gateway.control.users import Hasher, UserService
from gateway.core.model import Permission, Role
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import DEFAULT_PREFIX, Digester
from gateway.core.uuid7 import uuid7
from gateway.store.base import (
    Actor,
    CapError,
    KeyRecord,
    MakerEndedError,
    Store,
    Tenant,
    UnknownEntityError,
)
from gateway.store.operations import insert_key
from gateway.store.steps import Steps

T = TypeVar("T")
BUILT_IN_ROLES: Final = {
    "viewer": Role("viewer", Permission.VIEWER),
    "editor": Role("editor", Permission.EDITOR),
}


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key and its token, which is shown this once and kept nowhere."""

    record: KeyRecord
    token: str

    def __repr__(self) -> str:
        return f"CreatedKey(record={self.record!r})"


class KeyMaker(UserService):
    """Makes keys, on what it stands on: users, tenants, environments, the audit."""

    def __init__(
        self,
        store: Store,
        digester: Digester,
        hasher: Hasher,
        roles: Mapping[str, Role],
        policy: KeyPolicy = DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
        *,
        signing: Signing | None = None,
    ) -> None:
        """Take the configured ``roles`` by name; viewer and editor are always there.

        ``policy`` holds for tenants that set nothing of their own. ``signing`` signs the keys that
        are JWTs; None: one that names no URL as their issuer.
        """
        super().__init__(store, hasher, policy, clock)
        self._digester = digester
        self._mint = Mint(store, digester, hasher, signing or Signing(store, digester, policy, clock))
        self._roles = {**roles, **BUILT_IN_ROLES}

    async def create_key(
        self,
        actor: Actor,
        *,
        tenant: str,
        name: str,
        permission: str,
        ttl: str | None = None,
        expires_at: str | None = None,
        environment: str | None = None,
        description: str = "",
        intended_use: str | None = None,
        form: KeyFormat = "opaque",
        maker: Maker | None = None,
    ) -> CreatedKey:
        """Make a key and return it with its token, once it is durable.

        ``maker`` says who makes it and for whom it acts; without one it is the operator, who knows
        no cap.

        ``permission`` is viewer or editor in any case, or a configured role. ``ttl`` is a duration,
        ``expires_at`` an RFC 3339 instant; without either the key lives as long as it may. ``form``
        is what its token is.
        Raises NotFound (tenant, environment), Invalid, Forbidden (the tenant's keys are switched off,
        the maker's cap is reached or her own key has ended).
        """
        role = self._role(permission)
        maker = maker or Maker(created_by=actor.name)
        policy = self.policy_of(owner := await self._open_tenant(tenant))
        now = self.now_ms()
        draft = _Draft(
            key_id=f"apk_{uuid7(now, os.urandom(10))}",
            subject_id=maker.acts_as or f"subject_{uuid7(now, os.urandom(10))}",
            tenant_id=owner.id,
            environment_id=environment,
            token_prefix=await self._prefix(tenant, environment),
            role=role,
            name=checked_name(name),
            description=checked_description(description),
            intended_use=checked_name(intended_use, member="intendedUse") if intended_use else None,
            maker=maker,
            created_at=now,
            expires_at=expiry(
                now,
                ttl=ttl,
                expires_at=expires_at,
                maximum=longest(policy, maker.sub_type),
            ),
        )
        claims = draft.claims if form == "jwt" else None
        token, fields = await self._mint.make(draft.token_prefix, jwt=claims)
        record = _record(draft, fields)
        audit = self._audit(actor, "key.create", "key", record.id, tenant)
        kept = await self._capped(
            insert_key(record, audit, cap=policy.max_keys_per_user, user_id=maker.user_id)
        )
        return CreatedKey(kept, token)

    async def _capped(self, work: Steps[T]) -> T:
        """Keep a new key, unless its maker has ended meanwhile or has too many."""
        try:
            return await self._store.write(work)
        except UnknownEntityError as error:
            raise NotFound(error.kind, error.entity) from None
        except (CapError, MakerEndedError) as error:
            raise Forbidden(str(error)) from None

    def _role(self, wanted: str) -> Role:
        role = self._roles.get(wanted) or BUILT_IN_ROLES.get(wanted.lower())
        if role is None or role.permission is Permission.ADMIN:
            known = ", ".join(
                sorted(r.name for r in self._roles.values() if r.permission is not Permission.ADMIN)
            )
            raise Invalid("permission", f"must be one of {known}")
        return role

    async def _open_tenant(self, tenant_id: str) -> Tenant:
        tenant = await self.show_tenant(tenant_id)
        if not self.policy_of(tenant).api_keys_enabled:
            raise Forbidden(f"the API keys of tenant {tenant_id!r} are switched off: enable them first")
        return tenant

    async def _prefix(self, tenant_id: str, environment_id: str | None) -> str:
        if environment_id is None:
            return DEFAULT_PREFIX
        for environment in await self._store.environments(tenant_id=tenant_id):
            if environment.id == environment_id:
                return environment.prefix
        raise NotFound("environment", environment_id)


def longest(policy: KeyPolicy, sub_type: str) -> str:
    """Return how long a key may live by a tenant's settings: an external client's has one of its own."""
    return policy.scim_client_expiry if sub_type == EXTERNAL_CLIENT else policy.max_api_key_expiry


def _record(draft: _Draft, fields: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(
        id=draft.key_id,
        tenant_id=draft.tenant_id,
        environment_id=draft.environment_id,
        subject_id=draft.subject_id,
        created_by=draft.maker.created_by,
        created_by_key=draft.maker.created_by_key,
        root_id=draft.maker.root_id,
        sub_type=draft.maker.sub_type,
        name=draft.name,
        description=draft.description,
        role=draft.role.name,
        permission=draft.role.permission,
        intended_use=draft.intended_use,
        created_at=draft.created_at,
        updated_at=draft.created_at,
        expires_at=draft.expires_at,
        **fields,
    )


class _Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What is settled of a key before its token is made."""

    key_id: str
    subject_id: str
    tenant_id: str
    environment_id: str | None
    token_prefix: str
    role: Role
    name: str
    description: str
    intended_use: str | None
    maker: Maker
    created_at: int
    expires_at: int

    @property
    def claims(self) -> KeyClaims:
        """Return what the token says of the key if it is a JWT."""
        return KeyClaims(
            key_id=self.key_id,
            subject_id=self.subject_id,
            sub_type=self.maker.sub_type,
            tenant_id=self.tenant_id,
            created_at=self.created_at,
            expires_at=self.expires_at,
        )
