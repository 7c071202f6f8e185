"""Which route a host and a path mean: by host, then by the longest path prefix in whole segments.

Pure. Imports ``core`` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.core.target import PathView

PathCheck = Literal["strict", "encoded_slash", "off"]


class Route(msgspec.Struct, frozen=True):
    """One line of the routing table: where it matches, whom it lets in, where it leads.

    ``host`` None matches any host. ``credentials`` are the field names read for a credential.
    ``tenants``, ``environments`` and ``roles`` narrow who may pass; None lets every one in.
    ``read_methods`` are methods a viewer may use besides GET, HEAD and OPTIONS.
    """

    name: str
    upstream: str
    path: str = "/"
    host: str | None = None
    anonymous: bool = False
    credentials: tuple[str, ...] = ("x-api-key", "authorization")
    forward_credential: bool = False
    read_methods: frozenset[bytes] = frozenset()
    tenants: frozenset[str] | None = None
    environments: frozenset[str] | None = None
    roles: frozenset[str] | None = None
    strip_prefix: str = ""
    add_prefix: str = ""
    path_check: PathCheck = "strict"
    via: bool = True


def within(path: bytes, prefix: bytes) -> bool:
    """Tell whether ``path`` lies under ``prefix`` in whole segments; a trailing slash means nothing."""
    prefix = prefix.rstrip(b"/")
    return path.startswith(prefix) and (
        len(path) == len(prefix) or path[len(prefix) : len(prefix) + 1] == b"/"
    )


class Router:
    """The routes, ready to be matched: one look-up a path segment, however many routes there are."""

    __slots__ = ("_anywhere", "_by_host", "_depth", "_only", "routes")

    def __init__(self, routes: Sequence[Route]) -> None:
        """Take the routes; where two share host and path, the first counts."""
        self.routes = tuple(routes)
        self._by_host: dict[bytes, dict[bytes, Route]] = {}
        self._anywhere: dict[bytes, Route] = {}
        for route in routes:
            table = self._anywhere
            if route.host is not None:
                table = self._by_host.setdefault(route.host.lower().rstrip(".").encode(), {})
            table.setdefault(route.path.rstrip("/").encode(), route)
        # No prefix has more slashes, so no longer part of a path need be looked up.
        self._depth = max((route.path.rstrip("/").count("/") for route in routes), default=0)
        plain = len(routes) == 1 and not self._by_host and b"" in self._anywhere
        self._only = routes[0] if plain else None

    def match(self, host: bytes, view: PathView) -> Route | Literal[False] | None:
        """Return the route of a host (a port is ignored) and a path, or None where there is none.

        False means that the path could be read in two ways that lead to different routes, or has
        what the route's ``path_check`` refuses.
        """
        route = self._only or self._find(host, view.readings[0])
        if len(view.readings) == 1 and not view.encoded_slash and not view.unsafe:
            return route
        check = route.path_check if route is not None else "strict"
        if check == "off":
            return route
        if view.unsafe or (view.encoded_slash and check == "strict"):
            return False
        if any(self._find(host, reading) is not route for reading in view.readings):
            return False
        return route

    def _find(self, host: bytes, path: bytes) -> Route | None:
        if path.count(b"/") > self._depth:
            path = b"/".join(path.split(b"/", self._depth + 1)[:-1])
        if self._by_host:
            table = self._by_host.get(_without_port(host).lower())
            found = _longest(table, path) if table else None
            if found is not None:
                return found
        return _longest(self._anywhere, path)


def _longest(table: dict[bytes, Route], path: bytes) -> Route | None:
    """Return the route of the longest prefix of ``path`` in whole segments."""
    route = table.get(path)
    while route is None:
        cut = path.rfind(b"/")
        if cut < 0:
            return None
        path = path[:cut]
        route = table.get(path)
    return route


def _without_port(host: bytes) -> bytes:
    if host[:1] == b"[":
        return host.partition(b"]")[0] + b"]"
    # The root's dot at the end names the same host, and servers drop it (nginx does).
    return host.partition(b":")[0].rstrip(b".")
