"""Processes on chosen cores, and what they cost: CPU time, memory, readiness."""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

_SCHEDULED_CPU_TIME = (
    2  # CPUCLOCK_SCHED of clock_getcpuclockid(3): nanoseconds, every thread, even ended ones
)


class BenchError(Exception):
    """The benchmark cannot run; the message says what to do."""


def cores() -> tuple[int, int]:
    """Return the core for the proxies and the one for load and backend; the same where there is but one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files to ``wanted`` as far as this user may, and return what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # only root may raise the hard limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, wanted), max(hard, wanted)))
        return max(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Process:
    """A server on one core, or on some. What it says goes to a file that is shown when it does not start.

    One that is not stopped ends with the benchmark at the latest.
    """

    def __init__(self, command: Sequence[str], *, core: int | set[int], directory: Path) -> None:
        self.log = Path(tempfile.mkstemp(dir=directory, suffix=f".{Path(command[0]).name}.log")[1])
        self.started_at = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core} if isinstance(core, int) else core),
            )
        atexit.register(self.stop)

    def pids(self) -> list[int]:
        """Return the process and all its descendants (nginx has a master and a worker)."""
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                    parents.setdefault(int(fields[1]), []).append(int(entry.name))
        found = [self._process.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def cpu_ns(self) -> int:
        """Return the CPU time of all its processes so far, user and system."""
        return sum(time.clock_gettime_ns(~pid << 3 | _SCHEDULED_CPU_TIME) for pid in self.pids())

    def rss_mb(self) -> float:
        """Return the resident memory of all its processes, in units of 10^6 bytes."""
        return sum(map(_rss_bytes, self.pids())) / 1e6

    def wait_until_ready(self, url: str, *, within_s: float = 20.0) -> float:
        """Wait until ``url`` answers anything but 5xx; return the seconds since the process was started."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                if _status_of(url) < 500:
                    return time.monotonic() - self.started_at
            time.sleep(0.02)
        said = self.log.read_text(errors="replace")[-2000:]
        raise BenchError(f"{self._process.args!r} was not ready within {within_s:.0f} s; it said:\n{said}")

    def stop(self) -> None:
        """End it: first politely (SIGINT, which nginx, HAProxy and the gateway all take for "now")."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code)
