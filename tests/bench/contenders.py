"""Who is compared: each authenticates by a table of keys, checks the permission, says who the caller is.

Every one removes the key, sets ``X-Gateway-*``, ``X-Forwarded-*`` and ``X-Request-Id``, keeps
connections to its backends alive, logs nothing, and runs as one worker on one core. Buffers and
everything else are each program's defaults.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.core.tokens import make_token
from tests.bench.backends import NGINX_AS_OWNER, Backends
from tests.bench.machine import BenchError, Process
from tests.ports import free_port


@dataclass(frozen=True)
class Setting:
    """What every contender is started with; ``keys`` maps a token to key id, subject, tenant, permission.

    ``store`` is the gateway's: a SQLite file, or a URL.
    """

    directory: Path
    backends: Backends
    core: int | set[int]
    keys: dict[str, tuple[str, str, str, str]]
    store: Path | str | None = None


@dataclass(frozen=True)
class Contender:
    """A running proxy."""

    name: str
    process: Process
    port: int


def nginx(setting: Setting) -> Contender:
    directory, port = setting.directory, free_port()
    maps = "\n".join(
        f"map $http_x_api_key ${name} {{ default ''; include {directory}/nginx-{name}.map; }}"
        for name in ("key_id", "subject", "tenant", "permission")
    )
    for position, name in enumerate(("key_id", "subject", "tenant", "permission")):
        lines = (f"{token} {facts[position]};\n" for token, facts in setting.keys.items())
        (directory / f"nginx-{name}.map").write_text("".join(lines))
    config = directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            as_owner=NGINX_AS_OWNER,
            directory=directory,
            port=port,
            maps=maps,
            readable=setting.backends.readable,
            sink=setting.backends.sink,
        )
    )
    process = Process(
        ["nginx", "-p", str(directory), "-c", str(config)], core=setting.core, directory=directory
    )
    return _started("nginx", process, port)


_NGINX = """\
{as_owner} daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; client_max_body_size 0;
  client_body_temp_path {directory}/nginx-body; proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-f; uwsgi_temp_path {directory}/nginx-u; scgi_temp_path {directory}/nginx-s;
  map_hash_max_size 65536; map_hash_bucket_size 256;
  {maps}
  map "$permission:$request_method" $allowed {{
    default 0; "viewer:GET" 1; "viewer:HEAD" 1; "viewer:OPTIONS" 1; "~^editor:" 1;
  }}
  upstream readable {{ server 127.0.0.1:{readable}; keepalive 64; keepalive_requests 100000000; }}
  upstream sink {{ server 127.0.0.1:{sink}; keepalive 64; keepalive_requests 100000000; }}
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header Connection "";
  proxy_set_header X-API-KEY "";
  proxy_set_header X-Gateway-Key-Id $key_id;
  proxy_set_header X-Gateway-Subject $subject;
  proxy_set_header X-Gateway-Tenant $tenant;
  proxy_set_header X-Gateway-Permission $permission;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Request-Id $request_id;
  add_header X-Request-Id $request_id always;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/problem+json;
    if ($permission = "") {{ return 401 '{{"type":"about:blank","title":"Unknown key","status":401,"code":"key_unknown"}}'; }}
    if ($allowed = 0) {{ return 403 '{{"type":"about:blank","title":"Permission denied","status":403,"code":"permission_denied"}}'; }}
    location / {{ proxy_pass http://readable; }}
    location /sink {{ proxy_pass http://sink; }}
  }}
}}
"""  # noqa: E501  one line of nginx's is one line


def haproxy(setting: Setting) -> Contender:
    directory, port = setting.directory, free_port()
    lines = (f"{token} {'|'.join(facts)}\n" for token, facts in setting.keys.items())
    (directory / "haproxy.map").write_text("".join(lines))
    config = directory / "haproxy.cfg"
    config.write_text(
        _HAPROXY.format(
            directory=directory, port=port, readable=setting.backends.readable, sink=setting.backends.sink
        )
    )
    process = Process(["haproxy", "-db", "-f", str(config)], core=setting.core, directory=directory)
    return _started("HAProxy", process, port)


_HAPROXY = """\
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 2s
  timeout client 75s
  timeout server 60s
  timeout http-keep-alive 75s
frontend callers
  bind 127.0.0.1:{port} backlog 4096
  option forwardfor
  unique-id-format %{{+X}}o%ci%cp%Ts%rt
  http-request set-var(txn.key) req.hdr(x-api-key),map_str({directory}/haproxy.map)
  http-request return status 401 content-type application/problem+json string '{{"type":"about:blank","title":"Unknown key","status":401,"code":"key_unknown"}}' unless {{ var(txn.key) -m found }}
  http-request set-var(txn.permission) var(txn.key),field(4,'|')
  http-request deny deny_status 403 if {{ var(txn.permission) -m str viewer }} !{{ method GET HEAD OPTIONS }}
  http-request del-header X-API-KEY
  http-request set-header X-Gateway-Key-Id %[var(txn.key),field(1,'|')]
  http-request set-header X-Gateway-Subject %[var(txn.key),field(2,'|')]
  http-request set-header X-Gateway-Tenant %[var(txn.key),field(3,'|')]
  http-request set-header X-Gateway-Permission %[var(txn.permission)]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[unique-id]
  http-response set-header X-Request-Id %[unique-id]
  use_backend sink if {{ path_beg /sink }}
  default_backend readable
