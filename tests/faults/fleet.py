"""Three gateways over one PostgreSQL database, each by a line of its own that can be told to fail."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.store.postgres import PostgresStore
from tests.faults.callers import Backend
from tests.faults.proxy import PostgresProxy
from tests.faults.replica import Replica
from tests.faults.stage import Stage
from tests.faults.watching import BOUND
from tests.faults.world import SEED, World, settings
from tests.faults.writers import Writers
from tests.postgres import PASSWORD, USER, Server, migrated, programs

DATABASE = "judged"
EACH = 4
"""Writers at one store, which has five connections."""


class Fleet(World):
    """A world whose store is ``server``'s database."""

    database = DATABASE

    def __init__(
        self,
        directory: Path,
        server: Server,
        *,
        bound: float = BOUND,
        environments: Sequence[Mapping[str, str]] = ({}, {}, {}),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a gateway for each of ``environments``; ``more`` are settings of all of them."""
        self.server = server
        stage = Stage()
        backend = Backend(stage)
        url = migrated(server.create_database(DATABASE))
        self.proxies = [PostgresProxy(stage, ("127.0.0.1", server.port)) for _ in environments]
        replicas = [
            Replica(
                directory / f"gateway{number}",
                f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{proxy.port}/{DATABASE}?sslmode=disable",
                backend.port,
                settings(bound) | dict(more or {}),
                environment=environment,
            )
            for number, (proxy, environment) in enumerate(zip(self.proxies, environments, strict=True))
        ]
        super().__init__(stage, backend, replicas, url, bound)

    @contextlib.contextmanager
    def others_write(self, kind: type[PostgresStore], count: int) -> Iterator[None]:
        """Have so many others write instead, at stores of this kind, without a pause."""
        stores = [kind(self.server.url(DATABASE)) for _ in range(count // EACH)]
        writers = [
            Writers(self.truth, random.Random(SEED + place), count=EACH, every_s=0.0)
            for place in range(len(stores))
        ]
        for store, writer in zip(stores, writers, strict=True):
            writer.use(store, self.digester)

        async def end() -> None:
            await asyncio.gather(*(writer.stop() for writer in writers))
            await asyncio.gather(*(store.close() for store in stores))

        with self.writers_pause():
            for writer in writers:
                self.stage.call(writer.start)
            try:
                yield
            finally:
                self.stage.run(end())

    def head(self) -> int:
        """Return how many changes the store has seen."""
        return int(self.server.sql("SELECT number FROM change_counter", DATABASE))

    def dump(self) -> Path:
        """Back the database up; return the file."""
        backup = self.server.directory / "backup"
        self._run("pg_dump", "-Fc", "-f", str(backup), DATABASE)
        return backup

    def restore(self, backup: Path) -> None:
        """Put a backup in the place of the database, whoever is connected to it."""
        self.server.create_database("restored")
        self._run("pg_restore", "-d", "restored", str(backup))
        self.server.sql(
            f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false;"
            f"DROP DATABASE {DATABASE} WITH (FORCE);"
            f"ALTER DATABASE restored RENAME TO {DATABASE};"
        )

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as the superuser."""
        place = ["-h", str(self.server.directory), "-p", str(self.server.port), "-U", "postgres"]
        done = subprocess.run([programs() / program, *place, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """Stop everything but the server."""
        faults = self.stop_replicas()
        for proxy in self.proxies:
            proxy.close()
        self.close_rest()
        assert not faults, "\n".join(faults)
