"""Turn what PostgreSQL and asyncpg raise into one sentence that names the store and holds no secret.

A server's ``detail`` repeats values, and so do its messages about data; neither is ever told.
Imports ``store`` only.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from gateway.store.base import DuplicateError, StoreError


class LinkError(Exception):
    """A connection ended, or had to be cut because no answer came in time."""


LOST = (
    LinkError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What is raised when a connection has ended or will not be had, whatever was asked of it."""

# Of these SQLSTATE classes the server's words are told: they name relations, roles and limits, not data.
_TOLD_CLASSES = ("08", "0A", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")


@contextmanager
def told_as_store_error(location: str) -> Iterator[None]:
    """Raise StoreError or DuplicateError for what a link raises, and for nothing that the work raises."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        raise DuplicateError("record", error.constraint_name or error.sqlstate) from None
    except (LinkError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StoreError(f"the store {location} {sentence(error)}") from None


def sentence(error: BaseException) -> str:
    """Return what is wrong, to be read after the store's name."""
    match error:
        case asyncpg.ReadOnlySQLTransactionError():
            return "takes no writes: it is a standby, or has been made read-only"
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            return f"does not have the gateway's schema ({_message(error)})"
        case asyncpg.LockNotAvailableError():
            return "is busy: others hold it locked, try again"
        case asyncpg.QueryCanceledError():
            return "is busy: it did not do its work in time, try again"
        case asyncpg.CharacterNotInRepertoireError():
            return "cannot hold a character of what was to be written"
        case asyncpg.PostgresConnectionError():
            return "cannot be used: the connection was lost"
        case asyncpg.PostgresError() if str(error.sqlstate)[:2] in _TOLD_CLASSES:
            return f"refuses: {_message(error)}"
        case asyncpg.PostgresError():
            return f"refuses what was asked (SQLSTATE {error.sqlstate})"
        case asyncpg.ClientConfigurationError():
            return f"cannot be reached: {_message(error)}"
        case asyncpg.DataError():
            return "cannot hold a value of what was to be written"
        case asyncpg.InterfaceError():
            return "cannot be used: the connection was lost"
        case LinkError():
            return f"cannot be used: {error}"
        case _:
            return f"cannot be reached: {of_system(error)}"


def of_system(error: BaseException) -> str:
    """Return what the operating system or TLS says is wrong."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'no reason is given'})"
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror})"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return _message(error) if str(error) else "the connection was lost"


def _message(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
