"""Commands that are killed while they work on PostgreSQL: what they printed is kept, nothing is half made."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import pytest

from gateway.control.domain import DomainService
from gateway.control.lifetime import rfc3339
from gateway.core.tokens import Digester, make_token
from gateway.keys.peppers import open_digester
from gateway.store.base import DAY_MS, KeyRecord, Store
from gateway.store.operations import key_by_digest
from gateway.store.urls import open_store
from tests.faults.proxy import PostgresProxy
from tests.faults.replica import PEPPER
from tests.faults.stage import Stage
from tests.faults.wholeness import IMPORTED, half_made
from tests.faults.world import SEED
from tests.faults.writers import ACTOR, QuickHasher
from tests.postgres import Server
from tests.store.samples import now_ms
from tests.wire.product import COMMAND, ROOT, clean_environment

KILLS = {"create": 3, "rotate": 4, "revoke": 2, "import": 3}
LINES = 1200
"""More than one transaction imports."""
EXPIRES_AT = rfc3339(now_ms() // 1000 * 1000 + 30 * DAY_MS)
AT_ONCE = 2
LATE_S = 0.2
"""About as long as a command goes on after the last that it said to the database: it has to print yet."""


@dataclass(frozen=True)
class Doom:
    """A command is killed so long after so many pieces of its talk with the database."""

    after: int
    late_s: float


@dataclass(frozen=True)
class Ran:
    """What became of a command: what it printed, how much it talked, whether it was killed."""

    output: str
    pieces: int
    killed: bool


class Lane:
    """Runs one command after another, by a line of its own to the database."""

    def __init__(self, stage: Stage, server: Server, url: str) -> None:
        self._stage = stage
        self.proxy = PostgresProxy(stage, ("127.0.0.1", server.port))
        place = url.replace(f":{server.port}/", f":{self.proxy.port}/")
        self._environment = clean_environment(
            GATEWAY_PEPPER=PEPPER, GATEWAY_STORE__URL=f"{place}?sslmode=disable"
        )

    def run(self, arguments: Sequence[str], doom: Doom | None) -> Ran:
        """Run one of the ``keys`` commands."""
        pieces = 0

        def passing(_: bytes) -> None:
            nonlocal pieces
            pieces += 1
            if doom is not None and pieces == doom.after:
                self._stage.loop.call_later(doom.late_s, process.kill) if doom.late_s else process.kill()

        self.proxy.passing = passing
        process = subprocess.Popen(
            [*COMMAND, "keys", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=ROOT,
        )
        output, told = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), told
        return Ran(output, pieces, process.returncode != 0)


class Lanes:
    """A few lanes, to a database with some keys."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stage = Stage()
        self._url = server.migrated_database()
        self._lanes = [Lane(self._stage, server, self._url) for _ in range(AT_ONCE)]
        self.database = self._url.rpartition("/")[2]

    def run(self, commands: Sequence[tuple[Sequence[str], Doom | None]]) -> list[Ran]:
        """Run commands, as many at once as there are lanes; return what became of each."""
        free: SimpleQueue[Lane] = SimpleQueue()
        for lane in self._lanes:
            free.put(lane)

        def run(command: tuple[Sequence[str], Doom | None]) -> Ran:
            lane = free.get()
            try:
                return lane.run(*command)
            finally:
                free.put(lane)

        with ThreadPoolExecutor(len(self._lanes)) as threads:
            return list(threads.map(run, commands))

    def make(self, count: int) -> list[str]:
        """Make so many keys; return their ids."""

        async def make() -> list[str]:
            async with self._opened() as (store, digester):
                service = DomainService(store, digester, QuickHasher(), {})
                wish = {"tenant": "default", "name": "made", "permission": "viewer"}
                return [(await service.create_key(ACTOR, **wish)).record.id for _ in range(count)]

        return self._stage.run(make())

    def found(self, tokens: Sequence[str]) -> list[KeyRecord | None]:
        """Return the key that each token is."""

        async def find() -> list[KeyRecord | None]:
            async with self._opened() as (store, digester):
                digests = [digester.digest(token.encode()) for token in tokens]
                return [await store.read(key_by_digest(digest)) for digest in digests]

        return self._stage.run(find())

    def revoked(self) -> list[str]:
        """Return the ids of the keys that were revoked."""
        return self._server.sql("SELECT id FROM api_keys WHERE revoked_at > 0", self.database).split()

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Store, Digester]]:
        store = open_store(self._url)
        try:
            yield store, await open_digester(store, pepper=PEPPER)
        finally:
            await store.close()

    def close(self) -> None:
        for lane in self._lanes:
            lane.proxy.close()
        self._stage.close()


