"""A gateway on PostgreSQL: how soon it is ready with a million keys, and what many changes cost callers.

The database and whoever writes run on the core of the load; on the proxy's core there is the proxy. What
they cost the load there is told apart: by as many changes in another database, which the gateway does not
follow.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
        url, elsewhere = (database.create_database(name) for name in ("bench", "elsewhere"))
        say(f"filling PostgreSQL with {count:,} keys …")
        began = time.monotonic()
        sample = asyncio.run(fill_postgres(url, count, pepper=_PEPPER, sample=_SAMPLE))
        asyncio.run(fill_postgres(elsewhere, 1, pepper=_PEPPER))
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
        writers = {
            "none": _Writer(url, 0),
            "not followed": _Writer(elsewhere, CHANGES_A_SECOND),
            "followed": _Writer(url, CHANGES_A_SECOND),
        }
        return _beside_changes(gateway, writers, directory / "tokens", sample[0], rounds, seconds, say)


def _beside_changes(
    gateway: Contender,
    writers: dict[str, _Writer],
    tokens: Path,
    token: str,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> bool:
    _, load_core = cores()
    seen: dict[str, list[tuple[float, ...]]] = {name: [] for name in writers}
    faults = 0
    for _ in range(rounds):
        for name, writer in writers.items():
            with writer.running(load_core):
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
            seen[name].append((writer.per_second, run.p50_ms, run.p99_ms, p50, p99))
            faults += run.faults
    headings = (
        "changes",
        "a second",
        "full load p50 ms",
        "p99",
        "of unfollowed",
        f"{STEADY_RATE}/s p50 ms",
        "p99",
        "of unfollowed",
    )
    usual = _medians(seen["not followed"])
    rows = []
    for name, found in seen.items():
        made, full_p50, full_p99, p50, p99 = _medians(found)
        full = (f"{full_p50:.2f}", f"{full_p99:.2f}", f"{full_p99 / usual[2]:.2f}x")
        steady = (f"{p50:.2f}", f"{p99:.2f}", f"{p99 / usual[4]:.2f}x")
        rows.append((name, f"{made:.0f}", *full, *steady))
    say("\n" + columns(headings, rows))
    return faults == 0


def _medians(found: Sequence[Sequence[float]]) -> list[float]:
    return [median(column) for column in zip(*found, strict=True)]


class _Writer:
    """Makes so many keys a second, in a thread; ``per_second`` is what came of it at last."""

    def __init__(self, url: str, rate: int) -> None:
        self.per_second = 0.0
        self._url, self._rate = url, rate

    @contextmanager
    def running(self, core: int) -> Iterator[None]:
        """Make keys until this is left, on the CPU ``core``."""
        over = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(core, over)))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    async def _run(self, core: int, over: threading.Event) -> None:
        os.sched_setaffinity(threading.get_native_id(), {core})
        began, made, size = time.monotonic(), 0, self._rate // _BATCHES_A_SECOND
        async with opened_store(self._url, pepper=_PEPPER, pepper_file=None, migrate=False) as (
            store,
            digester,
        ):
            while size and not over.is_set():
                batch = list(records(digester, size, set(), []))
                await store.write(ops.insert_keys(batch, Actor(name="bench")))
                made += size
                await asyncio.sleep(max(0.0, began + made / self._rate - time.monotonic()))
        self.per_second = made / (time.monotonic() - began)
