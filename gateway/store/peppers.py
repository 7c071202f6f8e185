"""The peppers that a store's digests are made with, and how records go from one to the next.

A store is tied to the first pepper that it is used with. Rotation puts a newer one in use beside it:
from then on digests are written under the newest and kept under the one before, so that gateways
which know only one of both find every key; at its end the older one is retired, and what was never
seen under the newest is cold. Imports ``store`` only.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from gateway.core.tokens import kept_digests
from gateway.store.base import AuditRow, SigningKey
from gateway.store.operations import key_of, recorded
from gateway.store.records import KeyRecord
from gateway.store.signing import signing_keys
from gateway.store.steps import Query, Steps

LOCATORS_MAX = 32
"""Locators that are looked at for one token: more than may begin one another."""


class Pepper(msgspec.Struct, frozen=True):
    """A pepper as a store knows it: never itself. Instants are epoch milliseconds.

    ``id`` is its fingerprint; ``check`` a digest of a constant; ``since`` when it came in use.
    """

    id: str
    check: bytes
    since: int
    retired_at: int | None = None


class Found(msgspec.Struct, frozen=True):
    """A key whose token has been seen: what its record was found by, and the token's digests by pepper.

    ``digest`` is the one under an older pepper; None for a cold key, which argon2id has proven by
    ``verifier``. Its ``repr`` keeps them.
    """

    key_id: str
    digests: Mapping[str, bytes]
    digest: bytes | None = None
    verifier: str | None = None

    def __repr__(self) -> str:
        return f"Found({self.key_id!r})"


class UnfinishedError(ValueError):
    """The last rotation of peppers has not been finished."""


def peppers() -> Steps[list[Pepper]]:
    """Return every pepper that the store was ever used with, oldest first."""
    rows = yield Query("peppers")
    return [Pepper(id, bytes(check), since, retired_at) for id, check, since, retired_at in rows]


def peppers_in_use() -> Steps[list[str]]:
    """Return the ids of the peppers in use, oldest first; the last is the one that is written under."""
    return [pepper.id for pepper in (yield from peppers()) if pepper.retired_at is None]


def tie_pepper(pepper: Pepper) -> Steps[list[Pepper]]:
    """Tie the store to a pepper unless it is tied already; return those that it knows then."""
    known = yield from peppers()
    if known:
        return known
    yield Query("insert_pepper", (pepper.id, pepper.check, pepper.since))
    return [pepper]


def begin_rotation(
    pepper: Pepper,
    reseal: Callable[[SigningKey], bytes | None],
    audit: AuditRow,
    *,
    replacing: bool = False,
) -> Steps[None]:
    """Put a newer pepper in use: what is written from now on is written under it.

    ``reseal`` returns the private half of a signing key sealed anew, None where it cannot be opened.
    Raises UnfinishedError while two are in use, unless it is ``replacing`` one that was lost.
    """
    known = yield from peppers()
    in_use = [each for each in known if each.retired_at is None]
    if len(in_use) > 1 and not replacing:
        raise UnfinishedError
    # Never before the last one, whatever the clock says.
    since = max([pepper.since, *(each.since + 1 for each in known)])
    yield Query("insert_pepper", (pepper.id, pepper.check, since))
    for key in (yield from signing_keys()):
        sealed = reseal(key)
        if sealed is not None:
            yield Query("reseal_signing_key", (key.kid, sealed, pepper.id))
    yield from recorded(audit)


def end_rotation(pepper_ids: Sequence[str], at: int, audit: AuditRow) -> Steps[None]:
    """Retire peppers: keys with no digest under another are cold from now on.

    A signing key that is still sealed under one of them is retired with it: nobody can open it.
    """
    for pepper_id in pepper_ids:
        yield Query("retire_pepper", (pepper_id, at))
        yield Query("retire_signing_keys_under", (pepper_id, at))
    yield from recorded(audit)


def keys_only_under(pepper_ids: Sequence[str], now: int) -> Steps[list[KeyRecord]]:
    """Return the active keys that are known by a digest under one of these peppers and under no other."""
    found: list[KeyRecord] = []
    for pepper_id in pepper_ids:
        rows = yield Query("active_keys_under", (pepper_id, now))
        found += map(key_of, rows)
    return [key for key in found if key.older_pepper_id is None or key.older_pepper_id in pepper_ids]


def forget_digests(pepper_id: str, after: str, count: int) -> Steps[str | None]:
    """Remove the digests under a retired pepper, which say nothing any more, of some keys.

    These are the ``count`` keys whose ids follow ``after``; returns where to go on, None at the end.
    """
    rows = yield Query("key_id_further", (after, count - 1))
    last = rows[0][0] if rows else "~"  # which is beyond every id
    yield Query("forget_digests", (after, last, pepper_id))
    yield Query("forget_older_digests", (after, last, pepper_id))
    return last if rows else None


def cold_key(token: str, signed_id: str | None) -> Steps[tuple[KeyRecord | None, list[str]]]:
    """Return the cold key whose locator a token begins with, and the prefixes of our own tokens.

    The longest locator counts. A signed token is found by the id that it says, and by nothing else.
    """
    retired = {pepper.id for pepper in (yield from peppers()) if pepper.retired_at is not None}
    prefixes = [row[0] for row in (yield Query("prefixes"))]
    place = token if signed_id is None else signed_id
    for _ in range(LOCATORS_MAX):
        rows = yield Query("key_at_locator", (place,))
        if not place or not rows:
            break
        record = key_of(rows[0])
        if signed_id is not None:
            found = record.is_jwt and record.locator == signed_id
            return (record if found and _is_cold(record, retired) else None), prefixes
        # Whatever begins the token comes before it, and nothing that does not lies between.
        common = _common(record.locator, token)
        if record.locator == common != token and not record.is_jwt and _is_cold(record, retired):
            return record, prefixes
        place = common if common != record.locator else common[:-1]
    return None, prefixes


def _common(one: str, other: str) -> str:
    """Return what both begin with."""
    length = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return one[:length]


def _is_cold(record: KeyRecord, retired: Collection[str]) -> bool:
    return bool(record.verifier) and (record.digest is None or record.pepper_id in retired)


def keep_digests(found: Sequence[Found]) -> Steps[int]:
    """Write the digests of keys that were seen, as far as that is due; return of how many.

    Nothing is due before the newest pepper is in use, nor for a record that has changed meanwhile.
    """
    in_use = yield from peppers_in_use()
    written: list[str] = []
    for key in found:
        kept = kept_digests(key.digests, in_use)
        if kept is None or kept.digest == key.digest:
            continue
        if key.digest is not None:
            rows = yield Query("renew_digest", (key.key_id, *kept, key.digest))
        else:
            rows = yield Query("keep_digest", (key.key_id, *kept, key.verifier))
        written += [row[0] for row in rows]
    if written:
        yield from _changed(written)
    return len(written)


def _changed(key_ids: Sequence[str]) -> Steps[None]:
    """Tell readers of the change log; the audit is silent, since nothing about the keys has changed."""
    head = yield Query("take_change_numbers", (len(key_ids),))
    first = head[0][0] - len(key_ids) + 1
    rows = [(first + i, secrets.token_hex(8), "key", key_id) for i, key_id in enumerate(key_ids)]
    yield Query("insert_change", rows, many=True)
