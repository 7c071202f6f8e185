"""The ops listener: metrics for Prometheus, health for Kubernetes. No credential opens or closes it.

Imports aiohttp and prometheus_client alone; what it tells arrives as a registry and a ``Status``.

Promise: ``/livez`` touches nothing but the event loop, so a database that is gone restarts nobody;
``/readyz`` says in one sentence why it refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

Answer = tuple[bool, str]


class Status(msgspec.Struct, frozen=True):
    """How the gateway stands, asked at each probe; each answers yes or no and a sentence.

    Attributes:
        started: configuration loaded and listeners bound, whatever the store does.
        ready: no before the first sync, while draining and when the table is stale. A store outage
            inside the bound is told in the sentence, and is a yes.
    """

    started: Callable[[], Answer]
    ready: Callable[[], Answer]


async def _nothing() -> None:
    """Find the numbers as they are."""


def make_ops(
    registry: CollectorRegistry, status: Status, refresh: Callable[[], Awaitable[None]] = _nothing
) -> web.Application:
    """Return the application: ``/metrics /livez /readyz /startupz`` for GET and HEAD, 404 for the rest.

    ``refresh`` brings the registry's numbers up to date before they are shown.
    """

    async def metrics(request: web.Request) -> web.Response:
        await refresh()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def live(request: web.Request) -> web.Response:
        return _told((True, "The event loop runs."))

    async def ready(request: web.Request) -> web.Response:
        return _told(status.ready())

    async def started(request: web.Request) -> web.Response:
        return _told(status.started())

    app = web.Application(middlewares=[_plain_errors])
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/livez", live),
            web.get("/readyz", ready),
            web.get("/startupz", started),
        ]
    )
    app.on_response_prepare.append(_finish_head)
    return app


def _told(answer: Answer) -> web.Response:
    well, sentence = answer
    return web.Response(status=200 if well else 503, text=sentence + "\n")


@web.middleware
async def _plain_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Say 404 and 405 in a sentence that names what there is, not in the library's words."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return web.Response(
            status=405, text="Only GET and HEAD are served here.\n", headers={"Allow": allowed}
        )
    except web.HTTPNotFound:
        return web.Response(status=404, text="Here are /metrics, /livez, /readyz and /startupz.\n")


async def _finish_head(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers.popall("Server", None)
