"""Which route a host and a path mean: by host, then by the longest path prefix in whole segments.

Pure. Imports ``core`` only.
"""

from __future__ import annotations

from typing import Literal

import msgspec

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
