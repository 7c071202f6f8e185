"""Bind what is listened on, before anything else may go wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

import msgspec

from gateway.app.control import control_url
from gateway.app.errors import PortTakenError, StartError
from gateway.config.settings import Address, Settings
from gateway.dataplane.listeners import (
    bind_tcp_shares,
    bind_unix,
    connection_room,
    open_files_max,
    turn_away,
)

_SUPERVISOR_FILES = 64
"""What the process that starts the workers opens besides the listening sockets and a socket for each."""


class Listeners(msgspec.Struct, frozen=True):
    """The bound sockets.

    Attributes:
        data: for callers; of each address either a socket for each worker, or one for all.
        ops: for metrics and health.
        control: for the control API, unless it is off.
        paths: where in the file system callers find a socket; each is removed once.
    """

    data: list[list[socket.socket]]
    ops: socket.socket
    control: socket.socket | None
    paths: list[str]

    def turn_away(self) -> None:
        """Let no further caller begin to connect; those who have begun are for the workers to take in."""
        for shares in self.data:
            for listener in shares:
                turn_away(listener)
        self.remove_paths()

    def remove_paths(self) -> None:
        """Remove the sockets from the file system; safe to call twice, for another may be there by then."""
        while self.paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.paths.pop())


def all_bound(settings: Settings, workers: int, stack: contextlib.ExitStack) -> Listeners:
    """Bind what is listened on, until ``stack`` ends. Raises StartError, PortTakenError."""

    def lent(address: Address, count: int = 1) -> list[socket.socket]:
        return [stack.enter_context(listener) for listener in bound(address, count)]

    control = settings.control.listen
    listeners = Listeners(
        data=[lent(address, workers) for address in settings.listen],
        ops=lent(settings.ops_listen)[0],
        control=lent(control)[0] if control is not None else None,
        paths=[address.path for address in settings.listen if address.path is not None],
    )
    stack.callback(listeners.remove_paths)
    return listeners


def bound(address: Address, count: int) -> list[socket.socket]:
    """Return ``count`` listening sockets on one address, or one where they cannot share it.

    Raises StartError, PortTakenError where somebody has the port.
    """
    try:
        if address.path is not None:
            return [bind_unix(address.path)]
        return bind_tcp_shares(address.host, address.port, count)
    except OSError as error:
        kind = PortTakenError if error.errno == errno.EADDRINUSE else StartError
        raise kind(f"cannot listen on {address}: {error.strerror or error}") from None


def bound_address(listener: socket.socket) -> Address:
    """Return where a socket really listens."""
    name = listener.getsockname()
    return Address(host=name[0], port=name[1]) if isinstance(name, tuple) else Address(path=name)


def served_at(settings: Settings, listeners: Listeners, location: str) -> list[str]:
    """Return where everything is, a line each; ``location`` is the store's."""
    lines = [f"listening on {bound_address(shares[0])}" for shares in listeners.data]
    lines.append(f"metrics and health on {bound_address(listeners.ops)}")
    if listeners.control is not None:
        lines.append(f"control API at {control_url(settings.control, listeners.control)}")
    return [*lines, f"keys in {location}"]


def within_open_files(settings: Settings, workers: int) -> tuple[Settings, list[str]]:
    """Return the settings with no more connections than files can be open, and a note where these bind.

    Raises StartError where not even the workers can be started.
    """
    listeners = workers * len(settings.listen)
    needed, most = listeners + workers + _SUPERVISOR_FILES, open_files_max()
    if workers > 1 and needed > most:
        raise StartError(
            f"{workers} workers need {needed} open files, and the limit is {most}: raise it, or start fewer"
        )
    # The limit is each process's own.
    room, wanted = connection_room(listeners) * workers, settings.limits.connections
    if wanted <= room:
        return settings, []
    limits = msgspec.structs.replace(settings.limits, connections=room)
    note = f"at most {room} connections at once, not {wanted}: the limit of open files is low"
    return msgspec.structs.replace(settings, limits=limits), [note]
