"""Login tokens that were ended before their time: what happens inside one transaction.

Imports ``store`` only.
"""

from __future__ import annotations

from gateway.store.base import AuditRow
from gateway.store.operations import recorded
from gateway.store.records import DAY_MS
from gateway.store.steps import Query, Steps

ENDED_KEPT_MS = DAY_MS
"""How long a row outlives its token on the store's clock, by which `keep_up` drops it: that may be hours
ahead until it is set right, and a token whose row is gone would be let in again then."""


def end_token(jti: str, user_id: str, expires_at: int, at: int, audit: AuditRow) -> Steps[bool]:
    """End a login token for good; tell whether this call did it.

    ``expires_at`` is when it would have ended by itself. Whoever ends one drops no rows of others: by a
    clock that is ahead, tokens that were logged out and not yet ended would be let in again.
    """
    done = yield Query("end_token", (jti, user_id, expires_at, at))
    if done:
        yield from recorded(audit)
    return bool(done)


def ended_token(jti: str) -> Steps[bool]:
    """Tell whether a login token was ended."""
    return bool((yield Query("ended_token", (jti,))))
