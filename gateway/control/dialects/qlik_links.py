"""Where in a list of ``003`` a page is: the order and cursor that a query names, the links that are told.

Imports its own plane and the store's words for places.
"""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web
from msgspec import UNSET, UnsetType

from gateway.control.dialects.qlik_shapes import SORTED_BY, ApiKeysQuery, Link, Links
from gateway.control.errors import Invalid
from gateway.store.listing import KeyPage, Place

AFTER, BEFORE = "startingAfter", "endingBefore"


def place_of(query: ApiKeysQuery) -> Place:
    """Return which part of the list is wanted. Raises Invalid."""
    # A + that stands in a query unencoded arrives as a blank.
    sign = query.sort[:1] if query.sort[:1] in ("+", "-", " ") else ""
    sort = query.sort[len(sign) :]
    if sort not in SORTED_BY:
        raise Invalid("sort", f"must be one of {', '.join(SORTED_BY)}, with + or - in front or none")
    return Place(
        sort=sort,
        descending=sign == "-",
        after=query.starting_after or None,
        before=query.ending_before or None,
    )


def links_of(request: web.Request, origin: str | None, page: KeyPage) -> Links:
    """Return where a page and its neighbours are, under the path and with the filters that were used.

    ``origin`` is the one that the installation is known by; None: the one that was asked.
    """
    base = f"{origin or _asked_origin(request)}{request.path}"
    said = list(request.query.items())
    filters = [(name, value) for name, value in said if name not in (AFTER, BEFORE)]

    def link(parameters: list[tuple[str, str]]) -> Link:
        return Link(f"{base}?{urlencode(parameters)}" if parameters else base)

    def beside(there: bool, cursor: str, at: int) -> Link | UnsetType:
        return link([*filters, (cursor, page.records[at].id)]) if there else UNSET

    return Links(
        self=link(said), next=beside(page.more_after, AFTER, -1), prev=beside(page.more_before, BEFORE, 0)
    )


def _asked_origin(request: web.Request) -> str:
    """Return the scheme and authority that a request names, or came to where it names none (HTTP/1.0)."""
    host = request.headers.get("Host")
    if not host:
        assert request.transport is not None
        address, port = request.transport.get_extra_info("sockname")[:2]
        host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"{request.scheme}://{host}"
