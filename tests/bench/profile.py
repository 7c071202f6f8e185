"""Where the gateway's time goes, by function: cProfile around the real process under load.

cProfile charges Python calls more than they cost and sees nothing inside the loop's own C code, so
the order is what counts here, not the figures.
"""

from __future__ import annotations

import io
import pstats
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench.backends import Backends
from tests.bench.contenders import Setting, make_key, start_gateway, unknown_token
from tests.bench.load import CONNECTIONS, Scenario, measure
from tests.bench.machine import BenchError, cores

_LINES = 30


def profile(scenario: Scenario, *, seconds: int, say: Callable[[str], None]) -> bool:
    """Print the functions that took the most time of their own under ``scenario``."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        proxy_core, load_core = cores()
        backends = Backends(core=load_core, directory=directory)
        stack.callback(backends.stop)
        store, result = directory / "gateway.db", directory / "profile"
        tokens = directory / "tokens"
        known = make_key(store, "editor")
        tokens.write_text((unknown_token() if scenario.status == 401 else known) + "\n")
        setting = Setting(directory, backends, proxy_core, {}, store)
        around = ("-m", "cProfile", "-o", str(result))
        contender = start_gateway(setting, "gateway", access_log="none", around=around)
        stack.callback(contender.process.stop)
        run = measure(
            contender.process,
            contender.port,
            scenario,
            tokens,
            seconds=seconds,
            core=load_core,
            connections=CONNECTIONS,
        )
        contender.process.stop()
        if not result.exists():
            raise BenchError(
                f"no profile was written; the gateway said:\n{contender.process.log.read_text()}"
            )
        text = io.StringIO()
        pstats.Stats(str(result), stream=text).strip_dirs().sort_stats("tottime").print_stats(_LINES)
        say(f"{scenario.name}: {run.requests} requests\n{text.getvalue()}")
        return run.faults == 0
