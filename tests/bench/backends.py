"""What stands behind every contender: nginx for what is read, a small sink for what is sent.

nginx alone would not do as a sink: ``return 200`` answers before a body has arrived, which no
proxy may then reuse its connection after.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import cast

from tests.bench.machine import Process
from tests.ports import free_port

SMALL_BYTES = 128
LARGE_BYTES = 1 << 20

# Started by root, nginx would serve as a user who may not read the temporary directory.
NGINX_AS_OWNER = "user root;" if os.getuid() == 0 else ""

_NGINX = """\
{as_owner} daemon off; worker_processes 1; pid {directory}/backend.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_timeout 300s; keepalive_requests 100000000; sendfile on; tcp_nopush on;
  client_body_temp_path {directory}/backend-body; proxy_temp_path {directory}/backend-proxy;
  fastcgi_temp_path {directory}/backend-f; uwsgi_temp_path {directory}/backend-u; scgi_temp_path {directory}/backend-s;
  open_file_cache max=16;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type text/plain;
    location /small {{ return 200 "{small}"; }}
    location /large {{ alias {directory}/large; }}
    location /whoami {{
      return 200 "$http_x_gateway_key_id|$http_x_gateway_tenant|$http_x_gateway_permission|$http_x_forwarded_for|$http_x_forwarded_proto|$http_x_request_id|$http_x_api_key";
    }}
  }}
}}
"""  # noqa: E501  one line of nginx's is one line


class Backends:
    """The two servers behind the proxies: ``readable`` and ``sink`` are their ports."""

    def __init__(self, *, core: int | set[int], directory: Path) -> None:
        self.readable, self.sink = free_port(), free_port()
        (directory / "large").write_bytes(b"x" * LARGE_BYTES)
        config = directory / "backend.conf"
        config.write_text(
            _NGINX.format(
                as_owner=NGINX_AS_OWNER, directory=directory, port=self.readable, small="x" * SMALL_BYTES
            )
        )
        self._nginx = Process(
            ["nginx", "-p", str(directory), "-c", str(config)], core=core, directory=directory
        )
        self._sink = Process(
            [sys.executable, "-m", "tests.bench.backends", str(self.sink)], core=core, directory=directory
        )
        self._nginx.wait_until_ready(f"http://127.0.0.1:{self.readable}/small")
        self._sink.wait_until_ready(f"http://127.0.0.1:{self.sink}/")

    def stop(self) -> None:
        self._nginx.stop()
        self._sink.stop()


_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_LENGTH_WANTED = b"HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Sink(asyncio.Protocol):
    """Reads a whole body of known length, then answers; bodies go past without being kept."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._head = b""
        self._owed = 0

    def data_received(self, data: bytes) -> None:
        while data:
            if self._owed:
                taken = min(self._owed, len(data))
                self._owed -= taken
                data = data[taken:]
                if self._owed == 0:
                    self._transport.write(_ANSWER)
                continue
            head, end, rest = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            self._head, data = b"", rest
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        if _CHUNKED.search(head):
            self._transport.write(_LENGTH_WANTED)
            self._transport.close()
            return
        length = _CONTENT_LENGTH.search(head)
        self._owed = int(length[1]) if length else 0
        if self._owed == 0:
            self._transport.write(_ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    try:
        uvloop.run(_serve(int(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(0)
