"""What members and parameters may be, said once: the structs that use these validate and describe by them.

msgspec checks bounds, lengths and patterns as it reads; what only the domain service can judge (control
characters, calendars, what is in use) is described here and judged there. Imports its own plane.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.control.domain import LARGEST_PAGE
from gateway.control.names import LONGEST_DESCRIPTION, LONGEST_EMAIL, LONGEST_NAME

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_NAME,
        description="Kept in NFC; no control or bidi characters, no space at either end.",
    ),
]
"""A name for people."""

Text = Annotated[
    str,
    Meta(max_length=LONGEST_DESCRIPTION, description="Kept in NFC; no control or bidi characters."),
]
"""A description for people."""

Email = Annotated[
    str,
    Meta(min_length=3, max_length=LONGEST_EMAIL, description="An address such as ann@example.com."),
]
"""The address that a user logs in with."""

Days = Annotated[int, Meta(ge=1, le=365, description="Whole days.")]
"""How long a key lives, in ``000``."""

Limit = Annotated[int, Meta(ge=1, le=LARGEST_PAGE, description="How many to return at most.")]
"""How long a page is."""

Instant = Annotated[
    str,
    Meta(description="RFC 3339, such as 2027-01-31T12:00:00Z.", extra_json_schema={"format": "date-time"}),
]
"""A date and time; told in UTC with milliseconds."""

Lifetime = Annotated[
    str, Meta(description="An ISO 8601 duration, such as PT24H, P30D or P1Y.", max_length=40)
]
"""How long something lasts."""

Url = Annotated[str, Meta(description="An absolute URL.", extra_json_schema={"format": "uri"})]
"""Where something is."""
