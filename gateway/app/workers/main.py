"""What runs in a worker: one process's data path, as the supervisor wants it.

A terminal's signals are for the supervisor, which tells its workers what follows from them. SIGTERM
to a worker asks for the end of that one: the supervisor is told, and sees to it that others serve
its callers. When the supervisor is gone, what runs is finished and nothing else begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import pickle
import signal
import socket
import sys
import time
from collections.abc import Iterable
from typing import NoReturn

import msgspec
from prometheus_client.registry import Collector

from gateway.app.building import built_gateway
from gateway.app.errors import StartError
from gateway.app.gateway import Gateway
from gateway.app.loop import collect_rarely, run_loop
from gateway.app.waiting import either
from gateway.app.workers.channel import Channel, read_first
from gateway.app.workers.messages import (
    Accept,
    Ask,
    Brief,
    Drain,
    End,
    Finish,
    Leave,
    Leaving,
    Refused,
    Report,
    ToWorker,
)
from gateway.observe import Family, families_of

LOOK_S = 0.1
"""How often a worker looks whether it stands otherwise than it told."""
NUMBERS_SHARE = 0.01
"""The part of the time that may be spent on numbers that nobody has asked for."""


def main() -> None:
    """Work for the supervisor at the other end of the socket whose descriptor is the first argument."""
    # SIGABRT, by which the supervisor ends who is stuck, then tells where.
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="gateway: %(message)s")
    end = socket.socket(fileno=int(sys.argv[1]))
    try:
        brief: Brief = pickle.loads(read_first(end))  # noqa: S301  the supervisor's own, by its socket
    except EOFError:
        sys.exit(1)
    sys.exit(run_loop(_Worker(brief).run(end)))


class _Worker:
    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._listeners = [socket.socket(fileno=descriptor) for descriptor in brief.sockets]
        self._channel = Channel(msgspec.msgpack.Decoder(ToWorker), self._on_message, self._on_lost)
        self._orders: asyncio.Queue[Accept | Leave | Finish] = asyncio.Queue()
        self._to_finish = asyncio.Event()
        self._to_end = asyncio.Event()
        self._gone = asyncio.Event()
        self._accepting: set[int] = set()
        self._gateway: Gateway | None = None
        self._shown: tuple[Collector, Collector] | None = None
        self._asked = 0
        self._numbers_from = 0.0

    async def run(self, end: socket.socket) -> int:
        """Serve until the supervisor says otherwise, or is gone; return the exit code."""
        await self._channel.open(end)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: self._channel.send(Leaving()))
        try:
            async with contextlib.AsyncExitStack() as stack:
                gateway = await built_gateway(
                    self._brief.settings,
                    stack,
                    migrate=not self._brief.migrated,
                    log_lock=self._brief.log_lock,
                    pseudonym=self._brief.pseudonym,
                    keeps=self._brief.keeps,
                )
                await self._serve(gateway)
        except StartError as error:
            self._channel.send(Refused(str(error)))
            return 1
        finally:
            for listener in self._listeners:
                listener.close()
            self._channel.close()
            await self._gone.wait()
        return 0

    async def _serve(self, gateway: Gateway) -> None:
        gateway.feed.start()
        await gateway.server.start([])
        self._gateway = gateway
        self._shown = gateway.metrics(), gateway.registry()
        self._report()
        await either(self._follow_orders(gateway), self._to_end.wait(), self._tell_changes(gateway))
        self._report(whole=True)

    async def _tell_changes(self, gateway: Gateway) -> NoReturn:
        """Report when the keys have been loaded, and when they become unfit to judge by or fit again."""
        told = False, False
        while True:
            stands = gateway.feed.synced.is_set(), gateway.standing()[0]
            if stands != told:
                told = stands
                self._report()
                if stands[0]:
                    collect_rarely()
            await asyncio.sleep(LOOK_S)

    # -- What is heard.

    def _on_message(self, message: ToWorker) -> None:
        if isinstance(message, Ask):
            self._asked = message.number
            self._report(whole=message.whole)
        elif isinstance(message, Drain):
            if self._gateway is not None:
                self._gateway.server.draining = True
        elif isinstance(message, End):
            self._to_end.set()
        else:
            if isinstance(message, Finish):
                self._to_finish.set()
            self._orders.put_nowait(message)

    def _on_lost(self) -> None:
        """Finish what runs: the supervisor is gone, or has heard all that there is to hear."""
        self._gone.set()
        self._to_finish.set()
        self._orders.put_nowait(Finish())

    # -- What is done.

    async def _follow_orders(self, gateway: Gateway) -> None:
        while True:
            order = await self._orders.get()
            if isinstance(order, Accept):
                await self._accept(gateway, set(order.sockets))
            elif isinstance(order, Leave):
                await self._leave(gateway)
                return
            else:
                await self._finish(gateway)
                return

    async def _accept(self, gateway: Gateway, wanted: set[int]) -> None:
        """Accept from these sockets and from no others."""
        self._release(gateway, self._accepting - wanted)
        for number in wanted - self._accepting:
            await gateway.server.accept(self._listeners[number])
        self._accepting = wanted
        self._report()

    def _release(self, gateway: Gateway, sockets: Iterable[int]) -> None:
        for number in sockets:
            gateway.server.release(self._listeners[number])

    async def _leave(self, gateway: Gateway) -> None:
        """Leave all sockets to the other workers; callers have time to notice that they should go."""
        self._release(gateway, self._accepting)
        self._close_listeners()
        gateway.server.draining = True
        await either(
            self._to_finish.wait(),
            gateway.server.emptied(),
            within_s=self._brief.settings.timeouts.drain_delay,
        )
        await gateway.finish()

    async def _finish(self, gateway: Gateway) -> None:
        """Take in what has queued, accept no more, and finish what runs."""
        gateway.server.draining = True
        await gateway.server.stop_accepting()
        self._close_listeners()
        await gateway.finish()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._accepting = set()
        self._report()

    # -- What is told.

    def _report(self, *, whole: bool = False) -> None:
        gateway = self._gateway
        if gateway is None:
            return
        ready, sentence = gateway.standing()
        self._channel.send(
            Report(
                self._asked,
                ready,
                sentence,
                gateway.feed.synced.is_set(),
                tuple(sorted(self._accepting)),
                self._numbers(whole=whole),
            )
        )

    def _numbers(self, *, whole: bool) -> list[Family] | None:
        """Return the metrics, unless reading them costs more than they are worth just now."""
        began = time.perf_counter()
        if self._shown is None or (not whole and began < self._numbers_from):
            return None
        own, all_of_them = self._shown
        numbers = families_of(all_of_them if whole else own)
        ended = time.perf_counter()
        self._numbers_from = ended + (ended - began) / NUMBERS_SHARE
        return numbers
