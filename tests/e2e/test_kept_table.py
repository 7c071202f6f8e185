"""A gateway that is started while its store is out serves from the table that it kept."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.core.model import Freshness
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock
from gateway.keys.restoring import KeptPlace
from tests.faults.replica import PEPPER, Replica
from tests.postgres import Server, database_name, migrated
from tests.wire.backend import Backend, eventually
from tests.wire.product import COMMAND, ROOT, clean_environment, free_port

FRESH = "1500ms"
OVER_S = 15.0
"""How soon everything must be in step again, on a busy machine."""


class Store:
    """A store that the command line manages."""

    def __init__(self, url: str, pepper: str | None) -> None:
        self.url = url
        self._environment = {"GATEWAY_PEPPER": pepper} if pepper else {}

    def manage(self, *arguments: str) -> str:
        run = subprocess.run(
            [*COMMAND, *arguments, "--store", self.url],
            capture_output=True,
            text=True,
            timeout=30,
            env=clean_environment(**self._environment),
            cwd=ROOT,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    def make(self, name: str) -> dict[str, str]:
        create = ("keys", "create", "--tenant", "default", "--name", name, "--permission", "viewer", "--json")
        return dict(json.loads(self.manage(*create)))

    def revoke(self, key: Mapping[str, str]) -> None:
        self.manage("keys", "revoke", key["id"], "--yes")


class Gateway(Replica):
    """A gateway that keeps its table; its pepper is in a variable, or beside its SQLite file."""

    def __init__(
        self, directory: Path, url: str, upstream_port: int, *, own_pepper: bool = False, **settings: Any
    ) -> None:
        self.table = directory / "kept" / "table"
        self.own_pepper = own_pepper
        propagation = {"poll": "0.3s", "fresh": FRESH, "bound": "60s", "kept_table": str(self.table)}
        propagation |= settings.pop("propagation", {})
        super().__init__(directory, url, upstream_port, {"propagation": propagation, **settings})

    def start(self) -> None:
        if self.own_pepper:
            self._environment = {}
        super().start()

    def wait_kept(self) -> None:
        """Wait until the table is on disk."""
        self.wait_ready(30)
        eventually(self.table.exists, within=OVER_S)

    def kept(self) -> dict[str, bool]:
        """Return the ids of the keys in the file, and whether each was revoked."""
        pepper = self.directory.parent / "gateway.db.pepper" if self.own_pepper else None
        digester = Digester([pepper.read_bytes().strip() if pepper else PEPPER.encode()])
        found = asyncio.run(KeptPlace(self.table, digester, Freshness()).read())
        return {str(key.key_id): key.revoked_at is not None for key in found.table.keys.values()}

    def end(self, how: str) -> None:
        if how == "killed":
            for pid in reversed(self.family):
                os.kill(pid, 9)
        else:
            self.process.terminate()
        self.process.wait(20)
        self.ended = boot_clock()

    def told_exit(self) -> str:
        """Wait for the end of a start that is refused; return what it said, with what was said before."""
        self.expected_code = 1
        assert self.process.wait(30) == 1, self.stderr
        return self.stderr

    def ask(self, token: str) -> tuple[int, str]:
        """Return the status and the code of the refusal, if it is one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/x", headers={"X-API-KEY": token})
            response = connection.getresponse()
            body = response.read()
        except OSError:
            return 0, ""
        finally:
            connection.close()
        if response.status == 503:
            assert response.getheader("Retry-After")
        return response.status, "" if response.status == 200 else str(json.loads(body)["code"])


