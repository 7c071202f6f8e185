"""The keys that sign tokens, as a store keeps them: what happens inside one transaction.

Imports ``store`` only.
"""

from __future__ import annotations

from gateway.store.base import AuditRow, SigningKey
from gateway.store.operations import recorded, values_of
from gateway.store.steps import Query, Steps


def signing_keys() -> Steps[list[SigningKey]]:
    """Return every signing key, oldest first."""
    rows = yield Query("signing_keys")
    return [
        SigningKey(kid, public_pem, bytes(sealed), pepper_id, created_at, retired_at)
        for kid, public_pem, sealed, pepper_id, created_at, retired_at in rows
    ]


def keep_signing_key(key: SigningKey, audit: AuditRow, *, rotate: bool) -> Steps[SigningKey]:
    """Keep a new key and return the one that signs from now on.

    With ``rotate`` those before it are retired; without, one that signs already stays, and ``key``
    is dropped: so of several processes that make the first one at once, one wins, for all.
    """
    active = [known for known in (yield from signing_keys()) if known.retired_at is None]
    if active and not rotate:
        return active[-1]
    yield Query("retire_signing_keys", (key.created_at,))
    yield Query("insert_signing_key", values_of(key))
    yield from recorded(audit)
    return key
