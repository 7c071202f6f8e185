"""What a gateway is configured to do, as typed and frozen values: the product of ``load_settings``.

Everything here has been checked: addresses parse, routes name upstreams that exist, durations are
seconds. Imports ``core`` only, so that every plane may be handed the slice that concerns it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.core.limits import Limits, Timeouts
from gateway.core.model import Freshness, Permission, Role
from gateway.core.policy import KeyPolicy
from gateway.core.routes import Route


class ConfigError(Exception):
    """The configuration is wrong; the text is one sentence for the operator (exit code 2)."""


class Address(msgspec.Struct, frozen=True):
    """Where to listen: ``host`` and ``port``, or the ``path`` of a Unix socket.

    ``host`` is empty for all interfaces; ``port`` 0 lets the system choose.
    """

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Target(msgspec.Struct, frozen=True):
    """One backend: plain HTTP at ``host`` and ``port``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


class Upstream(msgspec.Struct, frozen=True):
    """A named group of targets."""

    name: str
    targets: tuple[Target, ...]


class SecretText(msgspec.Struct, frozen=True):
    """A secret whose ``repr`` and ``str`` keep it."""

    reveal: str

    def __repr__(self) -> str:
        return "SecretText(***)"

    def __str__(self) -> str:
        return "***"


class Secrets(msgspec.Struct, frozen=True):
    """Where the pepper comes from: a file's path or the text itself, never both; neither: the store's own."""

    pepper_file: str | None = None
    pepper: SecretText | None = None


class Propagation(msgspec.Struct, frozen=True):
    """How soon changes must be seen, in seconds; ``fresh_s`` as given, else twice the poll and one second."""

    bound_s: float = 300.0
    poll_s: float = 2.0
    fresh_s: float = 5.0


BUILT_IN_ROLES: Mapping[str, Role] = {
    "viewer": Role("viewer", Permission.VIEWER),
    "editor": Role("editor", Permission.EDITOR),
}
SHIPPED_ROLES: Mapping[str, Role] = {
    "MediaViewer": Role("MediaViewer", Permission.VIEWER),
    "MediaEditor": Role("MediaEditor", Permission.EDITOR),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration of one gateway.

    Attributes:
        listen: where callers connect.
        ops_listen: where metrics and health are served (TCP).
        store_url: the store; None: the default location of the store's kind.
        access_log: ``stdout``, ``stderr``, ``none`` or the path of a file.
        key_policy: what holds for the keys of tenants that set nothing of their own.
        roles: every role by name, the built-in and shipped ones included.
        origins: the dotted name of each setting that is not at its default → who said so
            (``line 3 of gateway.yaml``, ``GATEWAY_LISTEN``, ``--listen``).
        file: the configuration file, if one was read.
    """

    listen: tuple[Address, ...] = (Address("0.0.0.0", 8080),)  # noqa: S104  the data port is for everyone
    ops_listen: Address = Address("127.0.0.1", 9464)
    store_url: str | None = None
    secrets: Secrets = Secrets()
    propagation: Propagation = Propagation()
    upstreams: Mapping[str, Upstream] = {}
    routes: tuple[Route, ...] = ()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    access_log: str = "stdout"
    key_policy: KeyPolicy = KeyPolicy()
    roles: Mapping[str, Role] = msgspec.field(default_factory=lambda: {**BUILT_IN_ROLES, **SHIPPED_ROLES})
    origins: Mapping[str, str] = {}
    file: str | None = None

    @property
    def freshness(self) -> Freshness:
        """Return the age rule as the decision reads it."""
        return Freshness(bound_s=self.propagation.bound_s, fresh_s=self.propagation.fresh_s)
