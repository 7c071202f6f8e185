"""Put the control API together: every dialect's endpoints over one domain service.

Imports ``core`` and its own plane.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from aiohttp import web

from gateway.control.dialects.qwilt import QwiltDialect
from gateway.control.domain import DomainService
from gateway.control.http.authentication import Authentication, Logins
from gateway.control.http.endpoints import AnyEndpoint
from gateway.control.http.listener import make_control
from gateway.control.http.tiers import Tiers


def all_endpoints(service: DomainService) -> list[AnyEndpoint]:
    """Return every endpoint that the control listener serves."""
    return [*QwiltDialect(service).endpoints()]


def control_api(
    service: DomainService, logins: Logins, *, cookie: str, origins: Sequence[str], secure: bool
) -> web.Application:
    """Return the application of the control listener.

    ``cookie`` carries the console's login, for pages of ``origins`` (none: the listener's own).
    ``secure``: callers reach it by https.
    """
    return make_control(
        all_endpoints(service),
        Authentication(service, logins, cookie=cookie, origins=origins),
        Tiers(time.monotonic),
        secure=secure,
    )
