"""A world over one SQLite file: what can befall the file, and who of several workers has which connection."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tests.faults.callers import Backend
from tests.faults.replica import Replica
from tests.faults.stage import Stage
from tests.faults.world import World, settings

WORKERS = 4
ESTABLISHED = "01"


class FileWorld(World):
    """A gateway of several workers over the file at ``path``."""

    def __init__(self, directory: Path, *, workers: int = WORKERS) -> None:
        self.path = directory / "gateway.db"
        stage = Stage()
        backend = Backend(stage)
        url = f"sqlite:///{self.path}"
        replica = Replica(
            directory / "gateway", url, backend.port, settings(), flags=("--workers", str(workers))
        )
        super().__init__(stage, backend, [replica], url)

    def backup(self) -> Path:
        """Copy what the file holds, as SQLite's own backup does; return the copy."""
        copy = self.path.with_name("backup.db")
        copy.unlink(missing_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self.path)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        copy.chmod(0o600)
        return copy

    def unlink(self) -> None:
        """Lose the file, and what SQLite keeps beside it."""
        for tail in ("", "-wal", "-shm"):
            Path(f"{self.path}{tail}").unlink(missing_ok=True)

    def put(self, copy: Path) -> None:
        """Put a copy in the place of the file, whoever has that open."""
        for tail in ("-wal", "-shm"):
            Path(f"{self.path}{tail}").unlink(missing_ok=True)
        os.replace(copy, self.path)

    @property
    def workers(self) -> dict[int, set[int]]:
        """Return the processes that hold callers' connections, each with the callers' ports."""
        port = self.replicas[0].port
        found = {pid: accepted(pid, port) for pid in self.replicas[0].family}
        return {pid: ports for pid, ports in found.items() if ports}

    @contextlib.contextmanager
    def frozen_worker(self) -> Iterator[int]:
        """Stop the worker with the most connections where it stands, note those as its own, and lend it."""
        workers = self.workers
        worker = max(workers, key=lambda pid: len(workers[pid]))
        os.kill(worker, signal.SIGSTOP)
        self.evidence.severed |= accepted(worker, self.replicas[0].port)
        try:
            yield worker
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def accepted(pid: int, port: int) -> set[int]:
    """Return the far ends' ports of the connections to ``port`` that a process has accepted."""
    try:
        held = _open_files(pid)
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    found = set()
    for line in lines:
        _, here, there, state, *rest = line.split()
        inode = rest[5]
        if state == ESTABLISHED and int(here.split(":")[1], 16) == port and f"socket:[{inode}]" in held:
            found.add(int(there.split(":")[1], 16))
    return found


def _open_files(pid: int) -> set[str]:
    """Return what a process has open; what it closes meanwhile is left out. Raises OSError."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found
