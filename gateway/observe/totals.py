"""Add up the metrics of several workers, and keep what the dead have counted.

A worker tells its metrics as plain values, ready to be sent. Imports prometheus_client alone.

Promise: no counter that was shown falls, whoever ends and is started again.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Labels = tuple[tuple[str, str], ...]
Exact = int | float | Fraction
"""Counters are whole numbers or fractions while they are added up; gauges are floats."""
_ADDED = ("counter", "histogram")


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric as a worker tells it: ``samples`` are name, labels and value."""

    name: str
    documentation: str
    kind: str
    samples: tuple[tuple[str, Labels, float], ...]


class Across(enum.Enum):
    """What a gauge of the gateway is, made of its workers' values; the words go to its HELP."""

    SUM = "all workers together"
    MOST = "the highest of the workers"
    LEAST = "the lowest of the workers"

    @property
    def join(self) -> Callable[[Exact, Exact], Exact]:
        """Return the function of two values."""
        joins: dict[Across, Callable[[Exact, Exact], Exact]] = {
            Across.SUM: operator.add,
            Across.MOST: max,
            Across.LEAST: min,
        }
        return joins[self]


# The table is each worker's own copy of the same keys; of what may differ, the worst is shown.
GAUGES = {
    "gateway_downstream_connections": Across.SUM,
    "gateway_upstream_connections": Across.SUM,
    "gateway_key_table_keys": Across.MOST,
    "gateway_key_table_age_seconds": Across.MOST,
    "gateway_key_table_state": Across.MOST,
    "gateway_store_up": Across.LEAST,
    "gateway_store_clock_skew_seconds": Across.MOST,
    "gateway_canary_last_seen_timestamp_seconds": Across.LEAST,
    "gateway_canary_age_seconds": Across.MOST,
    "gateway_config_reload_success_timestamp_seconds": Across.LEAST,
    "gateway_build_info": Across.MOST,
    "process_virtual_memory_bytes": Across.SUM,
    "process_resident_memory_bytes": Across.SUM,
    "process_start_time_seconds": Across.LEAST,
    "process_open_fds": Across.SUM,
    "process_max_fds": Across.SUM,
    "python_info": Across.MOST,
}


def families_of(collector: Collector) -> list[Family]:
    """Return what a collector or a registry shows now, as plain values."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            tuple(
                (sample.name, tuple(sample.labels.items()), float(sample.value)) for sample in metric.samples
            ),
        )
        for metric in collector.collect()
    ]


class Totals(Collector):
    """The metrics of all workers as those of one gateway."""

    def __init__(self) -> None:
        self._latest: dict[int, dict[str, Family]] = {}
        self._departed: dict[str, _Sum] = {}

    def tell(self, worker: int, families: list[Family]) -> None:
        """Take numbers of a worker, in place of its earlier ones."""
        self._latest.setdefault(worker, {}).update((family.name, family) for family in families)

    def depart(self, worker: int) -> None:
        """Keep what a worker that is gone has counted; what it had at the moment is gone too."""
        gone = self._latest.pop(worker, {})
        _add(self._departed, (family for family in gone.values() if family.kind in _ADDED))

    def collect(self) -> Iterator[Metric]:
        """Yield every family, in the order in which the workers tell them."""
        sums: dict[str, _Sum] = {}
        for families in self._latest.values():
            _add(sums, families.values())
        for name, departed in self._departed.items():
            if name in sums:
                sums[name].merge(departed)
            else:
                sums[name] = departed
        return (total.metric() for total in sums.values())


class _Sum:
    """One family, added up as far as it has been told."""

    def __init__(self, family: Family) -> None:
        self._name, self._documentation, self._kind = family.name, family.documentation, family.kind
        self._across = Across.SUM if family.kind in _ADDED else GAUGES.get(family.name, Across.MOST)
        self._values: dict[tuple[str, Labels], Exact] = {}

    def add(self, family: Family) -> None:
        for name, labels, value in family.samples:
            self._join((name, labels), _exact(value) if self._kind in _ADDED else value)

    def merge(self, other: _Sum) -> None:
        """Add what another has added up of the same family."""
        for key, value in other._values.items():
            self._join(key, value)

    def _join(self, key: tuple[str, Labels], value: Exact) -> None:
        known = self._values.get(key)
        self._values[key] = value if known is None else self._across.join(known, value)

    def metric(self) -> Metric:
        words = f" ({self._across.value})" if self._kind == "gauge" else ""
        metric = Metric(self._name, self._documentation + words, self._kind)
        for (name, labels), value in self._values.items():
            metric.samples.append(Sample(name, dict(labels), float(value)))
        return metric


def _exact(value: float) -> Exact:
    """Return a number whose sums do not depend on their order, which changes when a worker departs.

    A counter that falls by a rounding has begun anew to Prometheus, and is counted twice.
    """
    return int(value) if value.is_integer() else Fraction(value)


def _add(sums: dict[str, _Sum], families: Iterable[Family]) -> None:
    for family in families:
        total = sums.get(family.name)
        if total is None:
            total = sums[family.name] = _Sum(family)
        total.add(family)
