"""What a gateway is configured to do, as typed and frozen values: the product of ``load_settings``.

Everything here has been checked: addresses parse, routes name upstreams that exist, durations are
seconds. Imports ``core`` only, so that every plane may be handed the slice that concerns it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from gateway.core.limits import Limits, Timeouts
from gateway.core.model import Freshness, Permission, Role
from gateway.core.policy import KeyPolicy
from gateway.core.routes import Route

AUTO = "auto"
MOST_WORKERS = 64
"""More event loops than this share no machine well; larger ones run several gateways."""


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

    @property
    def on_loopback(self) -> bool:
        """Tell whether only this machine can connect: a Unix socket, or what ``is_loopback``."""
        return self.path is not None or is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine itself: ``localhost`` (RFC 6761 §6.3), 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


class TlsFiles(msgspec.Struct, frozen=True):
    """The PEM files of a certificate chain and of its private key, by path."""

    cert: str
    key: str


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """Where keys are managed.

    Attributes:
        listen: the control listener (TCP); None: off.
        public_url: the origin under which people and clients reach it, such as
            ``https://keys.example.com``, in its serialized form (RFC 6454 §6.2); None: not said.
        allow_plaintext: it may listen beyond loopback without TLS.
        tls: what it shows itself with; None: it speaks plain HTTP.
    """

    listen: Address | None = Address("127.0.0.1", 8081)
    public_url: str | None = None
    allow_plaintext: bool = False
    tls: TlsFiles | None = None

    @property
    def issuer(self) -> str:
        """Return what this gateway's own tokens say in ``iss`` (RFC 7519 §4.1.1)."""
        return self.public_url or "gateway"


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """How long a login lasts, and the cookie that carries it (RFC 6265 §4.1)."""

    token_ttl_s: float = 3600.0
    cookie: str = "cqloudLoginToken"
    cookie_domain: str | None = None
    cookie_max_age_s: float = 21600.0


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """An external issuer whose tokens are taken (OpenID Connect Core 1.0 §2, §10.1).

    Attributes:
        issuer: what its tokens say in ``iss``, to the letter; holds no ``|``, so that
            ``<issuer>|<sub>`` names one subject.
        jwks_url: where its public keys are: https, or http on loopback.
        audience: what must stand in ``aud``.
        algorithms: the JWS algorithms that it may use, all asymmetric.
        tenant_claim: the claim that names the tenant.
        role_claim: the claim that ``roles`` reads, one text or a list.
        roles: a value of that claim → a role that is configured or built in, in the file's order.
    """

    issuer: str
    jwks_url: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256",)
    tenant_claim: str
    role_claim: str
    roles: Mapping[str, str]


SHORTEST_ANSWER_S = 0.5
LONGEST_ANSWER_S = 3.0


class Propagation(msgspec.Struct, frozen=True):
    """How soon changes must be seen, in seconds; ``fresh_s`` as given, else twice the poll and one second.

    ``outage_grace_s`` prolongs the bound while the store is out. ``kept_table`` is the path of the file
    that the table is kept in, for a start while the store is out; None: it is not.
    """

    bound_s: float = 300.0
    poll_s: float = 2.0
    fresh_s: float = 5.0
    outage_grace_s: float = 0.0
    kept_table: str | None = None

    @property
    def answer_s(self) -> float:
        """Return how long the store may take to answer: a connection that swallows all is then given up.

        Asked every ``poll_s``, the table is about as old as ``fresh_s`` by then.
        """
        return min(max(self.fresh_s - self.poll_s, SHORTEST_ANSWER_S), LONGEST_ANSWER_S)


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
        workers: how many processes serve callers; ``auto``: as many as there are cores for them.
        access_log: ``stdout``, ``stderr``, ``none`` or the path of a file.
        key_policy: what holds for the keys of tenants that set nothing of their own.
        roles: every role by name, the built-in and shipped ones included.
        issuers: the external issuers whose tokens are taken.
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
    workers: int | str = 1
    access_log: str = "stdout"
    control: Control = Control()
    login: Login = Login()
    issuers: tuple[Issuer, ...] = ()
    key_policy: KeyPolicy = KeyPolicy()
    roles: Mapping[str, Role] = msgspec.field(default_factory=lambda: {**BUILT_IN_ROLES, **SHIPPED_ROLES})
    origins: Mapping[str, str] = {}
    file: str | None = None

    @property
    def freshness(self) -> Freshness:
        """Return the age rule as the decision reads it."""
        propagation = self.propagation
        return Freshness(propagation.bound_s, propagation.fresh_s, propagation.outage_grace_s)
