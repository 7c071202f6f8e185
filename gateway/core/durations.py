"""Durations as people write them: ``300s``, ``5m``, ``12h``, ``30d``, ``500ms``, and ISO 8601.

One parser for the configuration, the CLI and the API. Pure; imports nothing of the project.

Years and months have no length of their own: they count from a date (``Duration.add_to``), where
a day that the target month lacks becomes its last (31 January + P1M is 28 or 29 February).
"""

from __future__ import annotations

import calendar
import datetime
import re

import msgspec

LONGEST_TEXT = 40
LONGEST_MS = 1_000_000 * 86_400_000
"""A million days: no sensible setting is longer, and sums of two stay far from any overflow."""

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SHORT = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,3}))?(ms|s|m|h|d|w)")
_NUMBER = r"(?:([0-9]{1,18})%s)?"
_ISO = re.compile(
    "P"
    + "".join(_NUMBER % unit for unit in "YMWD")
    + r"(?:T"
    + "".join(_NUMBER % unit for unit in "HM")
    + r"(?:([0-9]{1,18})(?:[.,]([0-9]{1,3}))?S)?)?"
)


class DurationError(ValueError):
    """The text is no duration, or one that cannot be used here; the message is a sentence's end."""


class Duration(msgspec.Struct, frozen=True):
    """Whole months, then milliseconds; never negative."""

    months: int
    milliseconds: int

    @property
    def is_zero(self) -> bool:
        """Tell whether it is no time at all."""
        return self.months == 0 and self.milliseconds == 0

    def add_to(self, start: datetime.datetime) -> datetime.datetime:
        """Return ``start`` and this much later: months by the calendar first, then the rest.

        Raises DurationError where the calendar ends (year 9999).
        """
        try:
            return _add_months(start, self.months) + datetime.timedelta(milliseconds=self.milliseconds)
        except (OverflowError, ValueError):
            raise DurationError("ends after the year 9999") from None


def parse_calendar_duration(text: str) -> Duration:
    """Return the duration that ``text`` spells, in either form. Raises DurationError."""
    if len(text) > LONGEST_TEXT:
        raise DurationError("is too long for a duration")
    if short := _SHORT.fullmatch(text):
        duration = Duration(0, _decimal_ms(short[1], short[2], _UNIT_MS[short[3]]))
    else:
        duration = _parse_iso(text)
    if duration.milliseconds > LONGEST_MS or duration.months > 12 * 9999:
        raise DurationError("is longer than any date can be away")
    return duration


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` spells; years and months are refused, having no fixed length.

    Raises DurationError.
    """
    duration = parse_calendar_duration(text)
    if duration.months:
        raise DurationError("counts years or months, which have no fixed length: give days, such as 30d")
    return duration.milliseconds / 1000


def iso8601(text: str) -> str:
    """Return a duration as ISO 8601 writes it, whichever form ``text`` has. Raises DurationError."""
    duration = parse_calendar_duration(text)
    if not (short := _SHORT.fullmatch(text)):
        return text
    if short[2] is None and short[3] != "ms":
        return f"{'P' if short[3] in 'dw' else 'PT'}{short[1]}{short[3].upper()}"
    seconds, milliseconds = divmod(duration.milliseconds, 1000)
    return f"PT{seconds}.{milliseconds:03d}S" if milliseconds else f"PT{seconds}S"


def checked_lifetime(text: str) -> str:
    """Return ``text`` if it spells how long keys may live: some time, a calendar year at most.

    Raises DurationError.
    """
    duration = parse_calendar_duration(text)
    if duration.is_zero:
        raise DurationError("must be more than no time at all")
    if duration.add_to(_LEAP_YEAR) > Duration(12, 0).add_to(_LEAP_YEAR):
        raise DurationError("is longer than a calendar year, and no key lives longer")
    return text


# A year of 366 days: what fits into none is too long for every year.
_LEAP_YEAR = datetime.datetime(2028, 1, 1, tzinfo=datetime.UTC)


def _parse_iso(text: str) -> Duration:
    # ISO 8601 §5.5.2: designators in order, each once, at least one, and one after a T.
    found = _ISO.fullmatch(text)
    if found is None or text[-1] in "PT":
        raise DurationError("is no duration: write one such as 500ms, 30s, 5m, 12h, 30d, PT24H, P365D or P1Y")
    years, months, weeks, days, hours, minutes, seconds = (int(found[i] or 0) for i in range(1, 8))
    milliseconds = (
        weeks * _UNIT_MS["w"] + days * _UNIT_MS["d"] + hours * _UNIT_MS["h"] + minutes * _UNIT_MS["m"]
    )
    return Duration(12 * years + months, milliseconds + _decimal_ms(str(seconds), found[8], 1000))


def _decimal_ms(whole: str, fraction: str | None, unit_ms: int) -> int:
    thousandths = int((fraction or "0").ljust(3, "0"))
    part, rest = divmod(thousandths * unit_ms, 1000)
    if rest:
        raise DurationError("is finer than a millisecond")
    return int(whole) * unit_ms + part


def _add_months(start: datetime.datetime, months: int) -> datetime.datetime:
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    if year > datetime.MAXYEAR:
        raise OverflowError
    last = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last))
