"""What logins cost callers: the proxy's latency while 200 people log in at once, again and again.

Each login comes from an address of its own (loopback has many), so that throttling does not spare
the work. Two loads: one that fills the proxy's core, and a steady one that leaves it mostly idle.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from gateway.control.passwords import Argon2Pool
from gateway.control.users import UserService
from gateway.store.base import Actor
from gateway.store.urls import open_store
from tests.bench.backends import Backends
from tests.bench.compare import SCENARIOS
from tests.bench.contenders import Setting, make_key, start_gateway
from tests.bench.load import CONNECTIONS, measure
from tests.bench.machine import BenchError, cores
from tests.bench.table import columns
from tests.ports import free_port

AT_ONCE = 200
STEADY_RATE = 500
PASSWORDS = {"right": "a right password", "wrong": "a wrong password"}


@dataclass
class Seen:
    """What callers saw beside one kind of logins."""

    full_p50: list[float] = field(default_factory=list)
    full_p99: list[float] = field(default_factory=list)
    steady_p50: list[float] = field(default_factory=list)
    steady_p99: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)


def logins(count: int, *, rounds: int, seconds: int, say: Callable[[str], None]) -> bool:
    """Print the proxy's latency beside no logins, wrong ones and right ones, ``count`` at once."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        proxy_core, load_core = cores()
        backends = Backends(core=load_core, directory=directory)
        stack.callback(backends.stop)
        store, tokens = directory / "gateway.db", directory / "tokens"
        token = make_key(store, "viewer")
        tokens.write_text(token + "\n")
        say(f"adding {count} users …")
        asyncio.run(_add_users(store, count))
        control = free_port()
        setting = Setting(directory, backends, proxy_core, {}, store)
        gateway = start_gateway(setting, "gateway", access_log="none", control=control)
        stack.callback(gateway.process.stop)
        seen = {kind: Seen() for kind in ("none", "wrong", "right")}
        faults = 0
        addresses = _addresses()
        for _ in range(rounds):
            for kind, told in seen.items():
                with _Storm(control, kind, count, addresses) as storm:
                    run = measure(
                        gateway.process,
                        gateway.port,
                        SCENARIOS["get"],
                        tokens,
                        seconds=seconds,
                        core=load_core,
                        connections=CONNECTIONS,
                    )
                with storm.again() as again:
                    p50, p99 = steady_latencies(gateway.port, token, seconds, load_core)
                told.full_p50.append(run.p50_ms)
                told.full_p99.append(run.p99_ms)
                told.steady_p50.append(p50)
                told.steady_p99.append(p99)
                told.per_second.append((storm.done + again.done) / (storm.took_s + again.took_s))
                faults += run.faults + storm.faults + again.faults
        say("\n" + _table(seen, count))
        return faults == 0


def _addresses() -> Iterator[str]:
    """Return addresses of loopback, none of them twice."""
    numbers = itertools.product(range(1, 250), range(250), range(1, 250))
    return (f"127.{first}.{second}.{third}" for first, second, third in numbers)


async def _add_users(path: Path, count: int) -> None:
    store, hasher = open_store(f"sqlite://{path}"), Argon2Pool()
    try:
        service = UserService(store, hasher)
        for number in range(count):
            await service.add_user(
                Actor(name="bench"),
                _email(number),
                tenant="default",
                role="viewer",
                password=PASSWORDS["right"],
            )
    finally:
        hasher.close()
        await store.close()


def _email(number: int) -> str:
    return f"user{number}@example.com"


class _Storm:
    """Logins, ``count`` at once and again once all are answered, in a thread of its own until it is left.

    Attributes:
        done: how many were answered as they should be.
        faults: how many were not.
        took_s: for how long it went on.
    """

    def __init__(self, port: int, kind: str, count: int, addresses: Iterator[str]) -> None:
        self.done = self.faults = 0
        self.took_s = 0.0
        self._made_of = (port, kind, count, addresses)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def again(self) -> _Storm:
        """Return another one of its kind."""
        return _Storm(*self._made_of)

    def __enter__(self) -> _Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        port, kind, count, addresses = self._made_of
        began = time.monotonic()
        while kind != "none" and not self._over.is_set():
            expected = {"right": b"302", "wrong": b"401"}[kind]
            waves = [_log_in(port, number, PASSWORDS[kind], next(addresses)) for number in range(count)]
            for status in await asyncio.gather(*waves):
                if status == expected:
                    self.done += 1
                else:
                    self.faults += 1
        self.took_s = max(time.monotonic() - began, 1e-9)


async def _log_in(port: int, number: int, password: str, address: str) -> bytes:
    """Log in once; return the status, or nothing where none came."""
    credentials = base64.b64encode(f"{_email(number)}:{password}".encode()).decode()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(
            f"POST /login HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {credentials}\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        return answer[9:12]
    except OSError:
        return b""


def steady_latencies(port: int, token: str, seconds: int, core: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of a steady load in milliseconds."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench.steady", str(port), token, str(seconds), str(STEADY_RATE)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if run.returncode != 0:
        raise BenchError(f"the steady load ended with {run.returncode}; it said:\n{run.stderr}")
    _, p50_us, p99_us = map(int, run.stdout.split()[1:])
    return p50_us / 1e3, p99_us / 1e3


def _table(seen: dict[str, Seen], count: int) -> str:
    calm = seen["none"]
    rows = []
    for kind, told in seen.items():
        full, steady = median(told.full_p99), median(told.steady_p99)
        rows.append(
            (
                "no logins" if kind == "none" else f"{count} {kind} at once",
                f"{median(told.per_second):.0f}",
                f"{median(told.full_p50):.2f}",
                f"{full:.2f}",
                f"{full / median(calm.full_p99):.2f}x",
                f"{median(told.steady_p50):.2f}",
                f"{steady:.2f}",
                f"{steady / median(calm.steady_p99):.2f}x",
            )
        )
    headings = (
        "",
        "logins/s",
        "full load p50 ms",
        "p99",
        "to none",
        f"{STEADY_RATE}/s p50 ms",
        "p99",
        "to none",
    )
    return columns(headings, rows)
