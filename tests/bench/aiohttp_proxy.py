"""What one would write by hand in an afternoon: keys in a dict, aiohttp on both sides, bodies streamed.

Used by the benchmark alone: ``python -m tests.bench.aiohttp_proxy PORT READABLE SINK KEYS_FILE``.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
READS = frozenset({"GET", "HEAD", "OPTIONS"})

KEYS = web.AppKey("KEYS", dict)
PORTS = web.AppKey("PORTS", tuple)
SESSION = web.AppKey("SESSION", ClientSession)


async def proxy(request: web.Request) -> web.StreamResponse:
    facts = request.app[KEYS].get(request.headers.get("X-API-KEY", ""))
    if facts is None:
        return web.json_response({"status": 401, "code": "key_unknown"}, status=401)
    key_id, subject, tenant, permission = facts
    if permission == "viewer" and request.method not in READS:
        return web.json_response({"status": 403, "code": "permission_denied"}, status=403)
    request_id = request.headers.get("X-Request-Id") or uuid.uuid4().hex
    headers = CIMultiDict(
        (name, value)
        for name, value in request.headers.items()
        if name.lower() not in HOP_BY_HOP and name.lower() != "x-api-key"
    )
    headers["X-Gateway-Key-Id"] = key_id
    headers["X-Gateway-Subject"] = subject
    headers["X-Gateway-Tenant"] = tenant
    headers["X-Gateway-Permission"] = permission
    headers["X-Forwarded-For"] = request.remote or ""
    headers["X-Forwarded-Proto"] = request.scheme
    headers["X-Forwarded-Host"] = request.host
    headers["X-Request-Id"] = request_id
    readable, sink = request.app[PORTS]
    port = sink if request.path.startswith("/sink") else readable
    body = request.content if request.body_exists else None
    async with request.app[SESSION].request(
        request.method,
        f"http://127.0.0.1:{port}{request.raw_path}",
        headers=headers,
        data=body,
        allow_redirects=False,
    ) as upstream:
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in HOP_BY_HOP:
                response.headers.add(name, value)
        response.headers["X-Request-Id"] = request_id
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def serve(port: int, readable: int, sink: int, keys_file: Path) -> None:
    import asyncio

    app = web.Application(client_max_size=1 << 30)
    app[PORTS] = (readable, sink)
    app[KEYS] = {}
    for line in keys_file.read_text().splitlines():
        token, facts = line.split(" ", 1)
        app[KEYS][token] = tuple(facts.split("|"))
    app.router.add_route("*", "/{path:.*}", proxy)
    connector = TCPConnector(limit=0, keepalive_timeout=60)
    async with ClientSession(
        connector=connector, auto_decompress=False, timeout=ClientTimeout(60), cookie_jar=DummyCookieJar()
    ) as session:
        app[SESSION] = session
        runner = web.AppRunner(app, access_log=None, handle_signals=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        uvloop.run(serve(*map(int, sys.argv[1:4]), Path(sys.argv[4])))
    except KeyboardInterrupt:
        sys.exit(0)
