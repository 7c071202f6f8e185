"""Show the counters to Prometheus: read at a scrape, never on the hot path.

Imports ``core``, the observer's counters and prometheus_client. What belongs to other rooms (how
many connections, how old the table is) arrives as callables, read at the moment of the scrape.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.core.model import TableState
from gateway.observe.observer import Histogram, Observer


class Gauges(msgspec.Struct, frozen=True):
    """Where the values of the moment are read.

    Attributes:
        downstream_connections: connections of callers that are open now.
        upstream_connections: ``(upstream, state, count)``; state is ``active`` or ``idle``.
        key_table_keys: keys in the table.
        key_table_age_s: seconds since the start of the last successful read; None before any.
        store_up: whether the last read of the store succeeded.
        key_table_state: what the age rule makes of the table.
        key_table_loads: how often everything was read (again).
        store_clock_skew_s: the store's clock less this machine's; None before any read.
        canary_at_s: when the newest canary that arrived was written, epoch seconds; 0 before any.
        canary_age_s: seconds since then on the store's clock; None before any.
    """

    downstream_connections: Callable[[], int]
    upstream_connections: Callable[[], Iterable[tuple[str, str, int]]]
    key_table_keys: Callable[[], int]
    key_table_age_s: Callable[[], float | None]
    store_up: Callable[[], bool]
    key_table_state: Callable[[], TableState]
    key_table_loads: Callable[[], int]
    store_clock_skew_s: Callable[[], float | None]
    canary_at_s: Callable[[], float]
    canary_age_s: Callable[[], float | None]


def make_registry(observer: Observer, gauges: Gauges, version: str) -> CollectorRegistry:
    """Return the metrics of a gateway that is this process."""
    return registry_of(GatewayCollector(observer, gauges, version))


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """Return a registry of its own (nothing global): what these show, then the process's and Python's."""
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class GatewayCollector(Collector):
    """The gateway's own metrics, without those of the process and of Python."""

    def __init__(self, observer: Observer, gauges: Gauges, version: str) -> None:
        self._observer = observer
        self._gauges = gauges
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the gateway, in the order an operator reads them."""
        yield from self._request_families()
        yield from self._upstream_families()
        yield from self._connection_gauges()
        yield from self._key_families()
        yield from self._feed_families()
        yield from self._program_families()

    def _request_families(self) -> Iterator[Metric]:
        observer = self._observer
        requests = CounterMetricFamily(
            "gateway_requests", "Requests answered.", labels=("route", "method", "code")
        )
        for (route, method, status), count in observer.requests.items():
            requests.add_metric((route, method.decode("ascii"), str(status)), count)
        yield requests
        yield _histograms(
            "gateway_request_duration_seconds",
            "From a request's first byte to its response's last.",
            "route",
            observer.durations,
        )
        rejections = CounterMetricFamily(
            "gateway_rejections", "Requests the gateway refused, by reason.", labels=("reason",)
        )
        for reason, count in observer.rejections.items():
            rejections.add_metric((reason,), count)
        yield rejections
        ended = CounterMetricFamily(
            "gateway_connections_ended",
            "Requests under way that were ended because their key would no longer be let in, by reason.",
            labels=("reason",),
        )
        for reason, count in observer.ended.items():
            ended.add_metric((reason,), count)
        yield ended
        argon2 = CounterMetricFamily(
            "gateway_argon2_verifications",
            "Tokens of keys known by their argon2id string alone: proven (ok), wrong (failed), not tried for"
            " lack of room or time (refused).",
            labels=("result",),
        )
        for result, count in observer.argon2.items():
            argon2.add_metric((result,), count)
        yield argon2

    def _upstream_families(self) -> Iterator[Metric]:
        observer = self._observer
        yield _histograms(
            "gateway_upstream_request_duration_seconds",
            "From the first byte sent upstream to the last received.",
            "upstream",
            observer.upstream_durations,
        )
        errors = CounterMetricFamily(
            "gateway_upstream_errors", "Failures of an upstream, by kind.", labels=("upstream", "kind")
        )
        for labels, count in observer.upstream_errors.items():
            errors.add_metric(labels, count)
        yield errors

    def _connection_gauges(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "gateway_downstream_connections",
            "Connections of callers open now.",
            value=self._gauges.downstream_connections(),
        )
        upstream = GaugeMetricFamily(
            "gateway_upstream_connections",
            "Connections to upstreams open now, by state.",
            labels=("upstream", "state"),
        )
        for name, state, count in self._gauges.upstream_connections():
            upstream.add_metric((name, state), count)
        yield upstream

    def _key_families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "gateway_key_table_keys", "Keys in the table.", value=self._gauges.key_table_keys()
        )
        age_s = self._gauges.key_table_age_s()
        yield GaugeMetricFamily(
            "gateway_key_table_age_seconds",
            "Since the start of the last successful read of the store; +Inf before any.",
            value=math.inf if age_s is None else age_s,
        )
        yield GaugeMetricFamily(
            "gateway_store_up", "1 when the last read of the store succeeded.", value=self._gauges.store_up()
        )
        yield _histogram(
            "gateway_key_propagation_seconds",
            "From the commit of a change to its being visible here.",
            self._observer.propagation,
        )

    def _feed_families(self) -> Iterator[Metric]:
        gauges = self._gauges
        standing = GaugeMetricFamily(
            "gateway_key_table_state",
            "1 for what the key table is: loading, fresh, aging (unknown keys get 503), grace (older than the"
            " bound, by propagation.outage_grace), stale (every key is refused).",
            labels=("state",),
        )
        state = gauges.key_table_state()
        for each in TableState:
            standing.add_metric((each.value,), each is state)
        yield standing
        yield CounterMetricFamily(
            "gateway_key_table_loads",
            "Times that all keys were read: at the start, and when the change log was not the one known.",
            value=gauges.key_table_loads(),
        )
        skew_s = gauges.store_clock_skew_s()
        yield GaugeMetricFamily(
            "gateway_store_clock_skew_seconds",
            "The store's clock, on which keys expire, less this machine's; NaN before any read.",
            value=math.nan if skew_s is None else skew_s,
        )
        yield GaugeMetricFamily(
            "gateway_canary_last_seen_timestamp_seconds",
            "When the newest canary that arrived by the change log was written; there is one every 10 s.",
            value=gauges.canary_at_s(),
        )
        age_s = gauges.canary_age_s()
        yield GaugeMetricFamily(
            "gateway_canary_age_seconds",
            "Since the newest canary that arrived by the change log was written; +Inf before any.",
            value=math.inf if age_s is None else age_s,
        )

    def _program_families(self) -> Iterator[Metric]:
        log = self._observer.access_log
        yield CounterMetricFamily(
            "gateway_access_log_dropped",
            "Access log lines given up because the log could not take them.",
            value=0 if log is None else log.dropped,
        )
        yield _histogram(
            "gateway_event_loop_lag_seconds",
            "How late the event loop came to its regular work, ten times a second: what it adds to answers.",
            self._observer.lag,
        )
        yield GaugeMetricFamily(
            "gateway_config_reload_success_timestamp_seconds",
            "When the configuration in force was loaded.",
            value=self._observer.config_loaded_at,
        )
        build = GaugeMetricFamily(
            "gateway_build_info", "1, with the versions as labels.", labels=("version", "python")
        )
        build.add_metric((self._version, platform.python_version()), 1)
        yield build


def _histograms(
    name: str, documentation: str, label: str, family: dict[str, Histogram]
) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(name, documentation, labels=(label,))
    for value, histogram in family.items():
        metric.add_metric((value,), _buckets(histogram), histogram.total)
    return metric


def _histogram(name: str, documentation: str, histogram: Histogram) -> HistogramMetricFamily:
    metric = HistogramMetricFamily(name, documentation)
    metric.add_metric((), _buckets(histogram), histogram.total)
    return metric


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
