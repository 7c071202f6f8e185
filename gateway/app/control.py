"""Build and serve the control listener of a gateway."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

from gateway.app.errors import StartError, StoreOutError
from gateway.app.store_clock import clock_of
from gateway.app.tls import control_tls
from gateway.app.usage import UsageWriter
from gateway.config.settings import Control, Login, Settings
from gateway.control.assembly import control_api
from gateway.control.cold import ColdKeys, cold_pool
from gateway.control.dialects.login import LoginDialect
from gateway.control.dialects.login_shapes import CookieForm
from gateway.control.domain import DomainService
from gateway.control.errors import Conflict
from gateway.control.http.serving import serve
from gateway.control.login import LoginService
from gateway.control.passwords import Argon2Pool, login_pool
from gateway.control.permissions import DataPath
from gateway.control.signing import Signing
from gateway.core.model import MILLISECONDS
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.store.base import Store, StoreError

SHUTDOWN_S = 5.0


async def serve_control(
    settings: Settings,
    store: Store,
    digester: Digester,
    listener: socket.socket,
    data_path: DataPath,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Serve the control API on a bound socket until ``stack`` ends. Raises StartError."""
    tls = control_tls(settings.control, stack)
    try:
        clock = await clock_of(store, stack)
        signing = Signing(
            store,
            digester,
            settings.key_policy,
            clock,
            issuer=settings.control.issuer,
            token_ttl_ms=int(settings.login.token_ttl_s * MILLISECONDS),
        )
        await signing.start()
    except StoreError as error:
        raise StoreOutError(str(error)) from None
    except Conflict as error:
        raise StartError(str(error)) from None
    makers, checkers, provers = Argon2Pool(), login_pool(), cold_pool()
    service = DomainService(
        store, digester, makers, settings.roles, settings.key_policy, clock, signing=signing
    )
    service.cold = ColdKeys(store, digester, provers)
    logins = LoginService(store, digester, service, signing, checkers)
    stack.push_async_callback(logins.close)
    # Before the logins: what waits for its hash is cancelled, and has nothing to wait for.
    stack.callback(checkers.close)
    stack.callback(makers.close)
    stack.callback(provers.close)
    api = control_api(
        service,
        logins,
        login=LoginDialect(service, logins, signing, _cookie(settings.login)),
        cookie=settings.login.cookie,
        origins=_origins(settings.control),
        secure=_is_https(settings.control),
        data_path=data_path,
        used=_written_behind(store, service, stack),
    )
    runner = await serve(api, listener, "gateway.control", tls=tls, shutdown_s=SHUTDOWN_S)
    stack.push_async_callback(runner.cleanup)


def _written_behind(
    store: Store, service: DomainService, stack: contextlib.AsyncExitStack
) -> Callable[[str], None]:
    """Return what is to be told the id of each key that is used here; it is written behind."""
    used: set[str] = set()
    usage = UsageWriter(store, lambda: [used.pop() for _ in range(len(used))], service.now_ms, boot_clock)
    usage.start()
    stack.push_async_callback(usage.stop)
    return used.add


def control_url(control: Control, listener: socket.socket) -> str:
    """Return where people reach the control API."""
    if control.public_url:
        return control.public_url
    host, port = listener.getsockname()[:2]
    scheme = "https" if control.tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _cookie(login: Login) -> CookieForm:
    return CookieForm(login.cookie, int(login.cookie_max_age_s), login.cookie_domain)


def _origins(control: Control) -> tuple[str, ...]:
    return (control.public_url,) if control.public_url else ()


def _is_https(control: Control) -> bool:
    return control.tls is not None or (control.public_url or "").startswith("https:")
