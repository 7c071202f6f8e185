"""Load from wrk on its own core, and what one run of it cost the proxy."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.machine import BenchError, Process

CONNECTIONS = 64
_SCRIPT = Path(__file__).with_name("bench.lua")


@dataclass(frozen=True)
class Scenario:
    """One kind of request: what is sent, and the status that every answer must have."""

    name: str
    method: str
    path: str
    body_bytes: int
    status: int


@dataclass(frozen=True)
class Run:
    """What one run of one scenario gave."""

    requests: int
    cpu_us: float
    per_second: float
    p50_ms: float
    p99_ms: float
    faults: int


def measure(
    proxy: Process,
    port: int,
    scenario: Scenario,
    tokens: Path,
    *,
    seconds: int,
    core: int | set[int],
    connections: int,
) -> Run:
    """Load ``proxy`` for ``seconds`` and return what a request cost it; ``tokens`` holds one a line."""
    before = proxy.cpu_ns()
    output = _wrk(port, scenario, tokens, seconds=seconds, core=core, connections=connections)
    cpu_ns = proxy.cpu_ns() - before
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"wrk gave no result; it said:\n{output}")
    requests, duration_us, p50_us, p99_us, refused, broken = map(int, line.split()[1:])
    if requests == 0:
        raise BenchError(f"no request of {scenario.name!r} was answered within {seconds} s")
    unexpected = refused if scenario.status < 400 else requests - refused
    return Run(
        requests=requests,
        cpu_us=cpu_ns / 1e3 / requests,
        per_second=requests / (duration_us / 1e6),
        p50_ms=p50_us / 1e3,
        p99_ms=p99_us / 1e3,
        faults=unexpected + broken,
    )


def _wrk(
    port: int, scenario: Scenario, tokens: Path, *, seconds: int, core: int | set[int], connections: int
) -> str:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(_SCRIPT)]
    command += [f"http://127.0.0.1:{port}{scenario.path}", "--"]
    command += [scenario.method, str(scenario.body_bytes), str(tokens)]
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 60,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core} if isinstance(core, int) else core),
    )
    if finished.returncode != 0:
        raise BenchError(f"wrk ended with {finished.returncode}; it said:\n{finished.stdout}")
    return finished.stdout
