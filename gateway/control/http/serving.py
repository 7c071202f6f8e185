"""Serve an application on a bound socket, with a bound on its connections.

The control and ops listeners share one process and its open files with the data path: what they
take, callers cannot have. Imports aiohttp alone.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import ssl
from http import HTTPStatus
from typing import Any

from aiohttp import http_exceptions, web

MOST_CONNECTIONS = 512
KEEP_ALIVE_S = 30.0
"""Also how long a connection may take to send a whole request head."""
LINGER_S = 2.0
"""How long content that nobody wants is read, so that the caller gets to see the answer."""
HANDSHAKE_S = 10.0
UNREAD_S = 60
"""How long a caller may leave what she was sent unread."""
LONGEST_FIELD_BYTES = 16384
"""A field line: room for the longest token and what stands before it."""
HANDSHAKE_S = 10.0


async def serve(
    app: web.Application,
    listener: socket.socket,
    name: str,
    *,
    tls: ssl.SSLContext | None = None,
    shutdown_s: float = 1.0,
) -> web.AppRunner:
    """Serve ``app`` until ``await runner.cleanup()``, which closes the socket too.

    ``name`` is under what its faults are logged; what runs at the end has ``shutdown_s`` seconds.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_errors_of_ours(name),
        handle_signals=False,
        keepalive_timeout=KEEP_ALIVE_S,
        shutdown_timeout=shutdown_s,
    )
    await runner.setup()
    await _Site(runner, listener, ssl_context=tls).start()
    return runner


class _Site(web.SockSite):
    """A site with no more than so many connections at once."""

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None

        def accept() -> asyncio.Protocol:
            return server() if len(server.connections) < MOST_CONNECTIONS else _TurnedAway()

        self._server = await asyncio.get_running_loop().create_server(
            accept,
            sock=self._sock,
            ssl=self._ssl_context,
            ssl_handshake_timeout=HANDSHAKE_S if self._ssl_context else None,
            backlog=self._backlog,
        )


class _TurnedAway(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _errors_of_ours(name: str) -> logging.Logger:
    """Return a logger for this program's faults: a malformed request is none, and may hold a secret."""
    logger = logging.getLogger(name)
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    fault = record.exc_info[1] if record.exc_info else None
    return not isinstance(fault, http_exceptions.HttpProcessingError | web.RequestPayloadError)
