"""The writer's side of the key table: rows become live keys, live keys replace one another in place.

Readers on the event loop look up ``KeyTable.by_digest`` directly; only the feed writes, through
``TableWriter``, and every change is a plain assignment. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

import msgspec

from gateway.core.model import ColdKey, KeyTable, LiveKey, Permission, TenantState, VerifyingKey
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import DEFAULT_PREFIX
from gateway.keys.cold_table import SLICE, ColdWriter, Touched
from gateway.keys.kept import KeptTable
from gateway.store.base import LiveRow, Scopes, TokenFacts, Users

_SAFE = re.compile(r"[A-Za-z0-9._-]+").fullmatch

_PERMISSIONS = {permission.word: permission for permission in Permission}


class OddEntry(msgspec.Struct, frozen=True, gc=False):
    """A key of which more is to be said than its digest; its ``repr`` keeps the verifier.

    ``gone`` are digests under which it is not found (any more); ``locator`` is there where it is known;
    with a ``verifier`` it is cold and has no digest.
    """

    key: LiveKey
    digest: bytes | None
    gone: tuple[bytes, ...] = ()
    locator: bytes = b""
    verifier: str | None = None

    def __repr__(self) -> str:
        return f"OddEntry({self.key.key_id!r})"


Entry = tuple[bytes, LiveKey] | OddEntry


class EntryBuilder:
    """Makes table entries of rows, on the reading thread; what many keys share is made once.

    ``load`` is the number that marks the entries of the present full load. ``pepper_ids`` are the
    peppers that are here: by the digest under one of them a key is found that has two.
    """

    def __init__(self, pepper_ids: Iterable[str] = ()) -> None:
        self.load = 0
        self._pepper_ids = frozenset(pepper_ids)
        self._words: dict[str, str] = {}
        self._scopes: dict[tuple[str, str | None, str], bytes] = {}

    def __call__(self, row: LiveRow) -> Entry:
        """Return the digest and the live key of a row, or all that is to be said of an odd one."""
        word = self._words.setdefault
        tenant = word(row.tenant_id, row.tenant_id)
        environment = None if row.environment_id is None else word(row.environment_id, row.environment_id)
        role = word(row.role, row.role)
        who = f"X-Gateway-Key-Id: {field_text(row.id)}\r\nX-Gateway-Subject: {field_text(row.subject_id)}\r\n"
        key = LiveKey(
            who.encode("ascii"),
            self._scopes.get((tenant, environment, role)) or self._scope(tenant, environment, role),
            tenant,
            environment,
            role,
            # A word this version does not know grants the least.
            _PERMISSIONS.get(row.permission, Permission.VIEWER),
            row.expires_at,
            row.revoked_at,
            self.load,
            word(row.subject_id, row.subject_id) if row.sub_type == "user" else None,
        )
        if row.digest is not None and row.older_digest is None and row.locator is None:
            return row.digest, key
        return self._odd(row, key)

    def _odd(self, row: LiveRow, key: LiveKey) -> OddEntry:
        digests = tuple(digest for digest in (row.digest, row.older_digest) if digest is not None)
        locator = (row.locator or "").encode("ascii", "replace")
        if row.verifier is not None:
            return OddEntry(key, None, digests, locator, row.verifier)
        if row.pepper_id not in self._pepper_ids and row.older_pepper_id in self._pepper_ids:
            digests = digests[::-1]
        return OddEntry(key, digests[0], digests[1:], locator)

    def _scope(self, tenant: str, environment: str | None, role: str) -> bytes:
        lines = f"X-Gateway-Tenant: {field_text(tenant)}\r\n"
        if environment is not None:
            lines += f"X-Gateway-Environment: {field_text(environment)}\r\n"
        lines += f"X-Gateway-Role: {field_text(role)}\r\n"
        return self._scopes.setdefault((tenant, environment, role), lines.encode("ascii"))


class TableWriter:
    """Applies what the feed reads; used on the event loop alone."""

    def __init__(self, table: KeyTable, policy: KeyPolicy = DEFAULT_POLICY) -> None:
        self._table = table
        self._policy = policy
        self._load = 0
        self._cold = ColdWriter(table)
        # While a full load is under way: what was dropped since its snapshot.
        self._dropped: set[bytes] | None = None
        self._touched: Touched | None = None

    def note(self, touched: Touched | None) -> None:
        """Have ``touched`` tell where changes are made from here on, but for those of a full load."""
        self._touched = self._cold.touched = touched

    def apply_keys(self, entries: list[Entry]) -> None:
        """Put each key in the place of its predecessor."""
        if not entries:
            return
        plain, odd = _parted(entries)
        self._table.by_digest.update(plain)
        if self._touched is not None:
            self._touched.digests.update(digest for digest, _ in plain)
            self._touched.digests.update(entry.digest for entry in odd if entry.digest is not None)
        for entry in odd:
            self._drop(entry.gone)
            if entry.digest is None:
                self._cold.put(_cold_key(entry))
            else:
                self._table.by_digest[entry.digest] = entry.key
                self._cold.drop(entry.locator)
        self._table.version += 1

    def begin_load(self, load: int) -> None:
        """Take note that ``apply_loaded`` brings the full load ``load`` from here on.

        What comes by ``apply_keys`` from here on bears that number too and is newer than the load.
        """
        self._load = load
        self._dropped = set()
        self._cold.begin_load(load)

    def apply_loaded(self, entries: list[Entry]) -> None:
        """Put keys of the full load in place, but for those that a change has overtaken."""
        plain, odd = _parted(entries)
        self._put_loaded(plain)
        for entry in odd:
            if entry.digest is None:
                self._cold.put_loaded(_cold_key(entry))
            else:
                self._put_loaded([(entry.digest, entry.key)])
            for digest in entry.gone:
                self._table.by_digest.pop(digest, None)
        self._table.version += 1

    def _put_loaded(self, entries: list[tuple[bytes, LiveKey]]) -> None:
        keys, load, dropped = self._table.by_digest, self._load, self._dropped or ()
        for digest, key in entries:
            known = keys.get(digest)
            # A load has a key once, so whatever bears its number already has come by a change since.
            if (known is None or known.load != load) and digest not in dropped:
                keys[digest] = key

    def drop_keys(self, digests: Iterable[bytes]) -> None:
        """Forget keys; a full load that is under way does not bring them back."""
        self._drop(digests)
        # Before anybody else runs: what was concluded from the table with them holds no more.
        self._table.version += 1

    def _drop(self, digests: Iterable[bytes]) -> None:
        keys = self._table.by_digest
        for digest in digests:
            keys.pop(digest, None)
            if self._dropped is not None:
                self._dropped.add(digest)
            if self._touched is not None:
                self._touched.digests.add(digest)

    def apply_scopes(self, scopes: Scopes) -> None:
        """Replace what is known of tenants and prefixes."""
        self._table.tenants = {
            tenant.id: TenantState(api_keys_enabled=tenant.policy(self._policy).api_keys_enabled)
            for tenant in scopes.tenants
        }
        prefixes = {DEFAULT_PREFIX, *scopes.prefixes}
        # One that is not ASCII can begin no token that a field value carries.
        self._table.prefixes = tuple(sorted(p.encode("ascii") for p in prefixes if p.isascii()))
        self._table.version += 1

    def apply_users(self, users: Users) -> None:
        """Replace what is known of some users, or of all; who is not mentioned is nothing anywhere."""
        found: dict[str, dict[str, Permission]] = {}
        for user_id, tenant_id, word in users.standings:
            # A word this version does not know grants the least.
            found.setdefault(user_id, {})[tenant_id] = _PERMISSIONS.get(word, Permission.VIEWER)
        if users.ids is None:
            self._table.users = found
        else:
            for user_id in users.ids - found.keys():
                self._table.users.pop(user_id, None)
            self._table.users.update(found)
            if self._touched is not None:
                self._touched.users |= users.ids
        self._table.version += 1

    def apply_tokens(self, tokens: TokenFacts) -> None:
        """Replace what is known of signing keys, where that was read, and add tokens that were logged out."""
        if tokens.signing_keys is not None:
            self._table.signing_keys = {
                kid: VerifyingKey(pem, retired_at) for kid, pem, retired_at in tokens.signing_keys
            }
        if tokens.whole:
            self._table.ended_tokens = dict(tokens.ended)
        else:
            self._table.ended_tokens.update(tokens.ended)
        self._table.version += 1

    def drop_ended_tokens(self, before_ms: int) -> None:
        """Forget the logged-out tokens that have ended by themselves before an instant."""
        tokens = self._table.ended_tokens
        for token_id in [token_id for token_id, ends_at in tokens.items() if ends_at <= before_ms]:
            del tokens[token_id]

    def restore(self, kept: KeptTable) -> None:
        """Put what was kept of the table in the place of whatever is there."""
        table = self._table
        table.by_digest, table.users = kept.keys, kept.users
        table.tenants, table.ended_tokens = kept.tenants, kept.ended_tokens
        table.prefixes, table.signing_keys = tuple(kept.facts.prefixes), dict(kept.signing_keys)
        self._cold.restore(kept.cold.values())
        self._dropped = None
        table.version += 1

    async def sweep_unseen(self, load: int) -> int:
        """End the full load ``load``: drop the keys that it did not see; return how many."""
        self._dropped = None
        self._cold.end_load()
        return await self._sweep(lambda key: key.load != load)

    async def sweep_ended(self, before_ms: int) -> int:
        """Drop the keys that were revoked or expired before an instant; return how many."""
        return await self._sweep(lambda key: _ended_at(key) <= before_ms)

    async def _sweep(self, goes: Callable[[LiveKey], bool]) -> int:
        keys = self._table.by_digest
        digests = list(keys)
        dropped = 0
        for start in range(0, len(digests), SLICE):
            # Others write between two slices, so that one may be gone by its turn.
            found = ((digest, keys.get(digest)) for digest in digests[start : start + SLICE])
            gone = [digest for digest, key in found if key is not None and goes(key)]
            if gone:
                self.drop_keys(gone)
                dropped += len(gone)
            await asyncio.sleep(0)
        return dropped + await self._cold.sweep(goes)


def _parted(entries: list[Entry]) -> tuple[list[tuple[bytes, LiveKey]], list[OddEntry]]:
    odd = [entry for entry in entries if isinstance(entry, OddEntry)]
    return [entry for entry in entries if not isinstance(entry, OddEntry)], odd


def _cold_key(entry: OddEntry) -> ColdKey:
    return ColdKey(entry.key, entry.locator, entry.verifier or "")


def _ended_at(key: LiveKey) -> int:
    return key.expires_at if key.revoked_at is None else min(key.revoked_at, key.expires_at)


def field_text(text: str) -> str:
    """Return text that is safe as a field value: whatever is not plain is percent-encoded."""
    return text if _SAFE(text) else quote(text, safe="")
