"""Cold keys at the control API: found by their locators, proven by argon2id, warm from then on.

The data path has a prover of its own; this one is for keys that manage keys, a few a minute. It keeps
apart from the pool that makes keys, which strangers must not fill, and bounds for each key how often
wrong tokens are tried. Imports ``core``, ``store`` and its own plane.

Promise: argon2id runs for the locators of cold keys alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import LRUCache

from gateway.control.errors import Busy
from gateway.control.passwords import Argon2Pool, HasherBusyError
from gateway.core.envelope import KEY_AUDIENCE, read_unverified
from gateway.core.rate import Rate, judge
from gateway.core.tokens import DEFAULT_PREFIX, Digester, is_opaque
from gateway.store.base import KeyRecord, Store
from gateway.store.peppers import Found, cold_key, keep_digests

FAILURES = Rate(quota=10, window_s=10.0)
"""Wrong tokens of one cold key that argon2id is asked about: so many at once, and one a second."""
SUSPECTS_MAX = 10_000
WAITING = 8


def cold_pool() -> Argon2Pool:
    """Return the pool that proves cold keys: one thread, and few who wait."""
    return Argon2Pool(1, waiting_per_thread=WAITING)


class ColdKeys:
    """Finds and proves cold keys for the control API."""

    def __init__(
        self,
        store: Store,
        digester: Digester,
        pool: Argon2Pool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a migrated store, its peppers, a pool that is theirs alone, and a clock of seconds."""
        self._store = store
        self._digester = digester
        self._pool = pool
        self._clock = clock
        self._failures: LRUCache[str, float] = LRUCache(SUSPECTS_MAX)

    async def key_of(self, token: bytes) -> KeyRecord | None:
        """Return the cold key that a token proves to be, and write its digest back; None: it is none.

        Raises Busy when nobody finds out now, StoreError.
        """
        text = token.decode("ascii", "replace")
        record, prefixes = await self._store.read(cold_key(text, _signed_id(token)))
        if record is None or not _is_well_made(token, [DEFAULT_PREFIX, *prefixes]):
            return None
        verdict = judge(FAILURES, self._failures.get(record.id, 0.0), self._clock())
        if not verdict.admitted:
            raise Busy("too many wrong tokens of this key have been tried: try again soon")
        try:
            holds = await self._pool.verify(record.verifier, text)
        except HasherBusyError as error:
            raise Busy(str(error)) from None
        if not holds:
            self._failures[record.id] = verdict.arrival
            return None
        digests = self._digester.digests(token)
        await self._store.write(keep_digests([Found(record.id, digests, None, record.verifier)]))
        return record


def _signed_id(token: bytes) -> str | None:
    """Return the id that a signed token says is that of its key, if it is of that kind; nothing proves it."""
    envelope = read_unverified(token)
    if envelope is None or KEY_AUDIENCE not in envelope.audiences:
        return None
    key_id = envelope.claims.get("jti")
    return key_id if isinstance(key_id, str) and key_id.isascii() else None


def _is_well_made(token: bytes, prefixes: list[str]) -> bool:
    """Tell whether a token that begins like one of our own has that form, check digits included."""
    own = [prefix.encode() for prefix in prefixes if token.startswith(prefix.encode())]
    return not own or any(is_opaque(token, prefix) for prefix in own)
