"""What several workers bring: requests a second, and what a request costs, against one worker."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.backends import Backends
from tests.bench.compare import SCENARIOS
from tests.bench.contenders import Contender, Setting, make_key, start_gateway, unknown_token
from tests.bench.load import CONNECTIONS, Run, Scenario, measure
from tests.bench.table import scenario_table

_SCENARIOS = ("get", "unknown")


def workers(
    count: int, scenarios: Sequence[str], *, rounds: int, seconds: int, say: Callable[[str], None]
) -> bool:
    """Print a table of one worker against ``count``; tell whether every answer was the one expected.

    Gateway, load and backend share all cores: only where there are more than all of them can fill do
    requests a second tell what a worker adds.
    """
    everywhere = os.sched_getaffinity(0)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        backends = Backends(core=everywhere, directory=directory)
        stack.callback(backends.stop)
        store = directory / "gateway.db"
        token = make_key(store, "viewer")
        setting = Setting(directory, backends, everywhere, {}, store)
        running: list[Contender] = []
        for number in (1, count):
            name = f"{number} worker{'s' if number > 1 else ''}"
            running.append(start_gateway(setting, name, access_log="none", workers=number))
            stack.callback(running[-1].process.stop)
        shared = f"{len(everywhere)} cores for all"
        say(f"{rounds} round(s) of {seconds} s, {CONNECTIONS} keep-alive connections, {shared}")
        well = True
        for scenario in (SCENARIOS[name] for name in scenarios or _SCENARIOS):
            tokens = directory / "tokens"
            tokens.write_text((unknown_token() if scenario.status == 401 else token) + "\n")
            well &= _scenario(scenario, running, tokens, rounds, seconds, everywhere, say)
        return well


def _scenario(
    scenario: Scenario,
    running: list[Contender],
    tokens: Path,
    rounds: int,
    seconds: int,
    everywhere: set[int],
    say: Callable[[str], None],
) -> bool:
    runs: dict[str, list[Run]] = {contender.name: [] for contender in running}
    for _ in range(rounds):
        for contender in running:
            run = measure(
                *(contender.process, contender.port, scenario, tokens),
                seconds=seconds,
                core=everywhere,
                connections=CONNECTIONS,
            )
            runs[contender.name].append(run)
    resident = {contender.name: contender.process.rss_mb() for contender in running}
    say("\n" + scenario_table(scenario.name, runs, resident))
    return all(run.faults == 0 for each in runs.values() for run in each)
