"""``gateway quickstart``: a working gateway in one command, and the curl lines that show what it does."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.common import CliError, setting_flags, settings_of
from gateway.cli.quickstart_lines import ADMIN, TENANT, Made, lines_to_try
from gateway.config.document import Node
from gateway.config.routing import single_upstream
from gateway.config.settings import Address, Settings

if TYPE_CHECKING:
    from gateway.control.service import KeyService

KEY_NAMES = {"viewer": "quickstart-viewer", "editor": "quickstart-editor"}
LISTEN = Address("127.0.0.1", 8080)
PORTS_TRIED = 100


@click.command(short_help="Serve a demo backend on loopback, with two keys to try.")
@setting_flags("--upstream", "--listen", "--control-listen", "--ops-listen")
def quickstart(**flags: Any) -> None:
    """Serve a demo backend (or --upstream) on loopback, with two keys and an admin to try."""
    settings = settings_of(flags)
    if "listen" not in settings.origins:
        settings = msgspec.structs.replace(settings, listen=(LISTEN,))
    with contextlib.ExitStack() as stack:
        backend = "your upstream"
        if not settings.upstreams:
            from gateway.cli.demo import DemoBackend

            demo = stack.enter_context(DemoBackend())
            upstreams, routes = single_upstream(Node(demo.url, "quickstart"))
            settings = msgspec.structs.replace(settings, upstreams=upstreams, routes=routes)
            backend = "a built-in demo"
        code = _serve(settings, backend)
    sys.exit(code)


def _serve(settings: Settings, backend: str) -> int:
    """Serve on ports that are free; when somebody is quicker to take one, look again."""
    from gateway.app.errors import PortTakenError, StartError

    for _ in range(PORTS_TRIED):
        moved, notes = with_free_ports(settings)
        try:
            return _serve_there(moved, backend, notes)
        except PortTakenError as error:
            taken = error
        except StartError as error:
            raise CliError(str(error)) from None
    raise CliError(str(taken))


def _serve_there(settings: Settings, backend: str, notes: list[str]) -> int:
    """Serve; the first keys are made when nothing can hinder that they are shown."""
    from gateway.app.running import run
    from gateway.cli.service import opened_service

    made = Made()

    async def make_first() -> None:
        nonlocal made
        async with opened_service(settings) as service:
            made = await first_run(service, wants_admin=settings.control.listen is not None)

    def tell(*_: object) -> None:
        click.echo("\n".join([*notes, *lines_to_try(settings, backend, made)]))
        sys.stdout.flush()

    return run(settings, on_ready=tell, prepare=make_first)


async def first_run(service: KeyService, *, wants_admin: bool) -> Made:
    """Make what the first run makes, unless it was made before: two keys, and an admin where nobody is."""
    from gateway.cli.service import operator

    keys, password = {}, None
    names = {key.name for key in await service.list_keys(tenant=TENANT)}
    if not names.intersection(KEY_NAMES.values()):
        for permission, name in KEY_NAMES.items():
            keys[permission] = await service.create_key(
                operator(), tenant=TENANT, name=name, permission=permission
            )
    if wants_admin and not await service.list_users():
        password = await _made_admin(service)
    return Made(keys=keys, password=password)


async def _made_admin(service: KeyService) -> str | None:
    """Make the admin and return the password; None where another quickstart was quicker."""
    from gateway.cli.service import operator
    from gateway.control.errors import Conflict

    password = secrets.token_urlsafe(12)
    try:
        await service.add_user(operator(), ADMIN, tenant=TENANT, role="admin", password=password)
    except Conflict:
        return None
    return password


def with_free_ports(settings: Settings) -> tuple[Settings, list[str]]:
    """Return the settings on ports that are free now, and a note for each that had to move."""
    notes: list[str] = []
    taken: set[int] = set()
    listen = tuple(_free(address, taken, notes) for address in settings.listen)
    ops = _free(settings.ops_listen, taken, notes)
    control = settings.control
    if control.listen is not None:
        control = msgspec.structs.replace(control, listen=_free(control.listen, taken, notes))
    return msgspec.structs.replace(settings, listen=listen, ops_listen=ops, control=control), notes


def _free(address: Address, taken: set[int], notes: list[str]) -> Address:
    """Return ``address``, or the same host with the next port that nobody has."""
    if address.path is not None:
        return address
    for port in range(address.port, min(address.port + PORTS_TRIED, 65536)):
        free = port not in taken and _bound_port(address.host, port)
        if not free:
            continue
        taken.add(free)
        if address.port and free != address.port:
            notes.append(f"port {address.port} is taken; the next free one is {free}")
        return Address(address.host, free)
    raise CliError(f"no free port from {address} on, in {PORTS_TRIED} tries")


def _bound_port(host: str, port: int) -> int:
    """Bind and let go; return the port, 0 when somebody has it. Raises CliError when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is free
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return 0
            raise CliError(f"cannot listen on {Address(host, port)}: {error.strerror or error}") from None
        bound: int = probe.getsockname()[1]
        return bound
