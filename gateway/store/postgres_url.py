"""What a ``postgresql:`` URL says: where the database is, who asks, and how the connection is secured.

The forms are libpq's. What the URL leaves out is taken where libpq takes it: ``PGPASSWORD``,
``PGPASSFILE``, ``~/.pgpass`` and ``PGSSLMODE`` among others. Imports ``store`` only.
"""

from __future__ import annotations

import difflib
import getpass
import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from gateway.store.base import StoreUrlError

SCHEMES = ("postgresql", "postgres")
FORM = "postgresql://user@host:5432/database"
DEFAULT_PORT = 5432

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_PARAMETERS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
# A gateway needs a server that takes writes, whether or not the URL asks for it.
_SESSION_ATTRIBUTES = ("primary", "read-write")
_PARAMETERS = (*_TLS_PARAMETERS, "passfile", "host", "port", "application_name", "target_session_attrs")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]*)(?::(.*))?")


class Host(msgspec.Struct, frozen=True):
    """Where one server is: a name, an address or a socket's directory; without a port the usual one."""

    name: str
    port: int | None

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


class PostgresUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A checked URL.

    Attributes:
        hosts: where to look for the server that takes writes, in order; empty: where libpq looks.
        password: as the URL says it; None: from where libpq takes one.
        tls: the parameters of TLS, as libpq names them.
        location: the URL for people, without secrets.
    """

    hosts: tuple[Host, ...]
    user: str
    password: str | None
    database: str | None
    passfile: str | None
    tls: dict[str, str]
    application_name: str
    location: str

    def __repr__(self) -> str:
        return f"PostgresUrl({self.location!r})"

    @property
    def tls_dsn(self) -> str:
        """Return a connection string that says nothing but the parameters of TLS."""
        return f"postgresql://?{urlencode(self.tls)}" if self.tls else "postgresql://"


def parse_postgres_url(url: str) -> PostgresUrl:
    """Return what a URL says. Raises StoreUrlError, one sentence without secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a [ without its ]
        raise StoreUrlError(f"the store URL has not the form {FORM}") from None
    if (
        re.search(r"[\x00-\x20\x7f]", url)
        or parts.scheme not in SCHEMES
        or not url.startswith(f"{parts.scheme}://")
    ):
        raise StoreUrlError(f"the store URL has not the form {FORM}")
    # A password whose '/', '?' or '#' is not encoded breaks off there: what follows must not be taken, nor
    # told, for the name of anything.
    if "#" in url or "@" in parts.path + parts.query or "/" in parts.path[1:]:
        raise StoreUrlError(
            "the store URL is ambiguous: in the name of a user or a database and in a password write"
            " / as %2F, ? as %3F, # as %23 and @ as %40"
        )
    said = _parameters(parts.query)
    credentials, _, places = parts.netloc.rpartition("@")
    user, colon, password = credentials.partition(":")
    hosts = _hosts(places, said)
    database = unquote(parts.path.removeprefix("/")) or None
    found = PostgresUrl(
        hosts=hosts,
        user=unquote(user) or os.environ.get("PGUSER") or _account(),
        password=unquote(password) if colon and password else None,
        database=database,
        passfile=said.get("passfile"),
        tls={name: said[name] for name in _TLS_PARAMETERS if name in said},
        application_name=said.get("application_name", "gateway"),
        location="",
    )
    return msgspec.structs.replace(found, location=_location(found))


def _location(url: PostgresUrl) -> str:
    places = ",".join(map(str, url.hosts)) or os.environ.get("PGHOST") or "localhost"
    database = url.database or os.environ.get("PGDATABASE") or url.user
    return f"postgresql://{url.user}@{places}/{database}"


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise StoreUrlError("what follows '?' in the store URL must be name=value, joined by '&'") from None
    said: dict[str, str] = {}
    for name, value in pairs:
        if name not in _PARAMETERS:
            near = difflib.get_close_matches(name, _PARAMETERS, n=1, cutoff=0.0)[0]
            raise StoreUrlError(f"the store URL has no parameter `{name}`; the nearest is `{near}`")
        if name in said:
            raise StoreUrlError(f"the store URL says `{name}` twice")
        if not value:
            raise StoreUrlError(f"the store URL says nothing for `{name}`: leave it out or give it a value")
        said[name] = value
    for name, known in (("sslmode", SSL_MODES), ("target_session_attrs", _SESSION_ATTRIBUTES)):
        if said.get(name, known[0]) not in known:
            raise StoreUrlError(f"`{name}` of the store URL must be one of {', '.join(known)}")
    return said


def _hosts(places: str, said: Mapping[str, str]) -> tuple[Host, ...]:
    if places and "host" in said:
        raise StoreUrlError("the store URL names hosts twice: before the path and as `host`")
    if places:
        if "port" in said:
            raise StoreUrlError("the store URL names hosts before the path: put the port there too")
        return tuple(_host(place) for place in places.split(","))
    names = said["host"].split(",") if "host" in said else []
    ports = [_port(text) for text in said["port"].split(",")] if "port" in said else [None]
    if len(ports) not in (1, len(names)):
        raise StoreUrlError(f"the store URL names {len(names)} hosts and {len(ports)} ports")
    if not names:
        return (Host("localhost", ports[0]),) if "port" in said else ()
    return tuple(Host(_name(n), p) for n, p in zip(names, ports * len(names), strict=False))


def _host(place: str) -> Host:
    found = _HOST.fullmatch(place)
    if found is None or not found[1]:
        raise StoreUrlError(f"the store URL has not the form {FORM}: `host`, `host:port` or `[v6]:port`")
    return Host(_name(unquote(found[1]).strip("[]")), None if found[2] is None else _port(found[2]))


def _name(name: str) -> str:
    if not name or re.search(r"[\x00-\x20\x7f,]", name):
        raise StoreUrlError("the store URL names a host that can be none")
    return name


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536):
        raise StoreUrlError("the port in the store URL must be a number from 1 to 65535")
    return int(text)


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # containers run as users whom nobody has listed
        raise StoreUrlError(f"the store URL names no user: write {FORM}") from None
