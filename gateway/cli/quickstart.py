"""``gateway quickstart``: a working gateway in one command, and the curl lines that show what it does."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import socket
import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.common import CliError, executable, setting_flags, settings_of, store_url
from gateway.config.document import Node
from gateway.config.routing import single_upstream
from gateway.config.settings import Address, Settings

if TYPE_CHECKING:
    from gateway.control.making import CreatedKey
    from gateway.control.service import KeyService

TENANT = "default"
KEY_NAMES = {"viewer": "quickstart-viewer", "editor": "quickstart-editor"}
LISTEN = Address("127.0.0.1", 8080)
PORTS_TRIED = 100
# A running gateway sees a change within a second; a reader who pastes all lines at once must not outrun it.
_SEEN = "sleep 1"
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a wildcard, to where it is reachable


@click.command(short_help="Serve a demo backend on loopback, with two keys to try.")
@setting_flags("--upstream", "--listen", "--control-listen", "--ops-listen")
def quickstart(**flags: Any) -> None:
    """Serve a demo backend (or --upstream) on loopback, with a viewer and an editor key to try."""
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
    from gateway import app

    for _ in range(PORTS_TRIED):
        moved, notes = with_free_ports(settings)
        try:
            return _serve_there(moved, backend, notes)
        except app.PortTakenError as error:
            taken = error
        except app.StartError as error:
            raise CliError(str(error)) from None
    raise CliError(str(taken))


def _serve_there(settings: Settings, backend: str, notes: list[str]) -> int:
    """Serve; the first keys are made when nothing can hinder that they are shown."""
    from gateway import app
    from gateway.cli.service import opened_service

    created: dict[str, CreatedKey] = {}

    async def make_keys() -> None:
        async with opened_service(settings) as service:
            created.update(await first_keys(service))

    def tell(*_: object) -> None:
        click.echo("\n".join([*notes, *_lines(settings, backend, created)]))
        sys.stdout.flush()

    return app.run(settings, on_ready=tell, prepare=make_keys)


async def first_keys(service: KeyService) -> dict[str, CreatedKey]:
    """Make the viewer and the editor key if this is the first run; otherwise nothing, and say so by it."""
    from gateway.cli.service import operator

    names = {key.name for key in await service.list_keys(tenant=TENANT)}
    if names.intersection(KEY_NAMES.values()):
        return {}
    return {
        permission: await service.create_key(operator(), tenant=TENANT, name=name, permission=permission)
        for permission, name in KEY_NAMES.items()
    }


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


def _lines(settings: Settings, backend: str, created: dict[str, CreatedKey]) -> list[str]:
    """Return what is printed once it serves: where everything is, and the lines to try."""
    targets = ", ".join(str(t) for upstream in settings.upstreams.values() for t in upstream.targets)
    lines = [
        f"gateway   {_base(settings)}",
        f"backend   {targets} ({backend})",
        f"metrics   http://{_reachable(settings.ops_listen)}/metrics",
        f"store     {store_url(settings)}",
        "",
    ]
    command = f"{executable()} keys {{}}{_same_store(settings)}"
    return lines + (_first_run(settings, created, command) if created else _later_run(settings, command))


def _first_run(settings: Settings, created: dict[str, CreatedKey], command: str) -> list[str]:
    viewer, editor = created["viewer"], created["editor"]
    url = _url(settings)
    read = f"curl -i -H 'X-API-KEY: {viewer.token}' {url}"
    return [
        "Two keys were made; they are shown this once:",
        f"  viewer  {viewer.token}",
        f"  editor  {editor.token}",
        "",
        "Try, in another terminal:",
        "# a viewer reads: 200",
        read,
        "# a viewer writes: 403",
        f"curl -i -X POST -d hello -H 'X-API-KEY: {viewer.token}' {url}",
        "# an editor writes: 200",
        f"curl -i -X POST -d hello -H 'X-API-KEY: {editor.token}' {url}",
        "# no key: 401",
        f"curl -i {url}",
        "# the viewer key is revoked: 401",
        f"{command.format('revoke --yes')} {viewer.record.id}",
        _SEEN,
        read,
    ]


def _later_run(settings: Settings, command: str) -> list[str]:
    url = _url(settings)
    create = command.format(f"create --tenant {TENANT} --name my-key --permission editor")
    return [
        "The keys of the first run go on working; a new one (viewer or editor) is made by:",
        f"KEY=$({create})",
        _SEEN,
        "",
        "Try, in that terminal:",
        "# a key reads: 200",
        f'curl -i -H "X-API-KEY: $KEY" {url}',
        "# an editor writes: 200; a viewer: 403",
        f'curl -i -X POST -d hello -H "X-API-KEY: $KEY" {url}',
        "# no key: 401",
        f"curl -i {url}",
        "# which keys there are; one is revoked, by its ID, with the line after it",
        command.format("list"),
        f"# {command.format('revoke --yes')} ID",
    ]


def _same_store(settings: Settings) -> str:
    """Return the flags by which another terminal finds the same store; none for the default place."""
    words = []
    if settings.file:
        words += ["--config", os.path.abspath(settings.file)]
    origin = settings.origins.get("store.url")
    moved = origin is None and (os.environ.get("STATE_DIRECTORY") or os.environ.get("XDG_STATE_HOME"))
    if moved or (origin is not None and not origin.startswith("line ")):
        from gateway.cli.service import checked_store

        words += ["--store", f"sqlite://{checked_store(settings).location}"]
    return f" {shlex.join(words)}" if words else ""


def _base(settings: Settings) -> str:
    address = settings.listen[0]
    return str(address) if address.path is not None else f"http://{_reachable(address)}"


def _url(settings: Settings) -> str:
    """Return a URL that a guarded route serves, as an argument of curl."""
    path = next((route.path for route in settings.routes if not route.anonymous), "/")
    address = settings.listen[0]
    if address.path is not None:
        return f"--unix-socket {shlex.quote(address.path)} http://localhost{shlex.quote(path)}"
    return f"{_base(settings)}{shlex.quote(path)}"


def _reachable(address: Address) -> Address:
    return Address(_ANYWHERE.get(address.host, address.host), address.port)
