"""How long a change takes from its commit to its effect at three gateways over one PostgreSQL."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.table import columns
from tests.faults.effects import QUANTILES, Effects, measured, quantile
from tests.faults.fleet import Fleet
from tests.faults.watching import POLL
from tests.faults.world import running
from tests.postgres import Server

CHANGES = 100


def propagation(count: int, *, say: Callable[[str], None]) -> bool:
    """Print the distribution for ``count`` keys, made and revoked: notified, and by the poll alone."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        contextlib.closing(Server()) as server,
        running(Fleet(Path(directory), server)) as fleet,
    ):
        by = {"LISTEN": measured(fleet, count)}
        for proxy in fleet.proxies:
            proxy.drop_notifications(True)
        by[f"poll of {POLL:g} s"] = measured(fleet, count)
    headings = ("learned by", "change", "times", *(f"{name} ms" for name in QUANTILES))
    rows = [row for way, effects in by.items() for row in _rows(way, effects)]
    say("from the acknowledgement of a change to the first answer that shows it, at each of three gateways")
    say(columns(headings, rows))
    return True


def _rows(way: str, effects: Effects) -> list[tuple[str, ...]]:
    return [
        (
            way,
            change,
            str(len(times)),
            *(f"{1000 * quantile(times, part):.0f}" for part in QUANTILES.values()),
        )
        for change, times in (("made", effects.made), ("revoked", effects.revoked))
    ]
