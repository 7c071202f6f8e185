"""The comparison: every contender under every scenario, in turns, in one run."""

from __future__ import annotations

import asyncio
import http.client
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.backends import LARGE_BYTES, Backends
from tests.bench.contenders import CONTENDERS, GATEWAYS, Contender, Setting, make_key, unknown_token
from tests.bench.load import CONNECTIONS, Run, Scenario, measure
from tests.bench.machine import BenchError, cores
from tests.bench.store import fill
from tests.bench.table import scenario_table

OTHER_KEYS = 998

SCENARIOS = {
    "get": Scenario("authenticated GET, 128-byte body", "GET", "/small", 0, 200),
    "post": Scenario("authenticated POST of 1 KiB", "POST", "/sink", 1024, 200),
    "unknown": Scenario("refusal: unknown key of the right form", "GET", "/small", 0, 401),
    "download": Scenario("authenticated GET, 1 MiB body", "GET", "/large", 0, 200),
    "upload": Scenario("authenticated POST of 1 MiB", "POST", "/sink", LARGE_BYTES, 200),
}


def compare(
    contenders: Sequence[str],
    scenarios: Sequence[str],
    *,
    rounds: int,
    seconds: int,
    say: Callable[[str], None],
) -> bool:
    """Measure, print a table a scenario, and tell whether every answer was the one expected."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        proxy_core, load_core = cores()
        backends = Backends(core=load_core, directory=directory)
        stack.callback(backends.stop)
        setting = _setting(
            directory, backends, proxy_core, with_store=bool(GATEWAYS.intersection(contenders))
        )
        running = []
        for name in contenders:
            contender = CONTENDERS[name](setting)
            stack.callback(contender.process.stop)
            _check_equal_work(contender, next(iter(setting.keys)))
            running.append(contender)
        say(
            f"{rounds} round(s) of {seconds} s, {CONNECTIONS} keep-alive connections, proxies on core"
            f" {proxy_core}, wrk and backend on core {load_core}"
            + (" (the same: figures are only good for a look)" if proxy_core == load_core else "")
        )
        well = True
        for name in scenarios:
            well &= _scenario(SCENARIOS[name], running, setting, rounds, seconds, load_core, say)
        return well


def _setting(directory: Path, backends: Backends, core: int, *, with_store: bool) -> Setting:
    """Give every contender the same keys: a viewer and an editor that are used, and many that are not."""
    store = directory / "gateway.db" if with_store else None
    if store is None:
        viewer, editor = (unknown_token() for _ in range(2))
    else:
        viewer, editor = make_key(store, "viewer"), make_key(store, "editor")
        asyncio.run(fill(store, OTHER_KEYS))
    others = [unknown_token() for _ in range(OTHER_KEYS)]
    keys = {
        token: (f"apk_{number:036d}", f"subject_{number:036d}", "default", permission)
        for number, (token, permission) in enumerate(
            [(editor, "editor"), (viewer, "viewer"), *((token, "viewer") for token in others)]
        )
    }
    return Setting(directory=directory, backends=backends, core=core, keys=keys, store=store)


def _scenario(
    scenario: Scenario,
    running: Sequence[Contender],
    setting: Setting,
    rounds: int,
    seconds: int,
    load_core: int,
    say: Callable[[str], None],
) -> bool:
    tokens = setting.directory / "tokens"
    refused = scenario.status == 401
    token = unknown_token() if refused else next(iter(setting.keys))
    tokens.write_text(token + "\n")
    runs: dict[str, list[Run]] = {contender.name: [] for contender in running}
    for number in range(rounds):
        # The one who begins changes, so that none always follows the same neighbour.
        for place in range(len(running)):
            contender = running[(number + place) % len(running)]
            run = measure(
                contender.process,
                contender.port,
                scenario,
                tokens,
                seconds=seconds,
                core=load_core,
                connections=CONNECTIONS,
            )
            runs[contender.name].append(run)
    rss_mb = {contender.name: contender.process.rss_mb() for contender in running}
    say("\n" + scenario_table(scenario.name, runs, rss_mb))
    return all(run.faults == 0 for each in runs.values() for run in each)


def _check_equal_work(contender: Contender, token: str) -> None:
    """See that the backend is told who the caller is, and not the key: else the race is not fair."""
    status, told = _ask(contender.port, "GET", "/whoami", {"X-API-KEY": token, "X-Gateway-Tenant": "forged"})
    fields = told.split("|")
    key_id, tenant, permission, peer, scheme, request_id, leaked = (*fields, *[""] * 7)[:7]
    facts = (status, key_id[:4], tenant, permission, peer, scheme, bool(request_id), leaked)
    if facts != (200, "apk_", "default", "editor", "127.0.0.1", "http", True, ""):
        raise BenchError(f"{contender.name} does not do what the others do: {status} {told!r}")
    unknown = {"X-API-KEY": unknown_token()}
    for expected, headers in ((401, {}), (401, unknown)):
        status, _ = _ask(contender.port, "GET", "/small", headers)
        if status != expected:
            raise BenchError(f"{contender.name} answers {status} where {expected} is due")


def _ask(port: int, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
