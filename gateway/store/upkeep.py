"""Keep the change log alive and small: the canary, and the end of what is old.

The canary is a change like any other that changes nothing: where the feed works it arrives
everywhere, so its absence tells of a feed that is silently dead. Imports ``store`` only.

Promise: what is trimmed is the log's oldest part, without a gap, and never its head; a reader who
was away for longer finds its place gone and reads everything again.
"""

from __future__ import annotations

import secrets

from gateway.store.login import ENDED_KEPT_MS
from gateway.store.records import DAY_MS
from gateway.store.steps import Query, Steps

CANARY_EVERY_MS = 10_000
LOG_KEPT_MS = DAY_MS
"""Far more than any reader that may still serve has missed (`propagation.bound` is 300 s at most): a
machine that sleeps for a night goes on from where it was. A day of canaries is 8,640 rows."""
TRIM_BATCH = 1000
"""Changes dropped at a time: a few milliseconds under the writers' lock, six million a day."""


def keep_up(
    every_ms: int = CANARY_EVERY_MS, kept_ms: int = LOG_KEPT_MS, batch: int = TRIM_BATCH
) -> Steps[int | None]:
    """Write a canary unless one was written less than ``every_ms`` ago, and trim the log along with it.

    Returns when it was written, on the store's clock; None: somebody else did, and trimmed. There is
    no audit row: nothing was done to anything.
    """
    ((now_ms,),) = yield Query("store_now")
    if not (yield Query("mark_canary", (now_ms, every_ms))):
        return None
    ((number,),) = yield Query("take_change_numbers", (1,))
    yield Query("insert_change", (number, secrets.token_hex(8), "canary", "fleet"))
    ((at,),) = yield Query("date_canary", (number,))
    yield from _trim(number, now_ms, kept_ms, batch)
    yield Query("prune_ended_tokens", (now_ms - ENDED_KEPT_MS,))
    return int(at)


def _trim(head: int, now_ms: int, kept_ms: int, batch: int) -> Steps[None]:
    """Drop the oldest changes up to the first that is young, or that is the head."""
    last = None
    for number, at in (yield Query("oldest_changes", (batch,))):
        # What a clock that was wrong has put far ahead is no reason to keep all that follows.
        if number == head or abs(now_ms - at) <= kept_ms:
            break
        last = number
    if last is not None:
        yield Query("trim_changes", (last,))
