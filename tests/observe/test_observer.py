"""What is counted, and that callers cannot make series grow."""

import math

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.model import TableState
from gateway.core.refusals import Reason
from gateway.observe import Gauges, Observer, Outcome, make_registry
from gateway.observe.observer import ENDING_REASONS

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def outcome(**changes: object) -> Outcome:
    facts: dict[str, object] = {
        "at": 1_700_000_000.0,
        "request_id": b"r-1",
        "route": "sites",
        "method": b"GET",
        "target": b"/api/v2/sites",
        "status": 200,
        "reason": None,
        "duration_s": 0.002,
        "upstream": "default",
        "upstream_s": 0.001,
        "bytes_in": 0,
        "bytes_out": 128,
        "key": None,
        "peer": "127.0.0.1",
    }
    return Outcome(**(facts | changes))


def scrape(observer: Observer, age_s: float | None = 0.5, *, never_read: bool = False) -> Samples:
    gauges = Gauges(
        downstream_connections=lambda: 4,
        upstream_connections=lambda: [("default", "idle", 2), ("default", "active", 1)],
        key_table_keys=lambda: 9,
        key_table_age_s=lambda: age_s,
        store_up=lambda: False,
        key_table_state=lambda: TableState.AGING,
        key_table_loads=lambda: 2,
        store_clock_skew_s=lambda: None if never_read else -0.25,
        canary_at_s=lambda: 0.0 if never_read else 1_700_000_000.5,
        canary_age_s=lambda: None if never_read else 3.5,
    )
    text = generate_latest(make_registry(observer, gauges, "1.2.3")).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_requests_count_by_route_method_and_code() -> None:
    observer = Observer()
    for status in (200, 200, 404):
        observer.record(outcome(status=status))
    samples = scrape(observer)
    assert value(samples, "gateway_requests_total", route="sites", method="GET", code="200") == 2
    assert value(samples, "gateway_requests_total", route="sites", method="GET", code="404") == 1


def test_a_duration_falls_into_every_bucket_from_its_bound_up() -> None:
    observer = Observer()
    for duration_s in (0.0025, 0.0026, 61.0):
        observer.record(outcome(duration_s=duration_s))
    samples = scrape(observer)
    name = "gateway_request_duration_seconds"
    assert value(samples, f"{name}_bucket", route="sites", le="0.001") == 0
    assert value(samples, f"{name}_bucket", route="sites", le="0.0025") == 1
    assert value(samples, f"{name}_bucket", route="sites", le="60.0") == 2
    assert value(samples, f"{name}_bucket", route="sites", le="+Inf") == 3
    assert value(samples, f"{name}_count", route="sites") == 3
    assert value(samples, f"{name}_sum", route="sites") == pytest.approx(61.0051)


def test_upstream_time_counts_only_where_an_upstream_was_used() -> None:
    observer = Observer()
    observer.configured(["sites"], ["default"], 0.0)
    observer.record(outcome(upstream="", upstream_s=None, status=401, reason=Reason.KEY_UNKNOWN))
    observer.record(outcome())
    samples = scrape(observer)
    assert value(samples, "gateway_upstream_request_duration_seconds_count", upstream="default") == 1


def test_every_reason_is_a_series_at_zero_from_the_start() -> None:
    samples = scrape(Observer())
    for reason in Reason:
        assert value(samples, "gateway_rejections_total", reason=reason.value) == 0


def test_exchanges_that_were_ended_count_by_reason_from_zero() -> None:
    observer = Observer()
    name = "gateway_connections_ended_total"
    for reason in ENDING_REASONS:
        assert value(scrape(observer), name, reason=reason.value) == 0
    observer.exchange_ended(Reason.KEY_REVOKED)
    observer.exchange_ended(Reason.CREDENTIAL_MALFORMED)
    assert value(scrape(observer), name, reason="key_revoked") == 1
    assert value(scrape(observer), name, reason="credential_malformed") == 1, "whatever it was, it is told"


@pytest.mark.parametrize("reason", [Reason.KEY_REVOKED, "key_revoked"])
def test_a_refusal_counts_under_its_reason(reason: str) -> None:
    observer = Observer()
    observer.record(outcome(status=401, reason=reason))
    assert value(scrape(observer), "gateway_rejections_total", reason="key_revoked") == 1


