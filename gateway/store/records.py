"""The records that a store keeps: keys, tenants, environments, the audit. Imports ``core`` only.

Instants are epoch milliseconds; a record is a value and never changes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from gateway.core.model import Permission
from gateway.core.policy import KeyPolicy

DEFAULT_TENANT = "default"
DAY_MS = 86_400_000
KEPT_AFTER_END_MS = 30 * DAY_MS
"""How long a key that has ended can still be told from one that never was."""

KeyStatus = Literal["active", "expired", "revoked"]
ChangeKind = Literal["key", "tenant", "environment", "user", "signing_key", "ended_token", "canary", "pepper"]


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key as stored; instants are epoch milliseconds, ``number`` is given by the store (1, 2, …).

    ``digest`` is HMAC-SHA-256(pepper ``pepper_id``, token), ``verifier`` the token's argon2id
    string ("": none), ``locator`` the leading part of the token that finds it. The token itself is
    nowhere. While a rotation of peppers goes on, ``older_digest`` is the one under the pepper before.
    ``root_id`` is the subject at the root of the lineage, against whom the key counts (None: the
    operator's, who knows no cap). A removed key is revoked too, and no longer shown.
    """

    id: str
    number: int = 0
    tenant_id: str
    environment_id: str | None = None
    subject_id: str
    sub_type: str = "apiKey"
    created_by: str
    created_by_key: str | None = None
    name: str
    description: str = ""
    role: str
    permission: Permission
    intended_use: str | None = None
    prefix: str
    last_four: str
    hash_algo: str = "argon2id"
    created_at: int
    updated_at: int
    expires_at: int
    revoked_at: int | None = None
    revoked_by: str | None = None
    replaces: str | None = None
    last_used_at: int | None = None
    digest: bytes | None
    pepper_id: str | None
    locator: str
    verifier: str
    root_id: str | None = None
    removed_at: int | None = None
    older_digest: bytes | None = None
    older_pepper_id: str | None = None

    @property
    def is_jwt(self) -> bool:
        """Tell whether the token is a JWT: such a key is found by its id, which its token says."""
        return self.locator == self.id

    def status(self, now_ms: int) -> KeyStatus:
        """Return what the key is at ``now_ms``: revoked, else expired, else active."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if now_ms >= self.expires_at else "active"

    def __repr__(self) -> str:
        return f"KeyRecord(id={self.id!r}, tenant_id={self.tenant_id!r}, number={self.number})"


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """An organisation and its settings; None leaves a setting to the gateway's own policy."""

    id: str
    name: str
    api_keys_enabled: bool | None = None
    max_keys_per_user: int | None = None
    max_api_key_expiry: str | None = None
    scim_client_expiry: str | None = None
    created_at: int
    updated_at: int

    def policy(self, default: KeyPolicy) -> KeyPolicy:
        """Return what is in effect for this tenant's keys: its own settings, else ``default``'s."""
        return KeyPolicy(
            *(_first(getattr(self, n), getattr(default, n)) for n in KeyPolicy.__struct_fields__)
        )


def _first(own: Any, default: Any) -> Any:
    return default if own is None else own


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a tenant whose tokens begin with ``prefix``."""

    id: str
    tenant_id: str
    prefix: str
    created_at: int
    updated_at: int


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person; ``id`` is her subject id, ``email`` in lower case what she logs in with.

    ``password_from`` is the tenant whose admin gave her the password and so knows it; None: she chose
    it herself, or the operator gave it.
    """

    id: str
    email: str
    password_hash: str
    default_tenant_id: str | None
    disabled_at: int | None = None
    removed_at: int | None = None
    created_at: int
    updated_at: int
    password_from: str | None = None

    def __repr__(self) -> str:
        return f"User(id={self.id!r})"


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What a user is in one tenant: viewer, editor or admin."""

    user_id: str
    tenant_id: str
    role: Permission
    created_at: int


class Person(msgspec.Struct, frozen=True):
    """A user with her memberships, oldest first."""

    user: User
    memberships: tuple[Membership, ...]

    def role_in(self, tenant_id: str) -> Permission | None:
        """Return what she is in a tenant; None: nothing."""
        return next((m.role for m in self.memberships if m.tenant_id == tenant_id), None)


class SigningKey(msgspec.Struct, frozen=True):
    """A key that signs tokens; ``sealed`` is its private half, encrypted under a key of the pepper."""

    kid: str
    public_pem: str
    sealed: bytes
    pepper_id: str
    created_at: int
    retired_at: int | None = None

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who changes something, and from where (``cli:ann@host``, a subject's id)."""

    name: str
    source: str = "cli"
    request_id: str | None = None


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the audit: who did what to which entity, when, from where."""

    id: str
    at: int
    actor: str
    action: str
    kind: ChangeKind
    entity: str
    tenant_id: str | None
    source: str
    request_id: str | None = None
    detail: str | None = None
