"""The writer's side of the key table: rows become live keys, live keys replace one another in place.

Readers on the event loop look up ``KeyTable.by_digest`` directly; only the feed writes, through
``TableWriter``, and every change is a plain assignment. Imports ``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote

from gateway.core.model import KeyTable, LiveKey, Permission, TenantState, VerifyingKey
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import DEFAULT_PREFIX
from gateway.store.base import LiveRow, Scopes, TokenFacts, Users

SLICE = 4000
"""Entries looked at before other work gets its turn: about a millisecond."""

_SAFE = re.compile(r"[A-Za-z0-9._-]+").fullmatch

_PERMISSIONS = {permission.word: permission for permission in Permission}

Entry = tuple[bytes, LiveKey]


class EntryBuilder:
    """Makes table entries of rows, on the reading thread; what many keys share is made once.

    ``load`` is the number that marks the entries of the present full load.
    """

    def __init__(self) -> None:
        self.load = 0
        self._words: dict[str, str] = {}
        self._scopes: dict[tuple[str, str | None, str], bytes] = {}

    def __call__(self, row: LiveRow) -> Entry:
        """Return the digest and the live key of a row."""
        word = self._words.setdefault
        tenant = word(row.tenant_id, row.tenant_id)
        environment = None if row.environment_id is None else word(row.environment_id, row.environment_id)
        role = word(row.role, row.role)
        who = f"X-Gateway-Key-Id: {field_text(row.id)}\r\nX-Gateway-Subject: {field_text(row.subject_id)}\r\n"
        return row.digest, LiveKey(
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
        # While a full load is under way: what was dropped since its snapshot.
        self._dropped: set[bytes] | None = None

    def apply_keys(self, entries: list[Entry]) -> None:
        """Put each key in the place of its predecessor."""
        if entries:
            self._table.by_digest.update(entries)
            self._table.version += 1

    def begin_load(self, load: int) -> None:
        """Take note that ``apply_loaded`` brings the full load ``load`` from here on.

        What comes by ``apply_keys`` from here on bears that number too and is newer than the load.
        """
        self._load = load
        self._dropped = set()

    def apply_loaded(self, entries: list[Entry]) -> None:
        """Put keys of the full load in place, but for those that a change has overtaken."""
        keys, load, dropped = self._table.by_digest, self._load, self._dropped or ()
        for digest, key in entries:
            known = keys.get(digest)
            # A load has a key once, so whatever bears its number already has come by a change since.
            if (known is None or known.load != load) and digest not in dropped:
                keys[digest] = key
        self._table.version += 1

    def drop_keys(self, digests: Iterable[bytes]) -> None:
        """Forget keys; a full load that is under way does not bring them back."""
        keys = self._table.by_digest
        for digest in digests:
            keys.pop(digest, None)
            if self._dropped is not None:
                self._dropped.add(digest)
        # Before anybody else runs: what was concluded from the table with them holds no more.
        self._table.version += 1

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

    async def sweep_unseen(self, load: int) -> int:
        """End the full load ``load``: drop the keys that it did not see; return how many."""
        self._dropped = None
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
        return dropped


def _ended_at(key: LiveKey) -> int:
    return key.expires_at if key.revoked_at is None else min(key.revoked_at, key.expires_at)


def field_text(text: str) -> str:
    """Return text that is safe as a field value: whatever is not plain is percent-encoded."""
    return text if _SAFE(text) else quote(text, safe="")
