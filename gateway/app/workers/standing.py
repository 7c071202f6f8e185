"""How the workers stand together, for probes and scrapes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.app.gateway import DRAINING
from gateway.app.workers.process import WorkerProcess
from gateway.app.workers.sharing import Standing
from gateway.app.workers.supervisor import Supervisor

SCRAPE_S = 1.0
"""How long a scrape waits for a worker's numbers; one that does not answer is shown as it was last."""
_WORDS = {Standing.SERVES: "serving", Standing.WAITS: "waiting", Standing.OUT: "out"}


class Standings(Collector):
    """What the workers are to those who probe and scrape."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def started(self) -> tuple[bool, str]:
        """Tell whether every worker was there once."""
        started = self._supervisor.started
        return started, "Started." if started else "The workers have not started yet."

    def ready(self) -> tuple[bool, str]:
        """Tell whether every listening socket is served by a worker that is ready, and who is the worst."""
        supervisor = self._supervisor
        if supervisor.draining.is_set():
            return False, DRAINING
        serving: list[WorkerProcess] = []
        troubles: list[str] = []
        for place, process in enumerate(supervisor.places):
            if process is not None and process.standing is Standing.SERVES:
                serving.append(process)
            else:
                troubles.append(f"Worker {place + 1} does not serve: {_trouble(process)}")
        if not serving:
            return False, troubles[0]
        reports = [process.report for process in serving if process.report is not None]
        served = {socket for report in reports for socket in report.accepting}
        if not served.issuperset(*supervisor.shares):
            return False, " ".join(["Not every listening socket is served yet.", *troubles])
        # The longest sentence has the most to tell.
        return True, " ".join([max((report.sentence for report in reports), key=len), *troubles[:1]])

    async def refresh(self) -> None:
        """Ask every worker that answers for its numbers, and wait a second for them at most."""
        asked = [process for process in self._supervisor.places if process and process.answers]
        for process in asked:
            process.ask(whole=True)
        if asked:
            waits = [asyncio.ensure_future(process.answered()) for process in asked]
            _, late = await asyncio.wait(waits, timeout=SCRAPE_S)
            for wait in late:
                wait.cancel()

    def collect(self) -> Iterator[Metric]:
        """Yield how many workers stand how, and how often one ended."""
        standings = [process.standing if process else Standing.OUT for process in self._supervisor.places]
        workers = GaugeMetricFamily(
            "gateway_workers",
            "Workers by state: serving; waiting for the keys; out: starting, ending or not answering.",
            labels=("state",),
        )
        for standing, word in _WORDS.items():
            workers.add_metric((word,), standings.count(standing))
        yield workers
        ends = CounterMetricFamily(
            "gateway_worker_ends",
            "Workers that ended while the gateway ran, by how: asked to, crashed, or stuck and replaced. "
            "What a worker that did not end by itself counted in its last second is lost.",
            labels=("how",),
        )
        for how, count in self._supervisor.ends.items():
            ends.add_metric((how,), count)
        yield ends


def _trouble(process: WorkerProcess | None) -> str:
    if process is None or not process.alive or process.report is None:
        return "it is being started."
    if not process.answers:
        return "it does not answer."
    return "it is ending." if process.leaving else process.report.sentence
