"""How long a key lives: what was asked for, within the tenant's maximum and one calendar year.

Pure: the time of creation is an argument. Instants are epoch milliseconds.
"""

from __future__ import annotations

import datetime
import re

from gateway.control.errors import Invalid
from gateway.core.durations import (
    DurationError,
    checked_lifetime,
    parse_calendar_duration,
    parse_duration,
)

CEILING = "P1Y"
"""No key outlives a calendar year from its creation, whatever a tenant's setting says."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def expiry(created_at: int, *, ttl: str | None, expires_at: str | None, maximum: str) -> int:
    """Return when a key made at ``created_at`` ends; without a wish, as late as it may.

    ``maximum`` is what is in effect for the tenant. A wish beyond it is refused, never shortened.
    Raises Invalid naming ``ttl`` or ``expiresAt``.
    """
    latest = min(after(created_at, CEILING, member="maximum"), after(created_at, maximum, member="maximum"))
    if ttl is not None and expires_at is not None:
        raise Invalid("ttl", "and expiresAt exclude one another: give one of them")
    if ttl is not None:
        member, ends = "ttl", after(created_at, ttl, member="ttl")
    elif expires_at is not None:
        member, ends = "expiresAt", instant(expires_at, member="expiresAt")
    else:
        return latest
    if ends <= created_at:
        raise Invalid(member, "must lie in the future")
    if ends > latest:
        raise Invalid(
            member, f"must be no later than {rfc3339(latest)}, the longest that this tenant's keys live"
        )
    return ends


def rfc3339(at_ms: int) -> str:
    """Return an instant in RFC 3339, UTC, with milliseconds."""
    return (_EPOCH + datetime.timedelta(milliseconds=at_ms)).strftime(
        "%Y-%m-%dT%H:%M:%S."
    ) + f"{at_ms % 1000:03d}Z"


def instant(text: str, *, member: str) -> int:
    """Return the instant that an RFC 3339 date and time names. Raises Invalid."""
    try:
        if not _RFC3339.fullmatch(text):
            raise ValueError
        parsed = datetime.datetime.fromisoformat(text.upper())
        return (parsed - _EPOCH) // datetime.timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise Invalid(member, "must be a date and time such as 2027-01-31T12:00:00Z") from None


def since_when(text: str, now_ms: int, *, member: str = "since") -> int:
    """Return the instant of a duration ago, or of an RFC 3339 date and time. Raises Invalid."""
    if text[:4].isdigit() and "-" in text:
        return instant(text, member=member)
    try:
        return now_ms - round(parse_duration(text) * 1000)
    except DurationError as error:
        raise Invalid(member, str(error)) from None


def checked_maximum(text: str, *, member: str) -> str:
    """Return a tenant's maximum lifetime if it is some time, and no more than a calendar year.

    Raises Invalid.
    """
    try:
        return checked_lifetime(text)
    except DurationError as error:
        raise Invalid(member, str(error)) from None


def after(start_ms: int, text: str, *, member: str) -> int:
    """Return the instant that a duration after another ends. Raises Invalid."""
    try:
        start = _EPOCH + datetime.timedelta(milliseconds=start_ms)
        return (parse_calendar_duration(text).add_to(start) - _EPOCH) // datetime.timedelta(milliseconds=1)
    except DurationError as error:
        raise Invalid(member, str(error)) from None
