"""Keep when keys were last used: coarse, written behind, and no change that anybody decides by.

So it takes no change number and writes no audit row. Imports ``store`` only.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.steps import Query, Steps

NEAR_ENOUGH_MS = 60_000
"""An instant that is kept already is left as it is unless the key was used so much later: several
gateways that serve the same key do not write one after the other."""


def note_uses(uses: Sequence[tuple[str, int]]) -> Steps[None]:
    """Keep when keys (by id) were used last, in epoch milliseconds; never back, and not for a little.

    A key that is not there is left out. The rows are locked in the order of their ids.
    """
    rows = [(key_id, at, at - NEAR_ENOUGH_MS) for key_id, at in sorted(uses)]
    yield Query("note_use", rows, many=True)
