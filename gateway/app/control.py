"""Build and serve the control listener of a gateway."""

from __future__ import annotations

import contextlib
import socket

from gateway.config.settings import Control, Settings
from gateway.control.assembly import control_api
from gateway.control.domain import DomainService
from gateway.control.errors import Unauthenticated
from gateway.control.grants import Principal
from gateway.control.http.endpoints import Session
from gateway.control.http.serving import serve
from gateway.control.passwords import Argon2Pool
from gateway.control.permissions import DataPath
from gateway.core.refusals import Reason
from gateway.core.tokens import Digester
from gateway.store.base import Store

SHUTDOWN_S = 5.0


class _NoLogins:
    async def session_of(self, token: str) -> tuple[Principal, Session]:
        raise Unauthenticated(Reason.TOKEN_INVALID)

    def csrf_token(self, jti: str) -> str:
        return ""


async def serve_control(
    settings: Settings,
    store: Store,
    digester: Digester,
    listener: socket.socket,
    data_path: DataPath,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Serve the control API on a bound socket until ``stack`` ends. Raises StartError."""
    hasher = Argon2Pool()
    stack.callback(hasher.close)
    service = DomainService(store, digester, hasher, settings.roles, settings.key_policy)
    api = control_api(
        service,
        _NoLogins(),
        cookie=settings.login.cookie,
        origins=_origins(settings.control),
        secure=_is_https(settings.control),
        data_path=data_path,
    )
    runner = await serve(api, listener, "gateway.control", shutdown_s=SHUTDOWN_S)
    stack.push_async_callback(runner.cleanup)


def control_url(control: Control, listener: socket.socket) -> str:
    """Return where people reach the control API."""
    if control.public_url:
        return control.public_url
    host, port = listener.getsockname()[:2]
    scheme = "https" if control.tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _origins(control: Control) -> tuple[str, ...]:
    return (control.public_url,) if control.public_url else ()


def _is_https(control: Control) -> bool:
    return control.tls is not None or (control.public_url or "").startswith("https:")
