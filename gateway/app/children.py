"""Start this program's other processes: each a fresh interpreter, never a fork of one with threads."""

from __future__ import annotations

import sys
from pathlib import Path

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
