"""Durations: what is read, what is refused, and where the calendar decides."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.durations import Duration, DurationError, iso8601, parse_calendar_duration, parse_duration

DAY = 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("300s", 300),
        ("1.5s", 1.5),
        ("5m", 300),
        ("12h", 12 * 3600),
        ("30d", 30 * DAY),
        ("2w", 14 * DAY),
        ("0s", 0),
        ("PT24H", DAY),
        ("P365D", 365 * DAY),
        ("P1DT12H30M5S", DAY + 12 * 3600 + 30 * 60 + 5),
        ("PT0.25S", 0.25),
        ("PT0,5S", 0.5),
        ("P2W", 14 * DAY),
    ],
)
def test_both_forms_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "T1H",
        "1",
        "300",
        "s",
        "-5s",
        "+5s",
        "-P1D",
        "P-1D",
        "5 s",
        " 5s",
        "5s\n",
        "1_0s",
        "\uff110s",
        "5S",
        "5M",
        "1h30m",
        "p1d",
        "P1D1Y",
        "P1M2M",
        "P1H",
        "PT1D",
        "PT1H1H",
        "P1.5D",
        "0.0001s",
        "1.0005ms",
        "1e3s",
        "infs",
        "nan",
        "P99999999999D",
        "P1E9D",
        "9" * 18 + "w",
        "9" * 5000 + "s",
        "P" + "9" * 4000 + "D",
        "P1Y" * 20,
        "\ud800",
        "5s\x00",
    ],
)
def test_anything_else_is_refused_with_its_own_error(text: str) -> None:
    with pytest.raises(DurationError):
        parse_calendar_duration(text)


@pytest.mark.parametrize("text", ["P1Y", "P1M", "P1Y2M", "P1MT1S"])
def test_years_and_months_have_no_length_without_a_date(text: str) -> None:
    with pytest.raises(DurationError, match="no fixed length"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("P1Y", "2024-01-15", "2025-01-15"),
        ("P1Y", "2024-02-29", "2025-02-28"),
        ("P1M", "2026-01-31", "2026-02-28"),
        ("P1M", "2028-01-31", "2028-02-29"),
        ("P12M", "2026-12-01", "2027-12-01"),
        ("P1Y1D", "2024-02-29", "2025-03-01"),
        ("365d", "2024-01-15", "2025-01-14"),
    ],
)
def test_the_calendar_counts_months_to_their_last_day(text: str, start: str, end: str) -> None:
    begin = datetime.datetime.fromisoformat(start)
    assert parse_calendar_duration(text).add_to(begin) == datetime.datetime.fromisoformat(end)


@pytest.mark.parametrize("text", ["P8000Y", "P7974YT9999999M", "P9999Y", "P119988M"])
def test_a_date_after_the_year_9999_is_refused(text: str) -> None:
    with pytest.raises(DurationError, match="9999"):
        parse_calendar_duration(text).add_to(datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC))


@given(st.text(max_size=60) | st.from_regex(r"P?[0-9YMWDTHS.,]{0,20}", fullmatch=True))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        duration = parse_calendar_duration(text)
        duration.add_to(datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC))
    except DurationError:
        return
    assert duration.months >= 0
    assert duration.milliseconds >= 0


@given(st.integers(0, 10**9))
def test_milliseconds_survive(number: int) -> None:
    assert parse_calendar_duration(f"{number}ms") == Duration(0, number)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("500ms", "PT0.500S"), ("90s", "PT90S"), ("5m", "PT5M"), ("12h", "PT12H"), ("30d", "P30D"),
        ("1.5h", "PT5400S"), ("0.5d", "PT43200S"), ("2000ms", "PT2S"), ("P1Y", "P1Y"), ("PT24H", "PT24H"),
        ("2w", "P2W"),
    ],
)  # fmt: skip
def test_either_form_can_be_written_in_iso_8601(text: str, written: str) -> None:
    assert iso8601(text) == written
    assert parse_calendar_duration(written) == parse_calendar_duration(text)


@pytest.mark.parametrize("text", ["", "P", "1 day", "99999999999d", "0.0001s"])
def test_what_is_no_duration_is_not_written_either(text: str) -> None:
    with pytest.raises(DurationError):
        iso8601(text)
