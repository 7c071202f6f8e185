"""The data path of one process: how it stands, and how it ends."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.config.settings import Settings
from gateway.core.model import MILLISECONDS, KeyTable, TableState
from gateway.dataplane.server import Server
from gateway.keys.feed import Feed
from gateway.keys.upkeep import Upkeep
from gateway.keys.watch import Watch
from gateway.observe import GatewayCollector, Gauges, Observer, registry_of
from gateway.store.base import Store

DRAINING = "Draining: send new requests elsewhere."
_STANDING = {
    TableState.LOADING: (False, "The key table has not been loaded yet."),
    TableState.FRESH: (True, "Ready."),
    TableState.AGING: (True, "Ready for keys that are known: the key table is {age:.0f} s old."),
    TableState.GRACE: (
        True,
        "Ready by propagation.outage_grace: the key table is {age:.0f} s old, more than {bound:g} s.",
    ),
    TableState.STALE: (False, "The key table is {age:.0f} s old, which is more than {bound:g} s."),
}


class Gateway:
    """The data path of one process: its parts, how it stands, and how it ends.

    Attributes:
        store: where the keys are kept.
        server: serves the callers.
        feed: keeps the key table in step with the store.
        watch: how the key table stands.
        upkeep: keeps the store's change log alive and small.
        observer: what is counted.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        table: KeyTable,
        observer: Observer,
        feed: Feed,
        watch: Watch,
        upkeep: Upkeep,
        server: Server,
    ) -> None:
        self.store = store
        self.server = server
        self.feed = feed
        self.watch = watch
        self.upkeep = upkeep
        self.observer = observer
        self._settings = settings
        self._table = table

    def registry(self) -> CollectorRegistry:
        """Return the metrics of this process, those of the interpreter and the system included."""
        return registry_of(self.metrics())

    def metrics(self) -> Collector:
        """Return the gateway's own metrics."""
        gauges = Gauges(
            downstream_connections=lambda: len(self.server.connections),
            upstream_connections=self._upstream_connections,
            key_table_keys=lambda: len(self._table.by_digest) + len(self._table.cold),
            key_table_age_s=lambda: self.watch.age_s,
            store_up=lambda: self.feed.store_up,
            key_table_state=lambda: self.watch.state,
            key_table_loads=lambda: self.feed.loads,
            store_clock_skew_s=lambda: self.watch.skew_s,
            canary_at_s=lambda: self.feed.canary_at / MILLISECONDS,
            canary_age_s=lambda: self.upkeep.canary_age_s,
        )
        return GatewayCollector(self.observer, gauges, __version__)

    def _upstream_connections(self) -> list[tuple[str, str, int]]:
        rows = []
        for name, pool in self.server.pools.items():
            rows.append((name, "active", len(pool.open) - pool.idle_count))
            rows.append((name, "idle", pool.idle_count))
        return rows

    def ready(self) -> tuple[bool, str]:
        """Tell whether requests should be sent here, and one sentence about it."""
        if self.server.draining:
            return False, DRAINING
        return self.standing()

    def standing(self) -> tuple[bool, str]:
        """Tell whether the key table is fit to judge by, and one sentence about it."""
        well, sentence = _STANDING[self.watch.state]
        told = sentence.format(age=self.watch.age_s, bound=self._settings.freshness.bound_s)
        return well, f"{told}{self._from_kept()}{self._outage()}"

    def _from_kept(self) -> str:
        return f" Serving from the kept table, {self.watch.age_s:.0f} s old." if self.feed.from_kept else ""

    def _outage(self) -> str:
        error = self.feed.last_error
        if error:
            return f" The store is out: {error}."
        return " All keys are being read." if self.feed.loading else ""

    async def finish(self) -> None:
        """Finish what runs, for as long as the settings allow."""
        await self.server.finish(self._settings.timeouts.drain)