def test_a_word_that_is_no_refusal_adds_no_series() -> None:
    observer = Observer()
    before = len(scrape(observer))
    observer.record(outcome(status=499, reason="client_closed"))
    after = scrape(observer)
    assert value(after, "gateway_requests_total", route="sites", method="GET", code="499") == 1
    assert ("gateway_rejections_total", frozenset({("reason", "client_closed")})) not in after
    assert len(after) > before


def test_configured_routes_and_upstreams_are_series_at_zero() -> None:
    observer = Observer()
    observer.configured(["a", "b"], ["up"], 1234.5)
    samples = scrape(observer)
    assert value(samples, "gateway_request_duration_seconds_count", route="b") == 0
    assert value(samples, "gateway_upstream_errors_total", upstream="up", kind="timeout") == 0
    assert value(samples, "gateway_config_reload_success_timestamp_seconds") == 1234.5


def test_configuring_again_keeps_what_was_counted() -> None:
    observer = Observer()
    observer.configured(["sites"], ["default"], 1.0)
    observer.record(outcome())
    observer.upstream_error("default", "timeout")
    observer.configured(["sites", "more"], ["default"], 2.0)
    samples = scrape(observer)
    assert value(samples, "gateway_request_duration_seconds_count", route="sites") == 1
    assert value(samples, "gateway_upstream_errors_total", upstream="default", kind="timeout") == 1


def test_random_paths_hosts_ids_and_methods_add_no_series() -> None:
    observer = Observer()
    observer.record(outcome())
    observer.record(outcome(method=b"BREW0"))
    before = len(scrape(observer))
    for number in range(10_000):
        text = str(number).encode()
        observer.record(outcome(target=b"/" + text, request_id=text, peer=f"10.0.0.{number}"))
        observer.record(outcome(method=b"BREW" + text))
    samples = scrape(observer)
    assert len(samples) == before
    assert value(samples, "gateway_requests_total", route="sites", method="other", code="200") == 10_001


def test_a_method_of_any_bytes_is_counted_and_breaks_nothing() -> None:
    observer = Observer()
    for method in (b"", b'G"ET\n', b"\xff\x00"):
        observer.record(outcome(method=method))
    assert value(scrape(observer), "gateway_requests_total", route="sites", method="other", code="200") == 3


def test_gauges_are_read_at_the_scrape() -> None:
    samples = scrape(Observer(), age_s=1.5)
    assert value(samples, "gateway_downstream_connections") == 4
    assert value(samples, "gateway_upstream_connections", upstream="default", state="idle") == 2
    assert value(samples, "gateway_key_table_keys") == 9
    assert value(samples, "gateway_key_table_age_seconds") == 1.5
    assert value(samples, "gateway_store_up") == 0


def test_a_table_never_read_is_infinitely_old_so_that_alerts_fire() -> None:
    assert value(scrape(Observer(), age_s=None), "gateway_key_table_age_seconds") == math.inf


def test_one_of_five_states_of_the_table_holds() -> None:
    samples = scrape(Observer())
    states = {state: value(samples, "gateway_key_table_state", state=state) for state in TableState}
    assert states == {"loading": 0, "fresh": 0, "aging": 1, "grace": 0, "stale": 0}


def test_the_feed_shows_its_loads_its_clock_and_its_canary() -> None:
    samples = scrape(Observer())
    assert value(samples, "gateway_key_table_loads_total") == 2
    assert value(samples, "gateway_store_clock_skew_seconds") == -0.25
    assert value(samples, "gateway_canary_last_seen_timestamp_seconds") == 1_700_000_000.5
    assert value(samples, "gateway_canary_age_seconds") == 3.5


def test_before_any_read_no_skew_is_known_and_the_canary_is_infinitely_late() -> None:
    samples = scrape(Observer(), never_read=True)
    assert math.isnan(value(samples, "gateway_store_clock_skew_seconds"))
    assert value(samples, "gateway_canary_last_seen_timestamp_seconds") == 0
    assert value(samples, "gateway_canary_age_seconds") == math.inf


def test_propagation_is_a_histogram() -> None:
    observer = Observer()
    observer.propagated(0.2)
    samples = scrape(observer)
    assert value(samples, "gateway_key_propagation_seconds_bucket", le="0.1") == 0
    assert value(samples, "gateway_key_propagation_seconds_bucket", le="0.25") == 1
