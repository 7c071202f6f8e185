"""What a gateway makes of its table's age: frozen, without its store, and away for longer than the log."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.base import DAY_MS
from gateway.store.upkeep import keep_up
from gateway.store.urls import open_store
from tests.conftest import Start
from tests.e2e.test_propagation import WITHIN, ask, code, move_away, unknown
from tests.store.test_upkeep import run as statement
from tests.wire.backend import eventually
from tests.wire.client import Client, get
from tests.wire.product import Product, make_key, revoke

BOUND_S = 2.0
QUICK = {"bound": "2s", "poll": "200ms", "fresh": "700ms"}


@contextlib.contextmanager
def frozen(gateway: Product) -> Iterator[None]:
    """Stop the process where it stands, as a suspended machine does; let it go on at the end.

    Not where it holds the store's lock for its own writing, though: then nobody could write.
    """
    gateway.signal(signal.SIGSTOP)
    while is_locked(gateway.store):
        gateway.signal(signal.SIGCONT)
        time.sleep(0.05)
        gateway.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        gateway.signal(signal.SIGCONT)


def is_locked(store: Path) -> bool:
    with contextlib.closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


def states(gateway: Product) -> list[str]:
    names = ("loading", "fresh", "aging", "grace", "stale")
    text = gateway.ops("/metrics")[1]
    return [name for name in names if f'gateway_key_table_state{{state="{name}"}} 1.0' in text]


def told(gateway: Product, words: str) -> None:
    eventually(lambda: gateway.stderr.count(words) == 1, within=2, why=words)


@pytest.mark.parametrize("grace", ["0s", "1h"])
def test_thawed_gateway_refuses_until_it_has_read_again(product: Start, grace: str) -> None:
    """What came while it was frozen waits at its sockets and is the first that it sees."""
    gateway = product({"propagation": QUICK | {"outage_grace": grace}})
    made = make_key(gateway.store, "viewer", "frozen")
    eventually(lambda: code(gateway, made["secretKey"]) == "served", within=WITHIN)
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(Client(gateway.port)) for _ in range(20)]
        for caller in callers:
            assert caller.send(get("/warm", key=made["secretKey"])).response().status == 200
        with frozen(gateway):
            frozen_at = time.monotonic()
            revoke(gateway.store, made["id"])
            for caller in callers:
                caller.send(get("/thawed", key=made["secretKey"]))
            while time.monotonic() < frozen_at + BOUND_S + 0.3:
                time.sleep(0.05)
        for caller in callers:
            assert caller.response().code in ("key_table_stale", "key_revoked")
    eventually(lambda: code(gateway, gateway.keys.viewer) == "served", within=WITHIN, why="it has read again")
    assert code(gateway, made["secretKey"]) == "key_revoked"
    assert gateway.metric("gateway_key_table_loads_total") == 1, "the log told all that it had missed"


def test_grace_outlives_an_outage_and_says_so(product: Start) -> None:
    gateway = product({"propagation": QUICK | {"bound": "2s", "outage_grace": "2s"}})
    known = gateway.keys.viewer
    assert (states(gateway), gateway.ops("/readyz")[1]) == (["fresh"], "Ready.\n")
    aside = move_away(gateway.store)
    eventually(lambda: states(gateway) == ["aging"], within=3, why="the store is gone")
    told(gateway, "get 503 instead of 401")
    eventually(lambda: states(gateway) == ["grace"], within=3, why="and the bound has passed")
    told(gateway, "go on by propagation.outage_grace")
    assert code(gateway, known) == "served"
    assert code(gateway, unknown()) == "key_table_stale"
    status, sentence = gateway.ops("/readyz")
    if states(gateway) == ["grace"]:
        assert status == 200
        assert sentence.startswith("Ready by propagation.outage_grace: the key table is ")
        assert "The store is out: " in sentence
    eventually(lambda: states(gateway) == ["stale"], within=4, why="the grace is over too")
    told(gateway, "every key is refused")
    assert code(gateway, known) == "key_table_stale"
    status, sentence = gateway.ops("/readyz")
    assert status == 503
    assert sentence.startswith("The key table is ")
    for file in aside.iterdir():
        file.rename(gateway.store.parent / file.name)
    eventually(lambda: states(gateway) == ["fresh"], within=3)
    assert code(gateway, known) == "served"
    told(gateway, "up to date again")
    for words in ("get 503 instead of 401", "go on by propagation.outage_grace", "every key is refused"):
        assert gateway.stderr.count(words) == 1, gateway.stderr


def test_grace_is_told_at_the_start(product: Start) -> None:
    gateway = product({"propagation": {"outage_grace": "1h"}})
    assert gateway.stderr.count("propagation.outage_grace") == 1, gateway.stderr


def pass_a_day(store: Path, until: str) -> None:
    """Have all changes before the making of a key be two days old, and the log trimmed."""

    async def run() -> None:
        opened = open_store(f"sqlite://{store}")
        making = f"(SELECT number FROM changes WHERE entity = '{until}')"
        older = f"UPDATE changes SET at = at - {2 * DAY_MS} WHERE number < {making}"
        try:
            await opened.write(statement(older))
            assert await opened.write(keep_up(every_ms=0)) is not None
        finally:
            await opened.close()

    asyncio.run(run())


def test_gateway_that_was_away_for_longer_than_the_log_reads_everything_again(product: Start) -> None:
    away = product()
    other = product({"store": {"url": f"sqlite:///{away.store}"}})
    dead, live = (make_key(away.store, "viewer", name) for name in ("dead", "live"))
    for each in (away, other):
        eventually(lambda each=each: code(each, dead["secretKey"]) == "served", within=WITHIN)  # type: ignore[misc]
    with frozen(away):
        revoke(away.store, dead["id"])
        made = make_key(away.store, "viewer", "made meanwhile")
        eventually(lambda: code(other, made["secretKey"]) == "served", within=WITHIN)
        pass_a_day(away.store, made["id"])
    eventually(lambda: code(away, made["secretKey"]) == "served", within=WITHIN, why="it is in the store")
    assert code(away, dead["secretKey"]) == "key_revoked"
    assert code(away, live["secretKey"]) == "served"
    assert away.metric("gateway_key_table_loads_total") == 2
    assert other.metric("gateway_key_table_loads_total") == 1, "who was there goes on"
    assert "is no longer in the log" in away.stderr


def test_canary_of_the_fleet_is_reported_by_each_gateway(product: Start) -> None:
    first = product()
    second = product({"store": {"url": f"sqlite:///{first.store}"}})

    def seen(gateway: Product) -> float:
        return gateway.metric("gateway_canary_last_seen_timestamp_seconds")

    before = time.time()
    eventually(lambda: seen(first) > 0 and seen(first) == seen(second), within=3)
    assert abs(seen(first) - before) < 30
    for gateway in (first, second):
        assert 0 <= gateway.metric("gateway_canary_age_seconds") < 30
        assert abs(gateway.metric("gateway_store_clock_skew_seconds")) < 1
        assert gateway.metric("gateway_key_propagation_seconds_count") >= 0
    assert ask(first, first.keys.viewer).status == 200
