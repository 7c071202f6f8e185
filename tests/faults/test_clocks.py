"""Wall clocks that are set while gateways run: ages and expiries go on as the store's clock does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from gateway.core.tokens import Digester, make_token
from gateway.store.peppers import tie_pepper
from gateway.store.urls import open_store
from tests.faults.fleet import Fleet
from tests.faults.replica import PEPPER, Replica
from tests.faults.world import running
from tests.postgres import Server
from tests.store.samples import a_key, audit_of, now_ms, pepper_of
from tests.wire.backend import eventually
from tests.wire.client import Client, assert_refused, get
from tests.wire.product import free_port

HOUR = 3600
DIGESTER = Digester([PEPPER.encode()])


class SetClock:
    """The wall clock of one process, which shows what a file says; its other clocks are the machine's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0)

    def step(self, seconds: int) -> None:
        """Set it so much before or after the machine's."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:+d}")
        draft.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """Return what the process is to be started with."""
        if shutil.which("faketime") is None:
            why = "this sets a gateway's clock by faketime, which is not installed"
            assert os.environ.get("CI") != "true", why
            pytest.skip(why)
        found = subprocess.run(
            ["faketime", "-m", "-f", "+0s", "printenv", "LD_PRELOAD"],
            capture_output=True,
            text=True,
            check=True,
        )
        return {
            "LD_PRELOAD": found.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # The interpreter waits by the monotonic clock; a wait that is "fixed" comes too late.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


@pytest.fixture
def clocks(tmp_path: Path) -> list[SetClock]:
    return [SetClock(tmp_path / f"clock{number}") for number in range(2)]


@pytest.fixture
def clocked(tmp_path: Path, clocks: list[SetClock]) -> Iterator[Fleet]:
    """Two gateways over PostgreSQL, each with a clock of its own."""
    with contextlib.closing(Server()) as server:
        environments = [clock.environment for clock in clocks]
        with running(Fleet(tmp_path, server, environments=environments)) as fleet:
            yield fleet


def is_off(replica: Replica) -> float:
    """Return by how many seconds a gateway's wall clock is before the machine's, as its answers show."""
    with Client(replica.port) as client:
        date = client.send(get("/judged", key=None)).response().value("date")
    assert date is not None
    return parsedate_to_datetime(date.decode()).timestamp() - time.time()


def test_a_clock_that_is_set_forward_or_back_changes_nothing(clocked: Fleet, clocks: list[SetClock]) -> None:
    with clocked.trial():
        soon = clocked.make_expiring(2.5)
        later = clocked.make_expiring(HOUR / 2)
        clocked.calm()
        clocks[0].step(HOUR)
        clocks[1].step(-HOUR)
        for number, sign in enumerate((1, -1)):
            clocked.until(
                lambda number=number, sign=sign: sign * is_off(clocked.replicas[number]) > HOUR / 2,
                "the clock was not set",
            )
        for number in range(2):
            clocked.until(
                lambda number=number: clocked.answered(number, soon, "key_expired") > 3, "nobody asked"
            )
            clocked.until(lambda number=number: clocked.answered(number, later, "") > 3, "nobody asked")
        clocks[0].step(-HOUR)
        clocks[1].step(HOUR)
        clocked.calm(100)


async def test_the_control_api_goes_by_the_stores_clock_too(tmp_path: Path, postgres_url: str) -> None:
    """What has ended would manage keys there for as long as its machine is behind."""
    ended, live = (make_token("gw_live_", secrets.choice) for _ in range(2))
    store = open_store(postgres_url)
    await store.write(tie_pepper(pepper_of(DIGESTER)))
    for token, ends_in_s in ((ended, -1), (live, HOUR)):
        digest, pepper_id = DIGESTER.digest(token.encode()), DIGESTER.pepper_ids[0]
        key = a_key(digest=digest, pepper_id=pepper_id, expires_at=now_ms() + 1000 * ends_in_s)
        await store.insert_key(key, audit_of(key))
    await store.close()
    clock = SetClock(tmp_path / "clock")
    clock.step(-2 * HOUR)
    control = {"listen": f"127.0.0.1:{(port := free_port())}"}
    replica = Replica(
        tmp_path / "gateway", postgres_url, 1, {"control": control}, environment=clock.environment
    )
    try:
        await asyncio.to_thread(eventually, lambda: replica.is_ready, within=30)
        with Client(port) as client:
            refused = client.send(get("/api/1/api-keys", key=ended)).response()
            assert_refused(refused, 401, "key_expired")
        with Client(port) as client:
            assert client.send(get("/api/1/api-keys", key=live)).response().status == 200
    finally:
        await asyncio.to_thread(replica.stop)
