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
UNREAD_S = 60
"""How long a caller may leave what she was sent unread."""
LONGEST_FIELD_BYTES = 16384
"""A field line: room for the longest token and what stands before it."""
LONGEST_TARGET_BYTES = 65536
"""A request line: far more than any parameter may hold, so that who sends too much is told which one."""
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
    options: dict[str, Any] = {
        "access_log": None,
        "logger": _errors_of_ours(name),
        "keepalive_timeout": KEEP_ALIVE_S,
        "lingering_time": LINGER_S,
        "max_field_size": LONGEST_FIELD_BYTES,
        "max_line_size": LONGEST_TARGET_BYTES,
        # Content is never coded here; what says that it is must not become more than was sent.
        "auto_decompress": False,
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=shutdown_s)
    await runner.setup()
    await _Site(runner, listener, options, tls).start()
    return runner


class _Site(web.SockSite):
    """A site with no more than so many connections at once."""

    def __init__(
        self,
        runner: web.AppRunner,
        listener: socket.socket,
        options: dict[str, Any],
        tls: ssl.SSLContext | None,
    ) -> None:
        super().__init__(runner, listener, ssl_context=tls)
        self._options = options

    async def start(self) -> None:
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.Protocol:
            if len(server.connections) >= MOST_CONNECTIONS:
                return _TurnedAway()
            return _Connection(server, loop=loop, **self._options)

        _bound_unread(self._sock)
        self._server = await loop.create_server(
            accept,
            sock=self._sock,
            ssl=self._ssl_context,
            ssl_handshake_timeout=HANDSHAKE_S if self._ssl_context else None,
            backlog=self._backlog,
        )


def _bound_unread(listener: socket.socket) -> None:
    """Have the system end connections whose peers read nothing: no timer here sees what it holds for them."""
    # Linux: connections inherit it; it counts while the peer keeps its window shut, too (tcp(7)).
    if hasattr(socket, "TCP_USER_TIMEOUT") and listener.family in (socket.AF_INET, socket.AF_INET6):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)


class _Connection(web.RequestHandler):
    """One connection; what is no HTTP is refused without a word of what was sent: it may hold a secret."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return what is told where no handler could answer; this ends the connection."""
        if isinstance(exc, http_exceptions.LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log_exception("a request could not be answered", exc_info=exc)
        words, request_id = HTTPStatus(status).phrase, secrets.token_hex(16)
        response = web.json_response(
            {
                "type": "about:blank",
                "title": words,
                "status": int(status),
                "detail": "The request could not be read." if status < 500 else f"{words}.",
                "code": "bad_request" if status < 500 else "internal_error",
                "request_id": request_id,
            },
            status=status,
            content_type="application/problem+json",
            headers={
                "Cache-Control": "no-store",
                "Server": "gateway",
                "X-Content-Type-Options": "nosniff",
                "X-Request-Id": request_id,
            },
        )
        response.force_close()
        return response


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
