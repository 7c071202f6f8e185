"""The words that every plane shares: permissions, live keys, the key table, routes and decisions.

Pure data. Imports nothing of the project but the reasons for a refusal.
"""

from __future__ import annotations

import enum

import msgspec

from gateway.core.refusals import Reason

MILLISECONDS = 1000


class Permission(enum.IntEnum):
    """What a principal may do, in rising order; admin counts as editor on the data path."""

    VIEWER = 1
    EDITOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """Return the name as documents and headers spell it: ``viewer``, ``editor``, ``admin``."""
        return self.name.lower()


class Role(msgspec.Struct, frozen=True):
    """A named permission, optionally limited to path prefixes (whole segments; empty: everywhere)."""

    name: str
    permission: Permission
    routes: tuple[str, ...] = ()


class LiveKey(msgspec.Struct, frozen=True, gc=False):
    """What a decision and the identity headers need of one key; a million of these are held.

    ``who`` holds the field lines that are this key's alone, encoded once:
    ``X-Gateway-Key-Id: …CRLF X-Gateway-Subject: …CRLF``. ``scope`` holds those it shares with
    others (tenant, environment, role), one object for all of them. Instants are epoch
    milliseconds on the store's clock. ``load`` is the number of the full load that last saw it.
    ``user_id`` is the user for whom the key acts, and whom it never outranks; None: it has a subject
    of its own. A login (see ``core.sessions``) stands here too while it is judged: without a key's id.
    """

    who: bytes
    scope: bytes
    tenant_id: str
    environment_id: str | None
    role: str
    permission: Permission
    expires_at: int
    revoked_at: int | None
    load: int = 0
    user_id: str | None = None

    @property
    def key_id(self) -> str | None:
        """Return the key's id (``apk_…``), read back from its identity lines; None for a login."""
        return key_id_of(self.who)


_KEY_ID = b"X-Gateway-Key-Id: "


def key_id_of(who: bytes) -> str | None:
    """Return the key's id that identity lines begin with (see `LiveKey`); None for those of a login."""
    if not who.startswith(_KEY_ID):
        return None
    return who[len(_KEY_ID) : who.index(b"\r", len(_KEY_ID))].decode("ascii")


class VerifyingKey(msgspec.Struct, frozen=True):
    """The public half of a signing key; ``retired_at`` (epoch ms) is when another took its place."""

    public_pem: str
    retired_at: int | None = None


class TenantState(msgspec.Struct, frozen=True):
    """What a decision reads of a tenant."""

    api_keys_enabled: bool = True


class ColdKey(msgspec.Struct, frozen=True, gc=False):
    """A key whose digest is not known, so that argon2id must prove who shows it; its ``repr`` keeps the hash.

    ``locator`` is the leading part of its token, of a signed token the key's id; ``verifier`` is the
    token's argon2id string.
    """

    key: LiveKey
    locator: bytes
    verifier: str

    def __repr__(self) -> str:
        return f"ColdKey({self.key.key_id!r})"


class KeyTable:
    """The keys by digest, with a single writer: the feed. Readers never see half a change.

    Attributes:
        by_digest: HMAC-SHA-256(pepper, token) → the key.
        cold: locator → the key, of those whose digest is not known.
        cold_lengths: how long the locators of cold keys are that stand at the beginning of a token.
        tenants: tenant id → its state.
        users: user id → tenant id → what she is there now; only those who are something somewhere.
        signing_keys: kid → the public half of each key that signs or signed login tokens.
        ended_tokens: ``jti`` of each login token that was logged out → when it would have ended itself.
        prefixes: every prefix that the store's environments give to opaque tokens, ASCII.
        version: grows with each change a decision may depend on.
        synced_at: boot-clock seconds at the *start* of the last successful read; None before any.
        store_offset_s: the store's clock (epoch seconds) less the boot clock, at that read.
        outage: a read has failed since that one.
    """

    __slots__ = (
        "by_digest",
        "cold",
        "cold_lengths",
        "ended_tokens",
        "outage",
        "prefixes",
        "signing_keys",
        "store_offset_s",
        "synced_at",
        "tenants",
        "users",
        "version",
    )

    def __init__(self) -> None:
        self.by_digest: dict[bytes, LiveKey] = {}
        self.cold: dict[bytes, ColdKey] = {}
        self.cold_lengths: tuple[int, ...] = ()
        self.tenants: dict[str, TenantState] = {}
        self.users: dict[str, dict[str, Permission]] = {}
        self.signing_keys: dict[str, VerifyingKey] = {}
        self.ended_tokens: dict[str, int] = {}
        self.prefixes: tuple[bytes, ...] = ()
        self.version = 0
        self.synced_at: float | None = None
        self.store_offset_s = 0.0
        self.outage = False


class TableState(enum.StrEnum):
    """How far the key table is to be relied on, by its age."""

    LOADING = "loading"
    """Nothing has been read yet: every credential is refused."""
    FRESH = "fresh"
    """What it does not know does not exist."""
    AGING = "aging"
    """What it does not know may exist: such credentials are answered 503, not 401."""
    GRACE = "grace"
    """Older than the bound, by the operator's leave: what has ended since may still be let in."""
    STALE = "stale"
    """Every credential is refused."""


class Freshness(msgspec.Struct, frozen=True):
    """How old the table may be, in seconds (design: the age rule).

    ``fresh_s`` for saying that a credential is unknown, ``bound_s`` for those that it knows, and
    ``grace_s`` by how much the operator prolongs that for as long as reads fail.
    """

    bound_s: float = 300.0
    fresh_s: float = 5.0
    grace_s: float = 0.0

    def known_s(self, table: KeyTable) -> float:
        """Return how old the table may be to vouch for a credential that it knows.

        Who has not tried to read (a process that was frozen) has no outage to wait for the end of.
        """
        return self.bound_s + self.grace_s if table.outage else self.bound_s

    def state(self, table: KeyTable, now: float) -> TableState:
        """Return what the table is at ``now``, on the boot clock."""
        if table.synced_at is None:
            return TableState.LOADING
        age_s = now - table.synced_at
        if age_s <= self.fresh_s:
            return TableState.FRESH
        if age_s <= self.bound_s:
            return TableState.AGING
        return TableState.GRACE if age_s <= self.known_s(table) else TableState.STALE


class Reject(msgspec.Struct, frozen=True, gc=False):
    """The request goes no further; why."""

    reason: Reason
    key: LiveKey | None = None


class Verify(msgspec.Struct, frozen=True):
    """Nothing speaks against a credential, but it has yet to be proven; its kinds say how.

    ``digest`` is that of the token.
    """

    digest: bytes
