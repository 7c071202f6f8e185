"""The database is away for a while in the middle of load, or dies while keys are made."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from gateway.core.tokens import make_token
from tests.faults.fleet import Fleet
from tests.faults.truth import now
from tests.faults.watching import FRESH
from tests.faults.wholeness import half_made
from tests.faults.world import running
from tests.postgres import Server
from tests.wire.backend import eventually
from tests.wire.client import Client, assert_refused, get
from tests.wire.product import free_port

BOUND = 60.0
"""Much longer than any outage here, as 300 s is than a minute."""
CREATIONS = 300
MAKERS = 4
KILLS = 6
UNKNOWN = make_token("gw_live_", lambda alphabet: alphabet[9])


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One gateway over PostgreSQL, with its control API, whose table may be a minute old."""
    more = {
        "control": {"listen": f"127.0.0.1:{(port := free_port())}"},
        "key_policy": {"max_keys_per_user": 1000},
    }
    with contextlib.closing(Server()) as server:
        fleet = Fleet(tmp_path_factory.mktemp("sturdy"), server, bound=BOUND, environments=[{}], more=more)
        fleet.replicas[0].control_port = port
        with running(fleet):
            yield fleet


def test_while_the_database_is_away_no_known_key_fails_and_nobody_is_called_unknown(sturdy: Fleet) -> None:
    with sturdy.trial() as results, sturdy.unread() as began:
        old = list(sturdy.truth.live)
        sturdy.until(lambda: sturdy.is_fresh(0, began), "it does not read")
        sturdy.server.stop()
        stopped_at = now()
        sturdy.until(lambda: sturdy.count(0, 503, "key_table_stale", since=stopped_at) > 5, "it knows all")
        with Client(sturdy.replicas[0].port) as client:
            refused = client.send(get("/judged", key=UNKNOWN)).response()
        assert_refused(refused, 503, "key_table_stale")
        assert int(refused.value("retry-after") or 0) > 0
        sturdy.until(lambda: now() - stopped_at > 3 * FRESH, "time stands still")
        sturdy.server.start()
    known = set(old) & set(sturdy.truth.live)
    during = [call for call in sturdy.asked(0, since=stopped_at) if call.token in known]
    assert len(during) > 20
    assert {call.status for call in during} == {200}
    assert results[0].agreed_after_s < 10


class Makers:
    """Makes keys by the control API, several at once, until there are so many or it is told to end."""

    def __init__(self, port: int, keys: Sequence[str], count: int) -> None:
        self.made: dict[str, str] = {}
        self.broken = 0
        self.strange: list[bytes] = []
        self._port = port
        # One after the other: each may write a hundred times a minute.
        self._keys = itertools.cycle(keys)
        self._count = count
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._make) for _ in range(MAKERS)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _make(self) -> None:
        while not self._ended.is_set() and len(self.made) < self._count:
            try:
                self._make_one()
            except (OSError, http.client.HTTPException):
                self.broken += 1
                time.sleep(0.1)

    def _make_one(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        with contextlib.closing(connection):
            fields = {"X-API-KEY": next(self._keys), "Content-Type": "application/json"}
            wanted = json.dumps({"name": "made", "ttl": 1, "permission": "viewer"})
            connection.request("POST", "/api/1/api-keys", wanted, fields)
            response = connection.getresponse()
            content = response.read()
        if response.status == 201:
            made = json.loads(content)
            self.made[made["apiToken"]] = str(made["keyId"])
        elif response.status == 503:
            raise ConnectionError
        else:
            self.strange.append(content)


def test_whatever_dies_while_keys_are_made_what_was_acknowledged_is_kept_whole(sturdy: Fleet) -> None:
    chance = random.Random(9)
    keys = [sturdy.stage.run(sturdy.writers.make_editor()) for _ in range(2 * MAKERS)]
    replica = sturdy.replicas[0]
    with contextlib.closing(Makers(replica.control_port, keys, CREATIONS)) as makers:
        for share in range(1, KILLS + 1):
            wanted = CREATIONS * share // (KILLS + 1)
            sturdy.until(lambda wanted=wanted: len(makers.made) >= wanted, "no keys are made", within=60)
            sturdy.pause(0.05 * chance.random())
            if share % 2:
                (control,) = replica.family[1:]
                os.kill(control, signal.SIGKILL)
            else:
                sturdy.server.kill()
                sturdy.server.start()
        sturdy.until(lambda: len(makers.made) >= CREATIONS, "no keys are made", within=60)
    assert not makers.strange, makers.strange[:3]
    assert makers.broken >= KILLS, "the kills came to nothing"

    rows = sturdy.server.sql("SELECT number FROM api_keys WHERE name = 'made'", sturdy.database).split()
    assert set(makers.made.values()) <= set(rows), "what was acknowledged is lost"
    assert half_made(sturdy.server, sturdy.database) == []
    with Client(replica.port) as client:
        for token in makers.made:
            eventually(lambda token=token: client.send(get("/made", key=token)).response().status == 200)
