"""Which store a URL names, and which one is meant when none is named. Imports ``store`` only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.store.base import Store, StoreUrlError
from gateway.store.postgres_url import FORM, SCHEMES
from gateway.store.sqlite import SqliteStore

_SQLITE_FORMS = "use sqlite:///absolute/path.db or sqlite:relative.db"
_FORMS = f"{_SQLITE_FORMS}, or {FORM}"


def default_store_url(environ: Mapping[str, str]) -> str:
    """Return the URL of the store that is meant when none is named.

    ``$STATE_DIRECTORY/gateway.db`` (systemd: the first of several), else
    ``$XDG_STATE_HOME/gateway/gateway.db``, else ``~/.local/state/gateway/gateway.db``. As the
    XDG specification asks, a relative ``XDG_STATE_HOME`` is ignored. Raises StoreUrlError for a user
    who has no home directory.
    """
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if state:
        return f"sqlite://{Path(state).absolute()}/gateway.db"
    xdg = environ.get("XDG_STATE_HOME", "")
    if not xdg.startswith("/"):
        xdg = f"{environ.get('HOME') or _home()}/.local/state"
    return f"sqlite://{xdg}/gateway/gateway.db"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # containers run as users whom nobody has listed
        raise StoreUrlError(
            f"this user has no home directory to keep keys in; name a store: {_FORMS}"
        ) from None


def open_store(url: str) -> Store:
    """Return the store that ``url`` names, without touching it yet (``migrate`` does).

    Raises StoreUrlError when the URL names none that this version can open.
    """
    scheme, colon, _ = url.partition(":")
    if scheme in SCHEMES and colon:
        from gateway.store.postgres import PostgresStore  # asyncpg takes a while to load

        return PostgresStore(url)
    if scheme != "sqlite" or not colon:
        raise StoreUrlError(f"the store URL must begin with sqlite: or postgresql: ({_FORMS})")
    return SqliteStore(sqlite_path(url))


def sqlite_path(url: str) -> Path:
    """Return the path of a ``sqlite:`` URL: three or four slashes are absolute, none is relative."""
    rest = url.removeprefix("sqlite:")
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise StoreUrlError(f"after sqlite:// an absolute path must follow: {_SQLITE_FORMS}")
        rest = "/" + rest.lstrip("/")
    if not rest or rest.endswith("/"):
        raise StoreUrlError(f"the store URL names no file: {_SQLITE_FORMS}")
    if re.search(r"[\x00-\x1f\x7f?#]", rest):
        raise StoreUrlError(
            f"the path of the store URL may hold no control character, '?' or '#': {_SQLITE_FORMS}"
        )
    return Path(rest).absolute()
