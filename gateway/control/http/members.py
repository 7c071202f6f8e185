"""What members and parameters may be, said once: the structs that use these validate and describe by them.

msgspec checks bounds, lengths and patterns as it reads. What stands under ``extra_json_schema`` is judged
by the domain service, which says better what is wrong. Imports its own plane.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.control.domain import LARGEST_PAGE
from gateway.control.names import LONGEST_DESCRIPTION, LONGEST_EMAIL, LONGEST_NAME
from gateway.core.durations import LONGEST_TEXT

# ``names`` refuses more than control characters, by properties that patterns of JSON Schema have no word for.
_VISIBLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_NUMBER = "([0-9]{1,18}%s)?"
_ISO_DURATION = (
    "P(?=[0-9T])"
    + "".join(_NUMBER % unit for unit in "YMWD")
    + "(T(?=[0-9])"
    + "".join(_NUMBER % unit for unit in "HM")
    + r"([0-9]{1,18}([.,][0-9]{1,3})?S)?)?"
)
_SHORT_DURATION = r"[0-9]{1,18}(\.[0-9]{1,3})?(ms|s|m|h|d|w)"

Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_NAME,
        description="Kept in NFC; no control or bidi characters, no space at either end.",
        examples=["CI pipeline"],
        extra_json_schema={"pattern": _VISIBLE},
    ),
]
"""A name for people."""

Text = Annotated[
    str,
    Meta(
        max_length=LONGEST_DESCRIPTION,
        description="Kept in NFC; no control or bidi characters.",
        examples=["Used for automated deployments"],
        extra_json_schema={"pattern": _VISIBLE},
    ),
]
"""A description for people."""

Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=LONGEST_EMAIL,
        description="An address; case is no part of it.",
        examples=["ann@example.com"],
        extra_json_schema={"pattern": "^[^@:]+@[^@:]+$"},
    ),
]
"""The address that a user logs in with."""

Id = Annotated[
    str, Meta(min_length=1, examples=["acme"], extra_json_schema={"pattern": "^[A-Za-z0-9._-]{1,64}$"})
]
"""The id of a tenant or an environment: what field lines and paths can carry."""

RoleName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=LONGEST_NAME,
        description="`viewer`, `editor`, or a role of this gateway's configuration.",
        examples=["viewer", "editor"],
    ),
]
"""What a key may do."""

Days = Annotated[int, Meta(ge=1, le=365, description="Whole days.", examples=[180])]
"""How long a key lives, in ``000``."""

Limit = Annotated[int, Meta(ge=1, le=LARGEST_PAGE, description="How many to return at most.")]
"""How long a page is."""

Cursor = Annotated[
    str, Meta(min_length=1, max_length=200, description="Those that follow this one; it is not among them.")
]
"""Where a page begins."""

Instant = Annotated[
    str,
    Meta(
        description="A date and time of RFC 3339; told in UTC.",
        examples=["2027-01-31T12:00:00Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
"""A date and time."""

Lifetime = Annotated[
    str,
    Meta(
        max_length=LONGEST_TEXT,
        description="A duration, in ISO 8601 or short.",
        examples=["P1D", "12h", "P1Y"],
        extra_json_schema={"pattern": f"^({_ISO_DURATION}|{_SHORT_DURATION})$"},
    ),
]
"""How long something lasts."""

IsoLifetime = Annotated[
    str,
    Meta(
        max_length=LONGEST_TEXT,
        description="An ISO 8601 duration.",
        examples=["PT24H", "P30D", "P1Y"],
        extra_json_schema={"pattern": f"^{_ISO_DURATION}$"},
    ),
]
"""How long something lasts, as ``003`` writes it."""

Since = Annotated[
    str,
    Meta(
        min_length=1,
        description="A date and time of RFC 3339, or a duration: so long ago.",
        examples=["24h", "2026-01-31T12:00:00Z"],
    ),
]
"""From when on."""

Url = Annotated[str, Meta(description="An absolute URL.", extra_json_schema={"format": "uri"})]
"""Where something is."""
