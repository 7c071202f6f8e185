"""Start this program's other processes, each a fresh interpreter, never a fork; and end who is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LAST_WORD_S = 1.0
"""How long one that is being ended may take to say where it was stuck."""

_DESCRIPTORS = 16
"""More than a start needs: pipes with both their ends, and what tells whether the program was found."""

# Not `-m`, which would look into the working directory first: the program that runs is the one to run.
# A terminal's signals are the gateway's alone, from the first moment.
_PROGRAM = (
    "import signal, sys; "
    "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)]; "
    "sys.path.append(sys.argv.pop(1)); from {module} import main; main()"
)
_ROOT = str(Path(__file__).resolve().parents[2])


def program(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that calls a module's ``main``; ``arguments`` follow in its ``sys.argv``."""
    return (sys.executable, "-P", "-c", _PROGRAM.format(module=module), _ROOT, *arguments)


async def start(command: Sequence[str], **options: Any) -> Process:
    """Start a process; ``options`` are those of ``create_subprocess_exec``. Raises OSError."""
    _check_room()
    return await asyncio.create_subprocess_exec(*command, **options)


def _check_room() -> None:
    """Raise OSError where too few files can be open for a new process.

    uvloop finds out half-way (0.23), and leaves open what it has opened: each try would take more.
    """
    held: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        for descriptor in held:
            os.close(descriptor)


async def end_stuck(process: Process) -> None:
    """End a process that does not listen: by a signal that has it say where it is stuck, then by force."""
    for number in (signal.SIGABRT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            # Not `wait_for`, which in Python 3.11 may swallow that it is cancelled.
            async with asyncio.timeout(LAST_WORD_S):
                await process.wait()
            return
