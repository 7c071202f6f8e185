"""The numbers of several workers are those of one gateway, and no counter falls."""

from __future__ import annotations

import platform
import re

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.observe import Family, GatewayCollector, Gauges, Observer, Totals, families_of, registry_of
from gateway.observe.totals import GAUGES
from tests.observe.test_observer import Samples, outcome, value


def gauges(connections: int = 1, age_s: float = 1.0, up: bool = True) -> Gauges:
    told = {
        "downstream_connections": lambda: connections,
        "upstream_connections": lambda: [("default", "idle", connections)],
        "key_table_keys": lambda: 9,
        "key_table_age_s": lambda: age_s,
        "store_up": lambda: up,
    }
    rest = {name: (lambda: 0) for name in Gauges.__struct_fields__ if name not in told}
    return Gauges(**told, **rest)


def numbers(requests: int, **moment: float) -> list[Family]:
    """Return what a worker tells that has answered so many requests."""
    observer = Observer()
    observer.configured(["sites"], ["default"], 5.0)
    for _ in range(requests):
        observer.record(outcome())
    return families_of(GatewayCollector(observer, gauges(**moment), "1.2.3"))  # type: ignore[arg-type]


def _registered(totals: Totals) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(totals)
    return registry


def shown(totals: Totals) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(_registered(totals)).decode())
        for sample in family.samples
    }


def series(exposition: str) -> list[str]:
    """Return the series in their order, without their values."""
    return [line.rpartition(" ")[0] for line in exposition.splitlines() if not line.startswith("#")]


def requests_in(samples: Samples) -> float:
    return value(samples, "gateway_requests_total", route="sites", method="GET", code="200")


def test_counters_and_histograms_are_added_up() -> None:
    totals = Totals()
    totals.tell(0, numbers(3))
    totals.tell(1, numbers(4))
    samples = shown(totals)
    assert requests_in(samples) == 7
    name = "gateway_request_duration_seconds"
    assert value(samples, f"{name}_count", route="sites") == 7
    assert value(samples, f"{name}_bucket", route="sites", le="0.001") == 0
    assert value(samples, f"{name}_bucket", route="sites", le="0.0025") == 7


def test_of_a_gauge_the_sum_or_the_worst_is_shown() -> None:
    totals = Totals()
    totals.tell(0, numbers(1, connections=3, age_s=2.0, up=True))
    totals.tell(1, numbers(1, connections=4, age_s=9.0, up=False))
    samples = shown(totals)
    assert value(samples, "gateway_downstream_connections") == 7
    assert value(samples, "gateway_upstream_connections", upstream="default", state="idle") == 7
    assert value(samples, "gateway_key_table_age_seconds") == 9.0
    assert value(samples, "gateway_key_table_keys") == 9
    assert value(samples, "gateway_store_up") == 0
    assert value(samples, "gateway_build_info", version="1.2.3", python=platform.python_version()) == 1


def test_one_worker_shows_what_a_gateway_without_workers_shows() -> None:
    observer = Observer()
    observer.configured(["sites"], ["default"], 5.0)
    observer.record(outcome())
    registry = registry_of(GatewayCollector(observer, gauges(), "1.2.3"))
    totals = Totals()
    totals.tell(0, families_of(registry))
    together = generate_latest(_registered(totals)).decode()
    alone = generate_latest(registry).decode()
    assert series(together) == series(alone)
    assert re.findall("# TYPE .*", together) == re.findall("# TYPE .*", alone)


def test_what_the_dead_have_counted_is_kept_and_their_moment_is_not() -> None:
    totals = Totals()
    totals.tell(0, numbers(3, connections=5))
    totals.tell(1, numbers(4, connections=6))
    totals.depart(0)
    samples = shown(totals)
    assert requests_in(samples) == 7
    assert value(samples, "gateway_downstream_connections") == 6
    totals.tell(0, numbers(1))
    assert requests_in(shown(totals)) == 8
    totals.depart(0)
    totals.depart(1)
    totals.depart(1)
    assert requests_in(shown(totals)) == 8


def seconds(value: float) -> list[Family]:
    return [Family("process_cpu_seconds", "CPU.", "counter", (("process_cpu_seconds_total", (), value),))]


def test_no_counter_falls_by_a_rounding_when_workers_depart() -> None:
    """To Prometheus the least fall is a start from zero, which counts everything twice."""
    totals = Totals()
    spent = {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.7}
    for worker, value_s in spent.items():
        totals.tell(worker, seconds(value_s))
    together = value(shown(totals), "process_cpu_seconds_total")
    for worker in (3, 1, 0, 2):
        totals.depart(worker)
        assert value(shown(totals), "process_cpu_seconds_total") == together
        totals.tell(worker, seconds(0.0))


def test_numbers_told_in_part_replace_their_like_alone() -> None:
    totals = Totals()
    totals.tell(0, seconds(2.0))
    totals.tell(0, numbers(1))
    assert value(shown(totals), "process_cpu_seconds_total") == 2.0


def test_every_gauge_has_a_rule() -> None:
    families = families_of(registry_of(GatewayCollector(Observer(), gauges(), "1.2.3")))
    ruled = {family.name for family in families if family.kind == "gauge"}
    assert ruled <= GAUGES.keys(), "say in `GAUGES` what these are, made of several workers' values"
    kinds = {family.kind for family in families}
    assert kinds <= {"gauge", "counter", "histogram"}


def test_help_says_what_a_gauge_is_of() -> None:
    totals = Totals()
    totals.tell(0, numbers(1))
    told = {metric.name: metric.documentation for metric in totals.collect()}
    assert told["gateway_store_up"].endswith("(the lowest of the workers)")
    assert "workers" not in told["gateway_requests"]
