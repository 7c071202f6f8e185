"""Put the control API together: every dialect's endpoints over one domain service.

Imports ``core`` and its own plane.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.control.dialects.audit import AuditDialect
from gateway.control.dialects.environments import EnvironmentsDialect
from gateway.control.dialects.key_permissions import KeyPermissions
from gateway.control.dialects.login import LoginDialect
from gateway.control.dialects.qlik import QlikDialect
from gateway.control.dialects.qwilt import QwiltDialect
from gateway.control.dialects.secret_key import SecretKeyDialect
from gateway.control.dialects.subjects import SubjectsDialect
from gateway.control.dialects.tenants import TenantsDialect
from gateway.control.dialects.users import UsersDialect
from gateway.control.docs.page import docs_routes
from gateway.control.domain import DomainService
from gateway.control.http.authentication import Authentication, Logins
from gateway.control.http.endpoints import AnyEndpoint
from gateway.control.http.listener import make_control
from gateway.control.http.openapi import describe, description_route
from gateway.control.http.tiers import Tiers
from gateway.control.permissions import DataPath


def all_endpoints(
    service: DomainService, data_path: DataPath | None = None, *, origin: str | None = None
) -> list[AnyEndpoint]:
    """Return every endpoint that the control listener serves; ``data_path`` as ``control_api`` has it.

    ``origin`` is what links begin with; None: the one that was asked.
    """
    return [
        *QwiltDialect(service).endpoints(),
        *QlikDialect(service, origin).endpoints(),
        *SecretKeyDialect(service).endpoints(),
        *KeyPermissions(service, data_path).endpoints(),
        *TenantsDialect(service).endpoints(),
        *EnvironmentsDialect(service).endpoints(),
        *UsersDialect(service).endpoints(),
        *SubjectsDialect(service).endpoints(),
        *AuditDialect(service).endpoints(),
    ]


def control_api(
    service: DomainService,
    logins: Logins,
    *,
    login: LoginDialect | None = None,
    cookie: str,
    origins: Sequence[str],
    secure: bool,
    data_path: DataPath | None = None,
    used: Callable[[str], None] = lambda _: None,
) -> web.Application:
    """Return the application of the control listener.

    ``login`` is where people log in; None: not here.
    ``cookie`` carries the console's login, for pages of ``origins`` (none: the listener's own; the
    first is what links begin with).
    ``secure``: callers reach it by https. ``data_path`` is what serves beside it; None: nothing does.
    ``used`` is told the id of each key that is used here.
    """
    endpoints = [
        *(login.endpoints() if login is not None else ()),
        *all_endpoints(service, data_path, origin=next(iter(origins), None)),
    ]
    description = describe(endpoints, cookie=cookie, server=next(iter(origins), None))
    return make_control(
        endpoints,
        Authentication(service, logins, cookie=cookie, origins=origins, used=used),
        Tiers(time.monotonic),
        secure=secure,
        plain=[description_route(description), *docs_routes()],
    )
