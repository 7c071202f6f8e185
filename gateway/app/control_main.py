"""What runs in the control process: the control API until the gateway that started it is gone.

It reads its settings from standard input, says on standard output that it serves or in one sentence
why it does not, answers a line with a line, and ends when standard input does. Signals are for the
gateway, which gets the same ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import pickle
import signal
import socket
import sys
import time

from gateway.app.building import open_the_store
from gateway.app.control import serve_control
from gateway.app.control_process import HERE, READY, STORE_OUT_CODE
from gateway.app.errors import StartError, StoreOutError
from gateway.app.loop import run_loop
from gateway.config.settings import Settings
from gateway.control.permissions import DataPath
from gateway.core.decision import Snapshot
from gateway.core.model import KeyTable
from gateway.core.routes import Router
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock

NICENESS = 19
"""Callers of backends go before whoever manages keys (nice(2)): with less, each turn of this process on a
core that they fill is felt in their 99th percentile."""


def main() -> None:
    """Serve on the listening socket whose descriptor is the first argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # SIGABRT, by which who is stuck is ended, then tells where.
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="gateway: %(message)s")
    os.nice(NICENESS)
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    settings: Settings = pickle.loads(sys.stdin.buffer.read(size))  # noqa: S301  the gateway's own, by its pipe
    try:
        with socket.socket(fileno=int(sys.argv[1])) as listener:
            run_loop(_serve(settings, listener))
    except StartError as error:
        _say(str(error).encode())
        sys.exit(STORE_OUT_CODE if isinstance(error, StoreOutError) else 1)


async def _serve(settings: Settings, listener: socket.socket) -> int:
    async with contextlib.AsyncExitStack() as stack:
        store, digester = await open_the_store(settings, stack, migrate=False)
        data_path = DataPath(lambda: _snapshot(settings, digester), boot_clock)
        await serve_control(settings, store, digester, listener, data_path, stack)
        _say(READY)
        await _answer_until_the_end()
    return 0


async def _answer_until_the_end() -> None:
    """Answer whoever started this process, a line for a line, until it is gone or wants this to end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        _say(HERE)
    pipe.close()


def _snapshot(settings: Settings, digester: Digester) -> Snapshot:
    """Return what the data path decides by, with a key table that knows nobody and was read just now."""
    table = KeyTable()
    table.synced_at = boot_clock()
    table.store_offset_s = time.time() - table.synced_at
    return Snapshot(
        router=Router(settings.routes),
        roles=settings.roles,
        keys=table,
        digester=digester,
        freshness=settings.freshness,
    )


def _say(line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # whoever started us is gone: the end of input says so too
        os.write(sys.stdout.fileno(), line + b"\n")