@pytest.fixture
def lanes(lone_postgres: Server) -> Iterator[Lanes]:
    with contextlib.closing(Lanes(lone_postgres)) as made:
        yield made


class Commands:
    """Makes the commands of each kind, whose keys are made or named for them alone."""

    def __init__(self, lanes: Lanes, directory: Path) -> None:
        self.imported: list[str] = []
        self._victims = iter(lanes.make(2 + KILLS["rotate"] + KILLS["revoke"]))
        self._directory = directory

    def of(self, kind: str) -> list[str]:
        """Return a new command of a kind."""
        match kind:
            case "create":
                return ["create", "--tenant", "default", "--name", "made", "--permission", "viewer"]
            case "import":
                return self._import([self._line() for _ in range(LINES)])
            case "rotate":
                return ["rotate", next(self._victims)]
            case _:
                return ["revoke", next(self._victims), "--yes"]

    def import_all(self) -> list[str]:
        """Return the command that imports once more whatever was to be imported."""
        return self._import(self.imported)

    def _import(self, lines: Sequence[str]) -> list[str]:
        file = self._directory / f"lines{len(self.imported)}-{len(lines)}"
        file.write_text("\n".join(lines))
        return ["import", "--no-verifier", "--json", str(file)]

    def _line(self) -> str:
        said = {
            "tenantId": "default",
            "name": IMPORTED,
            "permission": "viewer",
            "expiresAt": EXPIRES_AT,
            "token": make_token("gw_live_", random.choice),
        }
        self.imported.append(json.dumps(said))
        return self.imported[-1]


def test_whenever_a_command_is_killed_what_it_printed_is_kept_and_nothing_is_half_made(
    lanes: Lanes, lone_postgres: Server, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    commands = Commands(lanes, tmp_path)
    whole = dict(zip(KILLS, lanes.run([(commands.of(kind), None) for kind in KILLS]), strict=True))

    def doom(kind: str) -> Doom:
        # What comes first is but the connection, and what is asked of the store at each start.
        pieces = whole[kind].pieces
        return Doom(chance.randint(pieces // 3, pieces), chance.choice((0.0, LATE_S * chance.random())))

    kinds = [kind for kind, kills in KILLS.items() for _ in range(kills)]
    ran = lanes.run([(commands.of(kind), doom(kind)) for kind in kinds])
    assert sum(each.killed for each in ran) > len(ran) / 2, "the kills came to nothing"
    assert half_made(lone_postgres, lanes.database) == []

    told = [(kind, each.output) for kind, each in zip(kinds, ran, strict=True) if each.output.endswith("\n")]
    shown = [output.strip() for kind, output in told if kind in ("create", "rotate")]
    assert [key and key.revoked_at for key in lanes.found(shown)] == [None] * len(shown), "a key is lost"
    ended = [output.split()[0] for kind, output in told if kind == "revoke"]
    assert set(ended) <= set(lanes.revoked()), "a revocation is lost"

    # Who imports once more goes on where that was interrupted.
    (last,) = lanes.run([(commands.import_all(), None)])
    counts = json.loads(last.output)
    there = sum(json.loads(output)["imported"] for kind, output in told if kind == "import")
    assert counts["imported"] + counts["present"] == len(commands.imported)
    assert counts["present"] >= LINES + there, "imported keys are lost"
    assert half_made(lone_postgres, lanes.database) == []