def status_of(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


Make = Callable[..., Gateway]


@pytest.fixture
def make(tmp_path: Path, shared_backend: Backend) -> Iterator[Make]:
    made: list[Gateway] = []

    def gateway(url: str, **options: Any) -> Gateway:
        made.append(Gateway(tmp_path / "gateway", url, shared_backend.port, **options))
        return made[-1]

    yield gateway
    for each in made:
        each.stop()


def the_outage_is_outlived(
    gateway: Gateway, store: Store, end: Callable[[], None], back: Callable[[], None]
) -> None:
    """Stop the gateway and its store, start the one without the other, and bring the store back."""
    alive, dead, doomed = store.make("alive"), store.make("dead"), store.make("doomed")
    store.revoke(dead)
    eventually(lambda: gateway.ask(dead["secretKey"]) == (401, "key_revoked"), within=OVER_S)
    eventually(lambda: {alive["id"], doomed["id"]} <= gateway.kept().keys(), within=OVER_S)
    eventually(lambda: gateway.kept()[dead["id"]], within=OVER_S)
    for word in ("alive", alive["id"], alive["secretKey"][:12], "default"):
        assert word.encode() not in gateway.table.read_bytes()
    end()
    gateway.start()
    gateway.wait_ready(30)
    assert gateway.ask(alive["secretKey"]) == (200, "")
    assert gateway.ask(doomed["secretKey"]) == (200, "")
    assert gateway.ask(dead["secretKey"]) == (401, "key_revoked")
    unknown = alive["secretKey"].replace("gw_live_", "other_")
    eventually(lambda: gateway.ask(unknown) == (503, "key_table_stale"), within=OVER_S)
    status, sentence = gateway.ops("/readyz")
    assert status == 200
    assert "Serving from the kept table, " in sentence
    assert "The store is out: " in sentence
    assert gateway.stderr.count("started without the store: ") >= 1
    back()
    store.revoke(doomed)
    new = store.make("new")
    eventually(lambda: gateway.ask(doomed["secretKey"]) == (401, "key_revoked"), within=OVER_S)
    eventually(lambda: gateway.ask(new["secretKey"])[0] == 200, within=OVER_S)
    assert gateway.ask(alive["secretKey"])[0] == 200
    assert gateway.ask(unknown) == (401, "key_unknown")
    eventually(lambda: gateway.ops("/readyz") == (200, "Ready.\n"), within=OVER_S)
    assert gateway.metric("gateway_key_table_loads_total") == 0, "what followed was read, not all anew"


@pytest.mark.parametrize(("how", "workers"), [("stopped", 1), ("killed", 2)])
def test_known_keys_are_served_while_the_database_is_out(
    lone_postgres: Server, make: Make, how: str, workers: int
) -> None:
    url = migrated(lone_postgres.create_database(database_name()))
    store = Store(url, PEPPER)
    store.make("first")
    control = free_port()
    gateway = make(url, workers=workers, control={"listen": f"127.0.0.1:{control}"})
    gateway.wait_kept()

    def end() -> None:
        gateway.end(how)
        lone_postgres.stop()

    the_outage_is_outlived(gateway, store, end, lone_postgres.start)
    eventually(lambda: status_of(control, "/openapi.json") == 200, within=OVER_S)


def test_known_keys_are_served_while_the_file_is_not_to_be_had(tmp_path: Path, make: Make) -> None:
    database, away = tmp_path / "gateway.db", tmp_path / "away.db"
    store = Store(f"sqlite://{database}", None)
    store.make("first")
    gateway = make(store.url, own_pepper=True)
    gateway.wait_kept()

    def end() -> None:
        gateway.end("stopped")
        shutil.move(database, away)
        database.mkdir()

    def back() -> None:
        database.rmdir()
        shutil.move(away, database)

    the_outage_is_outlived(gateway, store, end, back)


def test_a_table_that_cannot_be_used_is_no_start_without_the_store(lone_postgres: Server, make: Make) -> None:
    url = migrated(lone_postgres.create_database(database_name()))
    key = Store(url, PEPPER).make("first")
    gateway = make(url, propagation={"bound": "3s"})
    gateway.wait_kept()
    eventually(lambda: gateway.ask(key["secretKey"])[0] == 200, within=OVER_S)
    gateway.end("killed")
    lone_postgres.stop()
    kept = gateway.table.read_bytes()

    gateway._environment = {"GATEWAY_PEPPER": "quite another pepper, of more than 32 bytes"}
    gateway.start()
    assert "was made under another pepper, or is damaged: it is not used" in gateway.told_exit()
    gateway._environment = {"GATEWAY_PEPPER": PEPPER}

    gateway.table.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    gateway.start()
    told = gateway.told_exit()
    assert "is damaged or cut off: it is not used" in told
    assert told.splitlines()[-1].startswith("gateway: the store ")
    assert gateway.table.exists()

    gateway.table.write_bytes(kept)
    eventually(lambda: boot_clock() - gateway.ended > 3, within=20)
    gateway.start()
    assert "s old, more than 3 s: it is not used" in gateway.told_exit()

    lone_postgres.start()
    gateway.start()
    gateway.expected_code = 0
    gateway.wait_ready(30)
    assert gateway.ask(key["secretKey"])[0] == 200
