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
from tests.pooler import Pooler
from tests.ports import free_port
from tests.postgres import PASSWORD, USER, Server, migrated, programs

DATABASE = "judged"
EACH = 4
"""Writers at one store, which has five connections."""


class Fleet(World):
    """A world whose store is ``server``'s database.

    The last gateway knows one address of it. The others know three hosts: first one that is dead, then
    the place of a standby, where there is none as yet.
    """

    database = DATABASE
    pooler: Pooler | None = None
    """What leads to the server; None: the gateways' lines do."""

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
        self.silent, self.spare = (PostgresProxy(stage, ("127.0.0.1", free_port())) for _ in range(2))
        replicas = [
            Replica(
                directory / f"gateway{number}",
                self.url_of(proxy.port, alone=number == len(environments) - 1),
                backend.port,
                settings(bound) | dict(more or {}),
                environment=environment,
            )
            for number, (proxy, environment) in enumerate(zip(self.proxies, environments, strict=True))
        ]
        super().__init__(stage, backend, replicas, url, bound)

    def url_of(self, port: int, *, alone: bool = False) -> str:
        """Return a URL that names the server at a port: ``alone``, or as the last of three hosts."""
        ports = [port] if alone else [self.silent.port, self.spare.port, port]
        hosts = ",".join(f"127.0.0.1:{each}" for each in ports)
        return f"postgresql://{USER}:{PASSWORD}@{hosts}/{DATABASE}?sslmode=disable"

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

    @contextlib.contextmanager
    def pooled(self) -> Iterator[Pooler]:
        """Lead gateways and writers to the server by way of a transaction pooler meanwhile."""
        with contextlib.closing(Pooler(self.server)) as pooler:
            self._lead_to(pooler.port, pooler.url(self.server.url(DATABASE)))
            self.pooler = pooler
            try:
                yield pooler
            finally:
                self.pooler = None
                self._lead_to(self.server.port, self.server.url(DATABASE))

    @contextlib.contextmanager
    def writers_line(self) -> Iterator[PostgresProxy]:
        """Have the writers write by a line of their own meanwhile."""
        line = PostgresProxy(self.stage, ("127.0.0.1", self.server.port))
        self.write_to(self.url_of(line.port, alone=True))
        try:
            yield line
        finally:
            self.write_to(self.server.url(DATABASE))
            line.close()

    def succeeded_by(self, server: Server) -> None:
        """Have this server in the place of the one that there was, which has ended."""
        self.spare.lead_to(("127.0.0.1", self.server.port))
        self.server.close()
        self.server = server
        self._lead_to(server.port, server.url(DATABASE))

    def _lead_to(self, port: int, url: str) -> None:
        """Lead the gateways to a port, and the writers to the same database there."""
        for proxy in self.proxies:
            proxy.lead_to(("127.0.0.1", port))
        self.write_to(url)

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
        for proxy in (*self.proxies, self.silent, self.spare):
            proxy.close()
        self.close_rest()
        assert not faults, "\n".join(faults)
