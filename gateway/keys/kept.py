"""What a kept table holds, in frames: the whole key table as it was at one position of the change log.

Keys come in slices, then what changed while these were written, then the rest of the table, and last
what dates it. Imports ``core``, ``store`` and its own plane.

Promise: a table that is read back is the one that was written, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import msgspec

from gateway.core.model import ColdKey, KeyTable, LiveKey, Permission, TenantState, VerifyingKey
from gateway.keys.kept_file import KeptFileError
from gateway.store.base import Position

SLICE = 500
"""Keys in a frame: to take them down holds the event loop for half a millisecond."""

Scope = tuple[bytes, str, str | None, str, Permission]
"""What keys share: scope lines, tenant, environment, role, permission."""
KeyRow = tuple[bytes, bytes, int, int, int | None, str | None]
"""Digest, ``who`` lines, number of the scope, expiry, revocation, user."""
ColdRow = tuple[bytes, str, bytes, int, int, int | None, str | None]
"""Locator, verifier, and what a `KeyRow` says of the key."""


class Sync(msgspec.Struct, frozen=True, array_like=True):
    """When the table was last known to be the store's, and on which clock.

    Attributes:
        number: with ``change_id`` the position in the change log.
        synced_at: boot-clock seconds at the start of the read that showed it.
        offset_s: the store's clock (epoch seconds) less the boot clock.
        boot: names the run of the boot clock; None where the platform does not tell.
        canary_at: see `Replica`.
    """

    number: int
    change_id: str
    synced_at: float
    offset_s: float
    boot: str | None
    canary_at: int

    @property
    def position(self) -> Position:
        """Return the position in the change log."""
        return Position(self.number, self.change_id)


class Keys(msgspec.Struct, frozen=True, array_like=True, tag="keys"):
    """Some keys, and the scopes that no earlier frame had."""

    scopes: list[Scope]
    keys: list[KeyRow]
    cold: list[ColdRow]


class Users(msgspec.Struct, frozen=True, array_like=True, tag="users"):
    """What some users are, by tenant."""

    standings: dict[str, dict[str, Permission]]


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="gone"):
    """What earlier frames have and the table has no more."""

    digests: list[bytes]
    locators: list[bytes]
    users: list[str]


class Tenants(msgspec.Struct, frozen=True, array_like=True, tag="tenants"):
    """Some tenants, and whether their keys are enabled."""

    enabled: dict[str, bool]


class EndedTokens(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """Some login tokens that were logged out, and when they would have ended."""

    ends: dict[str, int]


class Facts(msgspec.Struct, frozen=True, array_like=True, tag="facts"):
    """The last frame.

    Attributes:
        sync: what dates the table.
        counts: how many keys, cold keys and users there are in all.
        prefixes: see `KeyTable`.
        signing_keys: kid → public PEM and when it was retired.
        peppers: those in use by the store, oldest first: id and check value.
        enabled: whether keys were enabled where a tenant says nothing.
    """

    sync: Sync
    counts: tuple[int, int, int]
    prefixes: list[bytes]
    signing_keys: dict[str, tuple[str, int | None]]
    peppers: list[tuple[str, bytes]]
    enabled: bool


Frame = Keys | Users | Gone | Tenants | EndedTokens | Facts
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def encode_sync(sync: Sync) -> bytes:
    """Return what a stamp says."""
    return _encode(sync)


def decode_sync(content: bytes) -> Sync:
    """Return what a stamp says. Raises KeptFileError."""
    try:
        return msgspec.msgpack.decode(content, type=Sync)
    except msgspec.DecodeError:
        raise KeptFileError("the kept table's stamp was written by another version") from None


class Encoder:
    """Makes the frames of one table, on the event loop, a slice at a time."""

    def __init__(self, table: KeyTable) -> None:
        self._table = table
        self._scopes: dict[Scope, int] = {}

    def keys(self, digests: Iterable[bytes]) -> bytes:
        """Return the frame of those of these keys that are (still) in the table."""
        known, first = self._table.by_digest, len(self._scopes)
        rows: list[KeyRow] = []
        for digest in digests:
            if (key := known.get(digest)) is not None:
                rows.append((digest, key.who, self._scope(key), key.expires_at, key.revoked_at, key.user_id))
        return _encode(Keys(self._scopes_from(first), rows, []))

    def cold(self, locators: Iterable[bytes]) -> bytes:
        """Return the frame of those of these cold keys that are (still) in the table."""
        known, first = self._table.cold, len(self._scopes)
        rows: list[ColdRow] = []
        for locator in locators:
            if (cold := known.get(locator)) is not None:
                key, scope = cold.key, self._scope(cold.key)
                rows.append(
                    (locator, cold.verifier, key.who, scope, key.expires_at, key.revoked_at, key.user_id)
                )
        return _encode(Keys(self._scopes_from(first), [], rows))

    def users(self, ids: Iterable[str]) -> bytes:
        """Return the frame of those of these users who are (still) something somewhere."""
        known = self._table.users
        return _encode(Users({id: known[id] for id in ids if id in known}))

    def gone(self, digests: Iterable[bytes], locators: Iterable[bytes], users: Iterable[str]) -> bytes:
        """Return the frame that says which of these are not in the table."""
        table = self._table
        return _encode(
            Gone(
                [digest for digest in digests if digest not in table.by_digest],
                [locator for locator in locators if locator not in table.cold],
                [user for user in users if user not in table.users],
            )
        )

    def _scope(self, key: LiveKey) -> int:
        shared = (key.scope, key.tenant_id, key.environment_id, key.role, key.permission)
        return self._scopes.setdefault(shared, len(self._scopes))

    def _scopes_from(self, first: int) -> list[Scope]:
        return list(islice(self._scopes, first, None))


def encode_tenants(tenants: Sequence[tuple[str, TenantState]]) -> bytes:
    """Return the frame of some tenants."""
    return _encode(Tenants({tenant_id: tenant.api_keys_enabled for tenant_id, tenant in tenants}))


def encode_ended(tokens: Sequence[tuple[str, int]]) -> bytes:
    """Return the frame of some login tokens that were logged out."""
    return _encode(EndedTokens(dict(tokens)))


def encode_facts(
    table: KeyTable, sync: Sync, peppers: Sequence[tuple[str, bytes]], *, enabled: bool
) -> bytes:
    """Return the last frame of a table as it is now."""
    return _encode(
        Facts(
            sync,
            (len(table.by_digest), len(table.cold), len(table.users)),
            list(table.prefixes),
            {kid: (key.public_pem, key.retired_at) for kid, key in table.signing_keys.items()},
            list(peppers),
            enabled,
        )
    )


class KeptTable:
    """A table that is being read back, part by part as `KeyTable` has it; whole once ``end`` has passed."""

    def __init__(self) -> None:
        self.keys: dict[bytes, LiveKey] = {}
        self.cold: dict[bytes, ColdKey] = {}
        self.users: dict[str, dict[str, Permission]] = {}
        self.tenants: dict[str, TenantState] = {}
        self.ended_tokens: dict[str, int] = {}
        self._scopes: list[Scope] = []
        self._user_ids: dict[str, str] = {}
        self._facts: Facts | None = None

    @property
    def facts(self) -> Facts:
        """Return what the last frame said."""
        assert self._facts is not None
        return self._facts

    @property
    def signing_keys(self) -> Mapping[str, VerifyingKey]:
        """Return the public halves of the signing keys."""
        return {kid: VerifyingKey(*key) for kid, key in self.facts.signing_keys.items()}

    def take(self, content: bytes) -> None:
        """Take the next frame. Raises KeptFileError for what this version does not know."""
        try:
            frame = _decode(content)
            match frame:
                case Keys():
                    self._take_keys(frame)
                case Users():
                    self.users |= frame.standings
                case Gone():
                    self._drop(frame)
                case Tenants():
                    self.tenants |= {tenant: TenantState(on) for tenant, on in frame.enabled.items()}
                case EndedTokens():
                    self.ended_tokens |= frame.ends
                case Facts():
                    self._facts = frame
        except (msgspec.DecodeError, LookupError):
            raise KeptFileError("the kept table was written by another version") from None

    def date(self, sync: Sync) -> None:
        """Take another date for the same content, which a stamp bears."""
        self._facts = msgspec.structs.replace(self.facts, sync=sync)

    def end(self) -> None:
        """Check that everything has come. Raises KeptFileError."""
        found = (len(self.keys), len(self.cold), len(self.users))
        if self._facts is None or self._facts.counts != found:
            raise KeptFileError("the kept table does not hold what it says")

    def _take_keys(self, frame: Keys) -> None:
        self._scopes += frame.scopes
        for digest, who, number, expires_at, revoked_at, user_id in frame.keys:
            self.keys[digest] = self._key(who, number, expires_at, revoked_at, user_id)
        for locator, verifier, who, number, expires_at, revoked_at, user_id in frame.cold:
            key = self._key(who, number, expires_at, revoked_at, user_id)
            self.cold[locator] = ColdKey(key, locator, verifier)

    def _drop(self, gone: Gone) -> None:
        for digest in gone.digests:
            self.keys.pop(digest, None)
        for locator in gone.locators:
            self.cold.pop(locator, None)
        for user_id in gone.users:
            self.users.pop(user_id, None)

    def _key(
        self, who: bytes, number: int, expires_at: int, revoked_at: int | None, user_id: str | None
    ) -> LiveKey:
        user = None if user_id is None else self._user_ids.setdefault(user_id, user_id)
        return LiveKey(who, *self._scopes[number], expires_at, revoked_at, 0, user)