backend readable
  server one 127.0.0.1:{readable}
backend sink
  server one 127.0.0.1:{sink}
"""  # noqa: E501  one line of HAProxy's is one line


def aiohttp(setting: Setting) -> Contender:
    port, keys = free_port(), setting.directory / "aiohttp.keys"
    keys.write_text("".join(f"{token} {'|'.join(facts)}\n" for token, facts in setting.keys.items()))
    ports = [str(number) for number in (port, setting.backends.readable, setting.backends.sink)]
    command = [sys.executable, "-m", "tests.bench.aiohttp_proxy", *ports, str(keys)]
    return _started("aiohttp", Process(command, core=setting.core, directory=setting.directory), port)


def gateway(setting: Setting) -> Contender:
    return start_gateway(setting, "gateway", access_log="none")


def gateway_logging(setting: Setting) -> Contender:
    return start_gateway(
        setting, "gateway, access log", access_log=str(setting.directory / "gateway-access.log")
    )


def start_gateway(
    setting: Setting,
    name: str,
    *,
    access_log: str,
    within_s: float = 60.0,
    around: Sequence[str] = (),
    control: int | None = None,
    workers: int = 1,
    more: Mapping[str, object] | None = None,
) -> Contender:
    """Start the product by its command line on ``setting.store`` and wait until it is ready.

    ``control`` is the port of its control listener; None: off. ``around`` are arguments of the
    interpreter that come first, such as a profiler's. ``more`` is said in its configuration besides.
    """
    port, ops = free_port(), free_port()
    backends = setting.backends
    store = setting.store if isinstance(setting.store, str) else f"sqlite://{setting.store}"
    config = setting.directory / f"gateway-{port}.yaml"
    # JSON is YAML, and needs no quoting of ours.
    config.write_text(
        json.dumps(
            {
                "listen": f"127.0.0.1:{port}",
                "ops": {"listen": f"127.0.0.1:{ops}"},
                "control": {"listen": None if control is None else f"127.0.0.1:{control}"},
                "store": {"url": store},
                "upstreams": {
                    "readable": {"targets": [f"http://127.0.0.1:{backends.readable}"]},
                    "sink": {"targets": [f"http://127.0.0.1:{backends.sink}"]},
                },
                "routes": [{"path": "/sink", "upstream": "sink"}, {"path": "/", "upstream": "readable"}],
                "limits": {"connections": 16384},
                "timeouts": {"keep_alive": "300s"},
                "access_log": {"path": access_log},
                "workers": workers,
                **(more or {}),
            }
        )
    )
    process = Process(
        [sys.executable, *around, "-m", "gateway", "run", "--config", str(config)],
        core=setting.core,
        directory=setting.directory,
    )
    process.wait_until_ready(f"http://127.0.0.1:{ops}/readyz", within_s=within_s)
    return Contender(name, process, port)


def unknown_token() -> str:
    """Return a token of the right form that nobody knows."""
    return make_token("gw_live_", secrets.choice)


def make_key(store: Path, permission: str) -> str:
    """Make a key as an operator does and return its token."""
    command = [sys.executable, "-m", "gateway", "keys", "create", "--tenant", "default", "--json"]
    command += ["--name", f"bench-{permission}", "--permission", permission, "--store", f"sqlite://{store}"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if made.returncode != 0:
        raise BenchError(f"`gateway keys create` ended with {made.returncode}; it said:\n{made.stderr}")
    return str(json.loads(made.stdout)["secretKey"])


CONTENDERS: dict[str, Callable[[Setting], Contender]] = {
    "gateway": gateway,
    "gateway-log": gateway_logging,
    "nginx": nginx,
    "haproxy": haproxy,
    "aiohttp": aiohttp,
}
GATEWAYS = frozenset({"gateway", "gateway-log"})


def missing_programs(names: Sequence[str]) -> list[str]:
    """Return which programs a run with these contenders needs and this machine lacks."""
    needed = ["nginx", "wrk", *(["haproxy"] if "haproxy" in names else [])]
    return [program for program in needed if shutil.which(program, path=_SEARCHED) is None]


# Debian puts servers where the PATH of people does not lead.
_SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def _started(name: str, process: Process, port: int) -> Contender:
    process.wait_until_ready(f"http://127.0.0.1:{port}/small")
    return Contender(name, process, port)
