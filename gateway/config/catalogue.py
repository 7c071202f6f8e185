"""Every name that a configuration may use: the one list behind file, environment, flags, show and schema.

Names whose subject does not exist in this version are listed too, so that they are refused for what
they are and not as misspellings. Imports ``core`` and this package's lower modules.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.config.control import COOKIE, DOMAIN, LISTEN, PUBLIC_URL
from gateway.config.document import Node
from gateway.config.kinds import (
    ADDRESS,
    ADDRESSES,
    LIFETIME,
    PEPPERS,
    STORE_URL,
    SWITCH,
    Kind,
    duration,
    one_text,
    unsupported,
    whole,
    whole_or,
)
from gateway.config.settings import AUTO, MOST_WORKERS, Settings
from gateway.core.limits import Limits, Timeouts
from gateway.core.policy import MOST_KEYS_PER_USER, KeyPolicy

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
MOST_GRACE = 7 * DAY
"""A long weekend without anybody to mend the store; past it the keys of a table say little."""


class Setting(NamedTuple):
    """One setting outside upstreams, routes, roles and issuers.

    ``name`` is its dotted path, ``doc`` one line for people. Where ``default`` is None, null may be
    said for it. ``flag`` is the command-line flag that
    says the same, ``variables`` further environment variables. A ``secret`` may also be said as
    ``…_FILE`` and is masked; ``in_file`` is false for what does not belong in a file.
    """

    name: str
    kind: Kind
    default: Any
    doc: str
    flag: str = ""
    variables: tuple[str, ...] = ()
    secret: bool = False
    in_file: bool = True

    @property
    def names_in_environment(self) -> tuple[str, ...]:
        """Return every environment variable that says this setting."""
        spelled = (variable_of(self.name),) if self.in_file else ()
        return (*spelled, *((flag_variable(self.flag),) if self.flag else ()), *self.variables)


def variable_of(name: str) -> str:
    """Return the environment variable of a dotted name: ``timeouts.head`` is GATEWAY_TIMEOUTS__HEAD."""
    return "GATEWAY_" + name.replace(".", "__").upper()


def flag_variable(flag: str) -> str:
    """Return the environment variable of a flag: ``--ops-listen`` is GATEWAY_OPS_LISTEN."""
    return "GATEWAY_" + flag.removeprefix("--").replace("-", "_").upper()


_DEFAULT = Settings()


def _limit(name: str, kind: Kind, doc: str) -> Setting:
    return Setting(f"limits.{name}", kind, getattr(Limits(), name), doc)


def _timeout(name: str, doc: str, *, least: float = 0.01, most: float = DAY) -> Setting:
    return Setting(f"timeouts.{name}", duration(least, most), getattr(Timeouts(), name), doc)


def _policy(name: str, kind: Kind, doc: str) -> Setting:
    return Setting(f"key_policy.{name}", kind, getattr(KeyPolicy(), name), doc)


def _login(name: str, kind: Kind, default: Any, doc: str) -> Setting:
    return Setting(f"login.{name}", kind, default, doc)


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "listen",
        ADDRESSES,
        _DEFAULT.listen,
        "where callers connect: host:port, [v6]:port, :port, unix:/path, or a list",
        flag="--listen",
    ),
    Setting(
        "ops.listen", ADDRESS, _DEFAULT.ops_listen, "metrics and health, for you alone", flag="--ops-listen"
    ),
    Setting(
        "control.listen",
        LISTEN,
        _DEFAULT.control.listen,
        "where keys are managed and people log in; null: nowhere",
        flag="--control-listen",
    ),
    Setting(
        "control.public_url",
        PUBLIC_URL,
        None,
        "the https origin under which people and clients reach it; the issuer of login tokens",
    ),
    Setting(
        "control.allow_plaintext",
        SWITCH,
        _DEFAULT.control.allow_plaintext,
        "true: it may listen beyond loopback without TLS",
    ),
    Setting("control.tls.cert", one_text("a file's path"), None, "its certificate chain, PEM"),
    Setting("control.tls.key", one_text("a file's path"), None, "the private key of the certificate, PEM"),
    _login("token_ttl", duration(MINUTE, DAY), _DEFAULT.login.token_ttl_s, "how long a login token lives"),
    _login("cookie", COOKIE, _DEFAULT.login.cookie, "the name of the cookie that carries a login token"),
    _login("cookie_domain", DOMAIN, None, "hosts that the cookie is sent to; null: this one alone"),
    _login(
        "cookie_max_age",
        duration(MINUTE, 30 * DAY),
        _DEFAULT.login.cookie_max_age_s,
        "how long a browser keeps the cookie",
    ),
    Setting(
        "store.url",
        STORE_URL,
        None,
        "where keys are kept; null: gateway.db in the state directory",
        flag="--store",
        secret=True,
    ),
    Setting(
        "secrets.pepper_file",
        one_text("a file's path"),
        None,
        "the file that holds the peppers, one a line, newest first; unset: made beside the SQLite file",
        variables=("GATEWAY_PEPPER_FILE",),
    ),
    Setting(
        "secrets.pepper",
        PEPPERS,
        None,
        "the peppers themselves, one a line, newest first; by environment alone",
        variables=("GATEWAY_PEPPER",),
        in_file=False,
    ),
    Setting(
        "propagation.bound",
        duration(1, 300),
        300.0,
        "how old the key table may be before known keys are refused",
    ),
    Setting("propagation.poll", duration(0.1, 60), 2.0, "how often a silent store is asked for changes"),
    Setting(
        "propagation.fresh",
        duration(0.5, 300),
        None,
        "how old it may be to call a key unknown; null: 2 x poll + 1 s",
    ),
    Setting(
        "propagation.outage_grace",
        duration(0, MOST_GRACE),
        0.0,
        "how much longer known keys are served while the store is out, though revoked meanwhile",
    ),
    Setting(
        "propagation.kept_table",
        one_text("a file's path"),
        None,
        "the file that the key table is kept in, to start with while the store is out; null: none",
    ),
    _policy("api_keys_enabled", SWITCH, "false: no key is made, existing ones are refused"),
    _policy("max_keys_per_user", whole(0, MOST_KEYS_PER_USER), "active keys that a user may have made"),
    _policy("max_api_key_expiry", LIFETIME, "the longest that a new key may live; a calendar year at most"),
    _limit("head_bytes", whole(1024, 1 << 20), "bytes from the request line to the blank line"),
    _limit("header_lines", whole(1, 10000), "field lines of a request"),
    _limit("target_bytes", whole(16, 1 << 20), "bytes of a request target"),
    _limit("body_bytes", whole(0, 10**18), "bytes of a request body; null: no limit"),
    _limit("connections", whole(1, 10**6), "callers' connections at once"),
    _timeout("head", "a request head must be whole"),
    _timeout("keep_alive", "an idle connection of a caller is closed"),
    _timeout("body_stall", "a caller that owes body bytes, or does not read, is let go"),
    _timeout("response_head", "a backend must begin its response, from the last request byte"),
    _timeout("response_stall", "a backend may be silent in mid-response"),
    _timeout("connect", "a backend must accept a connection"),
    _timeout("upstream_idle", "an idle connection to a backend is closed; keep it below the backend's own"),
    _timeout("drain_delay", "after SIGTERM, connections are still accepted", least=0, most=HOUR),
    _timeout("drain", "then, requests in progress may finish", least=0),
    Setting(
        "workers",
        whole_or(AUTO, 1, MOST_WORKERS),
        _DEFAULT.workers,
        "processes that serve callers; auto: as many as there are cores for them",
        flag="--workers",
    ),
    Setting(
        "access_log.path",
        one_text("stdout, stderr, none or a file's path"),
        _DEFAULT.access_log,
        "stdout, stderr, none or a file",
    ),
)

# Known, and nothing acts on them yet. A value that leaves the subject off is let through.
UNSUPPORTED: dict[str, frozenset[str]] = {
    "timeouts.tunnel_idle": frozenset(),
    "authz.listen": frozenset(),
    "trusted_proxies": frozenset(),
    "tls": frozenset(),
}
UNSUPPORTED_FLAGS: dict[str, str] = {}

BY_NAME = {setting.name: setting for setting in SETTINGS}
GROUPS = ("upstreams", "routes", "roles", "issuers")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name most like ``name``, in whatever case."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    return by_lower[difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.0)[0]]


def refuse_unsupported(name: str, node: Node) -> None:
    """Raise ConfigError unless ``node`` leaves the subject of the unbuilt setting ``name`` off."""
    off = node.value is None or node.value == [] or node.value == {}
    harmless = UNSUPPORTED[name]
    if not off and not (isinstance(node.value, str) and node.value in harmless):
        unsupported(f"{name} other than {min(harmless)}" if harmless else name, node)
