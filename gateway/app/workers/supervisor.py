"""Keep the workers running, and see to it that every listening socket is served."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from gateway.app.errors import StartError
from gateway.app.waiting import FIRST_SYNC_S
from gateway.app.workers.messages import Brief, Drain, End, Finish, FromWorker, Leave, Report
from gateway.app.workers.process import STUCK_S, TICK_S, WorkerProcess
from gateway.app.workers.sharing import Standing, shared_out
from gateway.keys.clock import boot_clock
from gateway.observe import Totals

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
STEADY_S = 10.0
"""A worker that lived as long did not end for a reason that its successor will meet at once."""
CLOSING_S = 2.0
"""How long workers may take to close their sockets, once told, before ours are closed."""
SLACK_S = 5.0
"""What a worker may need besides the drain: for its access log, its store, what it writes behind."""
_log = logging.getLogger("gateway.app")


class Supervisor:
    """Keeps so many workers running.

    Attributes:
        places: who fills each place, or did last.
        totals: the numbers of all workers, by place.
        ends: how often workers ended, by how: ``asked``, ``crashed``, ``stuck``.
        started: every worker is there, though it may have no keys yet.
        draining: set when the gateway is about to end.
    """

    def __init__(self, count: int, brief: Brief, shares: Sequence[Sequence[int]]) -> None:
        """Take what each of ``count`` workers is told, and which of its sockets are each address's."""
        self.places: list[WorkerProcess | None] = [None] * count
        self.totals = Totals()
        self.ends = dict.fromkeys(("asked", "crashed", "stuck"), 0)
        self.started = False
        self.draining = asyncio.Event()
        self.shares = shares
        self._brief = brief
        self._unsynced_since: float | None = None
        self._finishing = False
        self._change = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._others: set[asyncio.Task[None]] = set()

    # -- The beginning.

    async def start(self) -> None:
        """Start all workers and wait until each is there. Raises StartError with the reason that one gives.

        One that ends without a reason is started again, as at any later time.
        """
        self._keepers = [self._task(self._keep_running(place)) for place in range(len(self.places))]
        self._others.add(self._task(self._look_after()))
        await self._until(lambda: self._refusal() is not None or all(p and p.report for p in self.places))
        if (refusal := self._refusal()) is not None:
            raise StartError(refusal)
        self.started = True
        self._unsynced_since = boot_clock()
        self._arrange()

    def _refusal(self) -> str | None:
        return next((p.refusal for p in self.places if p and p.refusal is not None), None)

    async def all_synced(self) -> None:
        """Wait until each worker has loaded the keys."""
        await self._until(lambda: all(p and p.report and p.report.synced for p in self.places))

    def _patient(self) -> bool:
        """Tell whether callers are to wait for the keys: at first, and where all who had them are gone.

        Not for long: then they are told why they are refused.
        """
        there = (p for _, p in self._alive() if p.standing is not Standing.OUT)
        if any(p.report and p.report.synced for p in there):
            self._unsynced_since = None
        elif self._unsynced_since is None:
            self._unsynced_since = boot_clock()
        return self._unsynced_since is not None and boot_clock() - self._unsynced_since < FIRST_SYNC_S

    # -- The life of a worker.

    async def _keep_running(self, place: int) -> None:
        pause_s = 0.0
        while not self.draining.is_set():
            began = boot_clock()
            process = WorkerProcess(functools.partial(self._on_change, place))
            self.places[place] = process
            try:
                # One writes the kept table: several would only do the same work.
                await process.start(msgspec.structs.replace(self._brief, keeps=place == 0))
            except OSError as error:
                _log.warning("worker %d cannot be started: %s", place + 1, error.strerror or error)
            else:
                if self.draining.is_set():
                    process.tell(Finish())
                self._note_end(place, process, await process.ended())
            if not self.started and process.refusal is not None:
                return
            lived_s = boot_clock() - began
            pause_s = 0.0 if lived_s > STEADY_S else min(max(2 * pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self.draining.wait()

    def _note_end(self, place: int, process: WorkerProcess, code: int) -> None:
        self.totals.depart(place)
        self._on_change(place, None)
        if self.draining.is_set() or (process.refusal is not None and not self.started):
            return
        how = "stuck" if process.stuck else "asked" if process.leaving else "crashed"
        self.ends[how] += 1
        if process.refusal is not None:
            _log.warning("worker %d cannot be started again: %s", place + 1, process.refusal)
        elif how != "stuck":  # that was told when it was noticed
            words = "was asked to end" if how == "asked" else f"ended {_in_words(code)}"
            _log.warning("worker %d (pid %d) %s and is started again", place + 1, process.pid, words)

    async def _look_after(self) -> None:
        """Ask each worker every second how it is, and replace those that do not answer."""
        before = boot_clock()
        while True:
            await asyncio.sleep(TICK_S)
            now = boot_clock()
            # No more than a tick or two: for the rest this process was stopped, and others too, perhaps.
            ran_s, before = min(now - before, 2 * TICK_S), now
            for place, process in self._alive():
                if not process.stuck and process.tick(ran_s):
                    _log.warning(
                        "worker %d (pid %d) has not answered for %g s and is replaced",
                        *(place + 1, process.pid, STUCK_S),
                    )
                    self._others.add(self._task(process.kill()))
            self._arrange()

    def _alive(self) -> list[tuple[int, WorkerProcess]]:
        return [(place, process) for place, process in enumerate(self.places) if process and process.alive]

    # -- What changes.

    def _on_change(self, place: int, message: FromWorker | None) -> None:
        if isinstance(message, Report) and message.numbers is not None:
            self.totals.tell(place, message.numbers)
        self._arrange()
        self._change.set()

    def _arrange(self) -> None:
        """Let who wants to leave, and see to it that the others have all sockets."""
        # Before all are there, one may yet say why the gateway cannot start: then nobody has been let in.
        if self._finishing or not self.started:
            return
        standings = [process.standing if process else Standing.OUT for process in self.places]
        for place, process in self._alive():
            others = standings[:place] + standings[place + 1 :]
            if process.wants_to_leave and not process.leaving and not self.draining.is_set():
                process.leaving = Standing.SERVES in others
                standings[place] = Standing.OUT if process.leaving else standings[place]
        wanted = shared_out(self.shares, standings, patient=self._patient())
        for place, process in self._alive():
            if not process.leaving:
                process.accept(wanted[place])
            elif not process.told_to_leave:
                process.told_to_leave = True
                process.tell(Leave())

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._change.clear()
            await self._change.wait()

    # -- The end.

    async def drain(self, delay_s: float, turn_away: Callable[[], None]) -> None:
        """Have callers accepted for ``delay_s`` seconds more, then nobody; workers finish what runs.

        ``turn_away`` lets no further connection begin, also where no worker is left to see to that.
        """
        self.draining.set()
        self._tell_all(Drain())
        await asyncio.sleep(delay_s)
        turn_away()
        self._finishing = True
        self._tell_all(Finish())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._until(lambda: not any(p.report and p.report.accepting for _, p in self._alive()))

    async def finish(self, patience_s: float) -> None:
        """Wait until all workers have ended, at most ``patience_s`` seconds and what they need besides."""
        await asyncio.wait(self._keepers, timeout=patience_s + SLACK_S)

    async def stop(self) -> None:
        """End all workers at once; safe to call twice."""
        self.draining.set()
        self._finishing = True
        self._tell_all(End())
        if self._keepers:
            await asyncio.wait(self._keepers, timeout=SLACK_S)
        await asyncio.gather(*(process.kill() for _, process in self._alive()))
        for task in (*self._keepers, *self._others):
            task.cancel()
        await asyncio.gather(*self._keepers, *self._others, return_exceptions=True)

    def _tell_all(self, order: Drain | Finish | End) -> None:
        for _, process in self._alive():
            process.tell(order)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(_tell_fault)
        task.add_done_callback(self._others.discard)
        return task


def _tell_fault(task: asyncio.Task[None]) -> None:
    """Say it where a task of the supervisor fails: that is a fault of ours, and nobody awaits it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the supervisor failed", exc_info=error)


def _in_words(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
