"""The backend that `gateway quickstart` brings along: it answers whatever it is asked with what it saw.

It runs in a thread with a loop of its own, as a stand-in for a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from types import TracebackType

from aiohttp import web

_IDENTITY = "x-gateway-"
_KEEP_ALIVE_S = 75.0


class DemoBackend:
    """An HTTP/1.1 server on a free port of the loopback interface, from ``with`` to its end."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo-backend", daemon=True)
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> DemoBackend:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Return where it is served."""
        return f"http://127.0.0.1:{self.port}"

    async def _start(self) -> int:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", _tell)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=_KEEP_ALIVE_S, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port


async def _tell(request: web.Request) -> web.Response:
    """Answer 200 with what arrived: the method, the target, who the gateway says it is, the body's size."""
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    seen = {
        "backend": "gateway quickstart demo",
        "method": request.method,
        "path": request.raw_path,
        "identity": {name: value for name, value in request.headers.items() if _is_identity(name)},
        "body_bytes": size,
    }
    return web.Response(text=json.dumps(seen, indent=2) + "\n", content_type="application/json")


def _is_identity(name: str) -> bool:
    return name.lower().startswith(_IDENTITY)
