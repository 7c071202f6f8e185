"""A gateway on PostgreSQL: how soon it is ready with a million keys, and what many changes cost callers.

The database and whoever writes run on the core of the load; on the proxy's core there is the proxy.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from gateway.keys.opening import opened_store
from gateway.store import operations as ops
from gateway.store.base import Actor
from tests.bench.backends import Backends
from tests.bench.compare import SCENARIOS
from tests.bench.contenders import Contender, Setting, start_gateway
from tests.bench.load import CONNECTIONS, measure
from tests.bench.logins import STEADY_RATE, steady_latencies
from tests.bench.machine import cores
from tests.bench.postgres import fill_postgres
from tests.bench.store import records
from tests.bench.table import columns
from tests.postgres import Server

CHANGES_A_SECOND = 1000
_BATCHES_A_SECOND = 10
_SAMPLE = 1000
_PEPPER = "a pepper of the benchmark's own, which no key of anybody else is made with"
_READY_WITHIN_S = 300.0


def replicas(count: int, *, rounds: int, seconds: int, say: Callable[[str], None]) -> bool:
    """Print time to ready, memory, and latencies without and with changes; True if all answers were right."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        proxy_core, load_core = cores()
        backends = Backends(core=load_core, directory=directory)
        stack.callback(backends.stop)
        database = Server({"max_wal_size": "4GB", "maintenance_work_mem": "256MB"})
        stack.callback(database.close)
        url = database.create_database("bench")
        say(f"filling PostgreSQL with {count:,} keys …")
        began = time.monotonic()
        sample = asyncio.run(fill_postgres(url, count, pepper=_PEPPER, sample=_SAMPLE))
        say(f"filled in {time.monotonic() - began:.1f} s")
        for name, lines in (("tokens", sample), ("pepper", [_PEPPER])):
            (directory / name).write_text("\n".join(lines) + "\n")
        os.sched_setaffinity(database.pid, {load_core})
        setting = Setting(directory, backends, proxy_core, {}, url)
        pepper = {"secrets": {"pepper_file": str(directory / "pepper")}}
        gateway = start_gateway(
            setting, f"{count:,} keys", access_log="none", within_s=_READY_WITHIN_S, more=pepper
        )
        stack.callback(gateway.process.stop)
        ready_s = time.monotonic() - gateway.process.started_at
        memory = gateway.process.rss_mb()
        say(columns(("", "ready after s", "RSS MB"), [(gateway.name, f"{ready_s:.1f}", f"{memory:.0f}")]))
        return _beside_changes(gateway, url, directory / "tokens", sample[0], rounds, seconds, say)


def _beside_changes(
    gateway: Contender,
    url: str,
    tokens: Path,
    token: str,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> bool:
    _, load_core = cores()
    seen: dict[int, list[tuple[float, float, float, float]]] = {0: [], CHANGES_A_SECOND: []}
    made: dict[int, list[float]] = {0: [], CHANGES_A_SECOND: []}
    faults = 0
    for _ in range(rounds):
        for rate, found in seen.items():
            with _Writer(url, rate, load_core) as writer:
                run = measure(
                    gateway.process,
                    gateway.port,
                    SCENARIOS["get"],
                    tokens,
                    seconds=seconds,
                    core=load_core,
                    connections=CONNECTIONS,
                )
                p50, p99 = steady_latencies(gateway.port, token, seconds, load_core)
            found.append((run.p50_ms, run.p99_ms, p50, p99))
            made[rate].append(writer.per_second)
            faults += run.faults
    headings = (
        "changes/s",
        "made",
        "full load p50 ms",
        "p99",
        "to none",
        f"{STEADY_RATE}/s p50 ms",
        "p99",
        "to none",
    )
    calm = _medians(seen[0])
    rows = []
    for rate, found in seen.items():
        full_p50, full_p99, p50, p99 = _medians(found)
        full = (f"{full_p50:.2f}", f"{full_p99:.2f}", f"{full_p99 / calm[1]:.2f}x")
        steady = (f"{p50:.2f}", f"{p99:.2f}", f"{p99 / calm[3]:.2f}x")
        rows.append((f"{rate:,}", f"{median(made[rate]):.0f}", *full, *steady))
    say("\n" + columns(headings, rows))
    return faults == 0


def _medians(found: Sequence[Sequence[float]]) -> list[float]:
    return [median(column) for column in zip(*found, strict=True)]


class _Writer:
    """Makes so many keys a second, in a thread, until it is left; ``per_second`` is what came of it."""

    def __init__(self, url: str, rate: int, core: int) -> None:
        self.per_second = 0.0
        self._url, self._rate, self._core = url, rate, core
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        os.sched_setaffinity(threading.get_native_id(), {self._core})
        began, made, size = time.monotonic(), 0, self._rate // _BATCHES_A_SECOND
        async with opened_store(self._url, pepper=_PEPPER, pepper_file=None, migrate=False) as (
            store,
            digester,
        ):
            while size and not self._over.is_set():
                batch = list(records(digester, size, set(), []))
                await store.write(ops.insert_keys(batch, Actor(name="bench")))
                made += size
                await asyncio.sleep(max(0.0, began + made / self._rate - time.monotonic()))
        self.per_second = made / (time.monotonic() - began)
