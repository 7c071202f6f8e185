"""Make connections to PostgreSQL: to a server that takes writes, in time, or tell why there is none.

Imports ``store`` only.
"""

from __future__ import annotations

import asyncio
import stat
import time
from pathlib import Path
from typing import Any

import asyncpg

from gateway.store.base import StoreError
from gateway.store.postgres_errors import LinkError, of_system, sentence, told_as_store_error
from gateway.store.postgres_link import STATEMENT_S, Link
from gateway.store.postgres_url import Host, PostgresUrl
from gateway.store.texts import queries

CONNECT_S = 5.0
"""How long making a connection may take, all hosts together."""


async def connect(
    url: PostgresUrl,
    *,
    within_s: float = CONNECT_S,
    statement_s: float = STATEMENT_S,
    first: Host | None = None,
) -> Link:
    """Return a connection to the first host of ``url`` that takes writes, beginning with ``first``.

    Of several hosts each gets its part of the ``within_s`` seconds, so that one which swallows all keeps
    nobody from the next; ``statement_s`` is the connection's own. Raises StoreError for the last one's
    fault.
    """
    hosts: list[Host | None] = [*url.hosts] or [None]
    if first in hosts:
        hosts.remove(first)
        hosts.insert(0, first)
    deadline = time.monotonic() + within_s
    fault: StoreError | None = None
    for place, host in enumerate(hosts):
        share = max(0.0, deadline - time.monotonic()) / (len(hosts) - place)
        try:
            with told_as_store_error(url.location):
                async with asyncio.timeout(share):
                    link = await _connected(url, host)
                    link.statement_s = statement_s
                    return link
        except StoreError as error:
            fault = error
        except OSError as error:
            fault = StoreError(f"the store {url.location} {sentence(error)}")
    assert fault is not None
    raise fault


async def _connected(url: PostgresUrl, host: Host | None) -> Link:
    if url.passfile is not None:
        _check_passfile(Path(url.passfile), url.location)
    link = Link(await _dialled(url, host), host)
    try:
        await _check_server(link, url.location)
    except BaseException:
        link.terminate()
        raise
    return link


async def _dialled(url: PostgresUrl, host: Host | None) -> Any:
    try:
        return await asyncpg.connect(
            url.tls_dsn,
            host=host.name if host else None,
            port=host.port if host else None,
            user=url.user,
            password=url.password,
            database=url.database,
            passfile=url.passfile,
            server_settings={"application_name": url.application_name},
            target_session_attrs="any",  # asked below, in a transaction, as a pooler needs it
            statement_cache_size=0,
            timeout=None,
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        raise
    except Exception as error:
        # asyncpg is sure that whoever answers is a PostgreSQL; what it raises otherwise is of many kinds.
        raise LinkError(f"what answers there is no PostgreSQL ({type(error).__name__})") from error


def _check_passfile(path: Path, location: str) -> None:
    """Raise StoreError where libpq would go on without the password, and leave people to wonder."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise StoreError(
            f"the password file {path} of the store {location} cannot be read: {of_system(error)}"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(
            f"the password file {path} of the store {location} may be read by others: chmod 600 it"
        )


async def _check_server(link: Link, location: str) -> None:
    texts = queries("postgres")
    await link.script(texts["begin_look"])
    ((standby, read_only, encoding),) = await link.rows(texts["server_state"])
    await link.script("COMMIT")
    if standby or read_only:
        raise StoreError(f"the store {location} takes no writes: it is a standby, or has been made read-only")
    if encoding != "UTF8":
        raise StoreError(f"the store {location} has the encoding {encoding}: a database in UTF8 is needed")
