"""One worker process, as the supervisor sees it: from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable

import msgspec

from gateway.app.children import LAST_WORD_S, end_stuck, program, start
from gateway.app.workers.channel import Channel
from gateway.app.workers.messages import Accept, Ask, Brief, FromWorker, Leaving, Refused, Report, ToWorker
from gateway.app.workers.sharing import Standing

TICK_S = 1.0
"""How often a worker is asked how it is."""
SILENT_S = 1.5
"""A worker that has not answered for so long gets no connection."""
STUCK_S = 5.0
"""One that has not answered for so long will not; callers have waited long enough."""
START_S = 60.0
"""One that has not started by then will not. A busy machine takes seconds to start several at once."""
_DECODER = msgspec.msgpack.Decoder(FromWorker)


class WorkerProcess:
    """One worker process.

    Attributes:
        report: how it stood when it was last heard of.
        refusal: why it cannot start, if it said so.
        wants_to_leave: somebody asked it to end.
        leaving: it is to end, while the others go on; ``told_to_leave``: it knows.
        stuck: it did not answer, and is being ended.
    """

    def __init__(self, on_change: Callable[[FromWorker | None], None]) -> None:
        """Take what is called with what the worker says; with None when it will say no more."""
        self.report: Report | None = None
        self.refusal: str | None = None
        self.wants_to_leave = False
        self.leaving = False
        self.told_to_leave = False
        self.stuck = False
        self._on_change = on_change
        self._channel = Channel(_DECODER, self._on_message, self._on_lost)
        self._heard_out = asyncio.Event()
        self._process: Process | None = None
        self._accepts: frozenset[int] = frozenset()
        self._asked = 0
        self._answered = asyncio.Event()
        self._silent_s = 0.0

    async def start(self, brief: Brief) -> None:
        """Start the process, and tell it what it needs to know."""
        with contextlib.ExitStack() as stack:
            ours, its = map(stack.enter_context, socket.socketpair())
            self._process = await start(
                program("gateway.app.workers.main", str(its.fileno())),
                stdin=DEVNULL,
                pass_fds=(its.fileno(), brief.log_lock, *brief.sockets),
            )
            await self._channel.open(socket.socket(fileno=ours.detach()))
        # By a socket: the settings hold the pepper.
        self._channel.send_bytes(pickle.dumps(brief))

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def answers(self) -> bool:
        """Tell whether it answered when it was asked last, a short time ago at most."""
        return self.report is not None and self._silent_s < SILENT_S

    @property
    def standing(self) -> Standing:
        """Tell what may be asked of the worker now."""
        if self.report is None or not self.answers or self.leaving or self._heard_out.is_set():
            return Standing.OUT
        return Standing.SERVES if self.report.ready else Standing.WAITS

    async def ended(self) -> int:
        """Wait until the process has ended and all that it said was heard; return its exit code."""
        assert self._process is not None
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await self._heard_out.wait()
        self._channel.close()
        return code

    # -- What it is told.

    def tell(self, order: ToWorker) -> None:
        """Send an order."""
        self._channel.send(order)

    def accept(self, sockets: frozenset[int]) -> None:
        """Have it accept from these sockets and from no others."""
        if sockets != self._accepts:
            self._accepts = sockets
            self.tell(Accept(tuple(sorted(sockets))))

    def ask(self, *, whole: bool) -> None:
        """Ask how it stands, and with ``whole`` for all numbers."""
        self._asked += 1
        self._answered.clear()
        self.tell(Ask(self._asked, whole))

    async def answered(self) -> None:
        """Wait until it has answered all that it was asked, or will say no more."""
        while not self._has_answered():
            await self._answered.wait()

    def tick(self, ran_s: float) -> bool:
        """Ask how it stands; True where it has been silent for too long.

        ``ran_s`` is for how long, since the last tick, the supervisor ran itself: where everything
        was stopped and goes on, nobody has been silent.
        """
        if not self._has_answered() or self.report is None:
            self._silent_s += ran_s
        else:
            self._silent_s = 0.0
            self.ask(whole=False)
        return self._silent_s >= (START_S if self.report is None else STUCK_S)

    async def kill(self) -> None:
        """End it, though it does not listen."""
        assert self._process is not None
        self.stuck = True
        await end_stuck(self._process)

    # -- What it says.

    def _has_answered(self) -> bool:
        return self._heard_out.is_set() or (self.report.number if self.report else 0) >= self._asked

    def _on_message(self, message: FromWorker) -> None:
        if isinstance(message, Report):
            self.report = message
            if self._has_answered():
                self._silent_s = 0.0
                self._answered.set()
        elif isinstance(message, Refused):
            self.refusal = message.why
        elif isinstance(message, Leaving):
            self.wants_to_leave = True
        self._on_change(message)

    def _on_lost(self) -> None:
        self._heard_out.set()
        self._answered.set()
        self._on_change(None)
