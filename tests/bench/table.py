"""Medians over the rounds, and the table they are printed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.load import Run

_HEADINGS = ("", "CPU µs/req", "of nginx", "req/s", "p50 ms", "p99 ms", "RSS MB", "faults")


def scenario_table(title: str, runs: Mapping[str, Sequence[Run]], rss_mb: Mapping[str, float]) -> str:
    """Return one scenario's table: a row a contender, medians over the rounds."""
    rows = [_row(name, runs[name], runs.get("nginx"), rss_mb[name]) for name in runs]
    return f"{title}\n{columns(_HEADINGS, rows)}"


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of text, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, cell, width in cells)
        for cells in (
            [(place, cell, widths[place]) for place, cell in enumerate(row)] for row in (headings, *rows)
        )
    )


def _row(name: str, runs: Sequence[Run], reference: Sequence[Run] | None, rss_mb: float) -> tuple[str, ...]:
    ratio = "-"
    if reference is not None:
        # Of each round by itself: what disturbed one round disturbed both.
        ratio = f"{median(own.cpu_us / other.cpu_us for own, other in zip(runs, reference, strict=True)):.2f}"
    return (
        name,
        f"{median(run.cpu_us for run in runs):.1f}",
        ratio,
        f"{median(run.per_second for run in runs):.0f}",
        f"{median(run.p50_ms for run in runs):.2f}",
        f"{median(run.p99_ms for run in runs):.2f}",
        f"{rss_mb:.0f}",
        str(sum(run.faults for run in runs)),
    )
