"""Write one JSON line a request, in batches, without ever making the event loop wait.

The hot path appends to a list. A coarse timer (or a full batch) formats the list on the loop, which
takes a fraction of a millisecond, and hands the bytes to one writer thread through a bounded queue:
a pipe that nobody reads stops that thread alone. What the queue cannot take is dropped and counted.
Where several processes write to one log they take turns, by a lock: a pipe keeps no more than 4096
bytes of a write together (pipe(7)), and lines may be longer.
Imports ``core`` and the outcome.

Promise: one line a request, whatever the request held; nothing that was queued is lost at a close
that the reader keeps up with.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Iterator

import msgspec

from gateway.observe.masking import presentable_target
from gateway.observe.outcome import Outcome

BATCH_LINES = 256  # formatting these takes well under a millisecond
BATCH_INTERVAL_S = 0.15
QUEUED_BATCHES = 64  # some 16,000 lines, about 6 MB
QUEUED_BYTES = 16 << 20  # strangers choose how long their lines are
CLOSE_WITHIN_S = 5.0
LOOK_INTERVAL_S = 1.0  # how often a file's path is compared with the file that is open
_LONGEST_METHOD = 32


class _Line(msgspec.Struct, gc=False):
    time: str
    request_id: str
    route: str
    method: str
    target: str
    status: int
    reason: str | None
    duration_ms: float
    upstream_ms: float | None
    bytes_in: int
    bytes_out: int
    key_id: str | None
    tenant: str | None
    peer: str


def open_access_log(path: str, lock: int | None = None) -> AccessLog | None:
    """Return the log that ``path`` names: ``stdout``, ``stderr``, ``none`` (None) or a file.

    A file is appended to, and made with mode 0640 where it does not exist. ``lock`` is the descriptor
    of a file that all writers have: who holds its lock may write. Raises OSError when the log cannot
    be opened.
    """
    if path == "none":
        return None
    if path in ("stdout", "stderr"):
        return AccessLog(1 if path == "stdout" else 2, lock=lock)
    return AccessLog(_open(path), path, lock)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


class AccessLog:
    """The access log of one process. ``add``, ``start``, ``flush``, ``close`` belong to the loop's thread."""

    def __init__(self, descriptor: int, path: str | None = None, lock: int | None = None) -> None:
        """Write to ``descriptor``; with ``path``, follow rotations and close it at the end.

        ``lock``: of a file whose lock is to be held while writing.
        """
        self._unqueued = 0
        self._queued_bytes = 0
        self._batch: list[Outcome] = []
        self._queue: queue.Queue[tuple[bytes, int] | None] = queue.Queue(QUEUED_BATCHES)
        self._formatter = _Formatter()
        self._writer = _Writer(descriptor, path, lock)
        self._thread = threading.Thread(
            target=self._writer.run, args=(self._queue,), name="access-log", daemon=True
        )
        self._thread.start()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        """Lines given up so far: the queue was full, or the file or pipe refused them."""
        return self._unqueued + self._writer.dropped

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush every 150 ms on ``loop`` until ``close``."""
        self.flush()
        self._timer = loop.call_later(BATCH_INTERVAL_S, self.start, loop)

    def add(self, outcome: Outcome) -> None:
        """Take one outcome; it is written within 150 ms."""
        batch = self._batch
        batch.append(outcome)
        if len(batch) >= BATCH_LINES:
            self.flush()

    def flush(self) -> None:
        """Format what was taken and hand it to the writer."""
        batch = self._batch
        if not batch:
            return
        self._batch = []
        lines = self._formatter.lines(batch)
        waiting_bytes = self._queued_bytes - self._writer.taken_bytes
        # Only this thread puts: what has room now has it below.
        if self._queue.full() or waiting_bytes + len(lines) > QUEUED_BYTES:
            self._unqueued += len(batch)
            return
        self._queue.put_nowait((lines, len(batch)))
        self._queued_bytes += len(lines)

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """Write what is left, waiting at most ``within_s`` seconds; tell whether all of it was written."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = time.monotonic() + within_s
        self.flush()
        try:
            self._queue.put(None, timeout=within_s)
        except queue.Full:
            return False
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()


class _Formatter:
    """Outcomes to lines; the text of a second is made once."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._second = -1
        self._second_text = ""

    def lines(self, batch: list[Outcome]) -> bytes:
        return b"\n".join([*map(self._line, batch), b""])

    def _line(self, outcome: Outcome) -> bytes:
        key = outcome.key
        upstream_s = outcome.upstream_s
        return self._encode(
            _Line(
                self._time(outcome.at),
                outcome.request_id.decode("ascii", "backslashreplace"),
                outcome.route,
                outcome.method[:_LONGEST_METHOD].decode("ascii", "backslashreplace"),
                presentable_target(outcome.target),
                outcome.status,
                outcome.reason,
                int(outcome.duration_s * 1e6) / 1e3,
                None if upstream_s is None else int(upstream_s * 1e6) / 1e3,
                outcome.bytes_in,
                outcome.bytes_out,
                None if key is None else key.key_id,
                None if key is None else key.tenant_id,
                outcome.peer,
            )
        )

    def _time(self, at: float) -> str:
        milliseconds = int(at * 1000)
        second = milliseconds // 1000
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{milliseconds % 1000:03d}Z"


class _Writer:
    """The thread's half: takes batches from the queue and writes them whole."""

    def __init__(self, descriptor: int, path: str | None, lock: int | None) -> None:
        self.dropped = 0
        self.taken_bytes = 0
        self._descriptor = descriptor
        self._path = path
        self._lock = lock
        self._looked_at = time.monotonic()
        self._failing = False
        self._left_behind = False
        self._torn = False

    def run(self, batches: queue.Queue[tuple[bytes, int] | None]) -> None:
        """Write until the queue yields None."""
        while (item := batches.get()) is not None:
            if self._path is not None:
                self._follow(self._path)
            with self._turn():
                self._write(*item)
            self.taken_bytes += len(item[0])
        if self._path is not None:
            os.close(self._descriptor)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from writing meanwhile; the end of a process ends its turn."""
        if self._lock is None:
            yield
            return
        # POSIX locks belong to processes (fcntl(2)): flock's would be shared with whoever inherited it.
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _write(self, lines: bytes, count: int) -> None:
        if not lines:
            return
        # A line that a full disk cut short must not swallow the next one.
        rest = memoryview(b"\n" + lines if self._torn else lines)
        written = 0
        try:
            while written < len(rest):
                written += self._write_some(rest[written:])
        except OSError as error:
            self.dropped += count - bytes(rest[:written]).count(b"\n")
            self._torn = written > 0 and rest[written - 1] != ord("\n")
            self._say(f"the access log cannot be written ({error.strerror}): lines are dropped and counted")
            return
        self._torn = False
        self._failing = False

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            # A stream that came to us non-blocking, as terminals shared with other programs do.
            select.select([], [self._descriptor], [])
            return 0

    def _follow(self, path: str) -> None:
        """Open the path anew once another file or none is there: a rotation moves the file away."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = now
        try:
            if self._is_open(path):
                return
            descriptor = _open(path)
        except OSError as error:
            if not self._left_behind:
                self._say(
                    f"the access log {path} cannot be reopened ({error.strerror}): the old file is kept"
                )
            self._left_behind = True
            return
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._left_behind = False

    def _is_open(self, path: str) -> bool:
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _say(self, sentence: str) -> None:
        if not self._failing:
            self._failing = True
            print(f"gateway: {sentence}", file=sys.stderr, flush=True)  # noqa: T201
