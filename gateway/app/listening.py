"""Bind what is listened on, before anything else may go wrong."""

from __future__ import annotations

import contextlib
import errno
import socket

import msgspec

from gateway.app.control import control_url
from gateway.app.errors import PortTakenError, StartError
from gateway.config.settings import Address, Settings
from gateway.dataplane.listeners import bind_tcp, bind_unix, connection_room
from gateway.store.base import Store


class Listeners(msgspec.Struct, frozen=True):
    """The bound sockets: for callers, for metrics and health, for the control API unless it is off."""

    data: list[socket.socket]
    ops: socket.socket
    control: socket.socket | None


def all_bound(settings: Settings, stack: contextlib.ExitStack) -> Listeners:
    """Bind what is listened on, until ``stack`` ends. Raises StartError, PortTakenError."""

    def lent(address: Address) -> socket.socket:
        return stack.enter_context(bound(address))

    control = settings.control.listen
    return Listeners(
        data=[lent(address) for address in settings.listen],
        ops=lent(settings.ops_listen),
        control=lent(control) if control is not None else None,
    )


def bound(address: Address) -> socket.socket:
    """Return a listening socket. Raises StartError, PortTakenError where somebody has the port."""
    try:
        return bind_unix(address.path) if address.path is not None else bind_tcp(address.host, address.port)
    except OSError as error:
        kind = PortTakenError if error.errno == errno.EADDRINUSE else StartError
        raise kind(f"cannot listen on {address}: {error.strerror or error}") from None


def bound_address(listener: socket.socket) -> Address:
    """Return where a socket really listens."""
    name = listener.getsockname()
    return Address(host=name[0], port=name[1]) if isinstance(name, tuple) else Address(path=name)


def served_at(settings: Settings, listeners: Listeners, store: Store) -> list[str]:
    """Return where everything is, a line each."""
    lines = [f"listening on {bound_address(listener)}" for listener in listeners.data]
    lines.append(f"metrics and health on {bound_address(listeners.ops)}")
    if listeners.control is not None:
        lines.append(f"control API at {control_url(settings.control, listeners.control)}")
    return [*lines, f"keys in {store.location}"]


def within_open_files(settings: Settings) -> tuple[Settings, list[str]]:
    """Return the settings with no more connections than files can be open, and a note where these bind."""
    room, wanted = connection_room(), settings.limits.connections
    if wanted <= room:
        return settings, []
    limits = msgspec.structs.replace(settings.limits, connections=room)
    note = f"at most {room} connections at once, not {wanted}: the limit of open files is low"
    return msgspec.structs.replace(settings, limits=limits), [note]
