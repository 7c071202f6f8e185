"""How the gateway grows: with a million keys, and with ten thousand idle connections."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench.backends import Backends
from tests.bench.compare import SCENARIOS
from tests.bench.contenders import Contender, Setting, make_key, start_gateway
from tests.bench.load import CONNECTIONS, measure
from tests.bench.machine import BenchError, cores, raise_file_limit
from tests.bench.store import fill
from tests.bench.table import columns

_SAMPLE = 10_000
_OTHER_FILES = 1024
_READY_WITHIN_S = 300.0


def keys(count: int, *, rounds: int, seconds: int, say: Callable[[str], None]) -> bool:
    """Print what ``count`` keys cost against 1,000: time to ready, memory, CPU of an authenticated GET."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        proxy_core, load_core = cores()
        backends = Backends(core=load_core, directory=directory)
        stack.callback(backends.stop)
        running: dict[int, tuple[Contender, Path, float]] = {}
        for size in (1000, count):
            say(f"filling a store with {size:,} keys …")
            own = directory / str(size)
            own.mkdir()
            tokens = own / "tokens"
            began = time.monotonic()
            sample = asyncio.run(fill(own / "gateway.db", size, sample=_SAMPLE))
            tokens.write_text("\n".join(sample) + "\n")
            say(f"filled in {time.monotonic() - began:.1f} s")
            setting = Setting(own, backends, proxy_core, {}, own / "gateway.db")
            contender = start_gateway(setting, f"{size:,} keys", access_log="none", within_s=_READY_WITHIN_S)
            ready_s = time.monotonic() - contender.process.started_at
            stack.callback(contender.process.stop)
            running[size] = contender, tokens, ready_s
        return _table_of_sizes(running, rounds, seconds, load_core, say)


def _table_of_sizes(
    running: dict[int, tuple[Contender, Path, float]],
    rounds: int,
    seconds: int,
    load_core: int,
    say: Callable[[str], None],
) -> bool:
    at_ready = {size: contender.process.rss_mb() for size, (contender, _, _) in running.items()}
    costs: dict[int, list[float]] = {size: [] for size in running}
    faults = 0
    for _ in range(rounds):
        for size, (contender, tokens, _) in running.items():
            run = measure(
                contender.process,
                contender.port,
                SCENARIOS["get"],
                tokens,
                seconds=seconds,
                core=load_core,
                connections=CONNECTIONS,
            )
            costs[size].append(run.cpu_us)
            faults += run.faults
    rows = [
        (
            contender.name,
            f"{ready_s:.1f}",
            f"{at_ready[size]:.0f}",
            f"{contender.process.rss_mb():.0f}",
            f"{median(costs[size]):.1f}",
        )
        for size, (contender, _, ready_s) in running.items()
    ]
    headings = ("", "ready after s", "RSS MB", "RSS MB under load", "CPU µs/req")
    say("\n" + columns(headings, rows))
    return faults == 0


def idle(count: int, *, say: Callable[[str], None]) -> bool:
    """Print what ``count`` connections cost that each had one answer and then stay open."""
    limit = raise_file_limit(2 * count + _OTHER_FILES)
    # A proxy needs two files a connection while it works, and the gateway keeps to that.
    room = (limit - _OTHER_FILES) // 2
    if count > room:
        say(f"{count:,} connections need more than the {limit:,} open files that are allowed: {room:,} then")
        count = room
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        proxy_core, load_core = cores()
        backends = Backends(core=load_core, directory=directory)
        stack.callback(backends.stop)
        store = directory / "gateway.db"
        token = make_key(store, "viewer")
        contender = start_gateway(Setting(directory, backends, proxy_core, {}, store), "", access_log="none")
        stack.callback(contender.process.stop)
        request = f"GET /small HTTP/1.1\r\nHost: bench\r\nX-API-KEY: {token}\r\n\r\n".encode()
        for _ in range(200):  # what is allocated once is not counted as a connection's
            _answered(contender.port, request).close()
        before = contender.process.rss_mb()
        for _ in range(count):
            stack.enter_context(_answered(contender.port, request))
        after = contender.process.rss_mb()
        each_kb = (after - before) * 1e3 / count
        row = (f"{count:,}", f"{before:.0f}", f"{after:.0f}", f"{after - before:.0f}", f"{each_kb:.1f}")
        headings = ("idle connections", "RSS MB before", "with them", "more", "kB each")
        say("\n" + columns(headings, [row]))
        _answered(contender.port, request).close()
        return True


def _answered(port: int, request: bytes) -> socket.socket:
    """Open a connection, have one request answered on it, and return it still open."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"x" * 128):
        chunk = connection.recv(4096)
        if not chunk:
            raise BenchError(f"the gateway closed a connection after {received[:200]!r}")
        received += chunk
    if not received.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"the gateway answered {received[:200]!r}")
    return connection
