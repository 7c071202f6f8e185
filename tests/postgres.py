"""A real PostgreSQL for tests: one server for the session, a database of its own for each test.

Debian's programs are used, as ``postgresql`` installs them. A server refuses to run as root, so under
root it runs as the user ``postgres``, in a directory that this user may enter. Where there is no
PostgreSQL, tests that need one are skipped with the reason; in CI they fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from gateway.store.urls import open_store
from tests.ports import free_port

USER = "gateway"
PASSWORD = "made-up-for-tests"
TEMPLATE = "migrated"
START_S = 30.0


def programs() -> Path:
    """Return the directory of the newest PostgreSQL; fail in CI, skip elsewhere, where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if which := shutil.which("initdb"):
        return Path(which).resolve().parent
    reason = "no PostgreSQL here: install Debian's package postgresql"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Server:
    """One PostgreSQL server on a loopback port and a socket, with what faults need.

    Attributes:
        directory: holds the data, the socket and the log; entered by the server's user.
        port: where it listens; the same after a restart.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Make an empty cluster and start it; ``settings`` are lines of its configuration."""
        self._bin = programs()
        self._user = "postgres" if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        self.data = self.directory / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._own(self.directory)
        self._make(settings or {})
        self.start()

    @property
    def pid(self) -> int:
        """Return its first process."""
        return self._running().pid

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """Return the URL of a database, by TCP and with a password."""
        return f"postgresql://{user}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Create a database of the gateway's user; return its URL."""
        # The log is written, and no checkpoint waited for: the quicker of the two strategies for small ones.
        self.sql(f'CREATE DATABASE "{name}" OWNER {USER} TEMPLATE "{template}" STRATEGY wal_log')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def sql(self, text: str, database: str = "postgres") -> str:
        """Run statements as the superuser, each in a transaction of its own; return what they print."""
        command = [self._bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
        done = subprocess.run(
            [*command, "-h", self.directory, "-p", str(self.port), "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        assert self._process is None
        log = (self.directory / "log").open("ab")
        with log:
            self._process = self._popen("postgres", "-D", str(self.data), stdout=log, stderr=log)
        _wait(self._answers)

    def stop(self, mode: str = "fast") -> None:
        """End it: ``smart``, ``fast`` (SIGINT) or ``immediate`` (SIGQUIT, as a crash)."""
        numbers = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        process = self._running()
        process.send_signal(numbers[mode])
        process.wait(START_S)
        self._process = None

    def restart(self, mode: str = "fast") -> None:
        """End it and start it again."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """End all of its processes by SIGKILL, as the kernel does when memory is short."""
        process = self._running()
        children = self._children()
        for pid in [process.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # A new server refuses to start beside what is left of an old one.
        _wait(lambda: not any(map(_lives, children)))
        process.wait(START_S)
        self._process = None

    def freeze(self) -> None:
        """Stop all of its processes where they stand: connections stay open, and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add lines to its configuration, which hold from the next start or ``reload`` on."""
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def write(self, name: str, content: bytes) -> None:
        """Put a file among its data, for its eyes alone."""
        path = self.data / name
        path.write_bytes(content)
        path.chmod(0o600)
        self._own(path)

    def reload(self) -> None:
        """Have it read its configuration again."""
        self.sql("SELECT pg_reload_conf()")

    def mend(self) -> None:
        """Have it run as it did at first, whatever has been done to it."""
        if self._process is None:
            self.start()
        self.thaw()
        self.sql("ALTER SYSTEM RESET ALL")
        self.reload()

    def migrated_database(self) -> str:
        """Create a database from the template that a fixture has migrated; return its URL."""
        return self.create_database(database_name(), template=TEMPLATE)

    def log(self) -> str:
        """Return what it has written so far."""
        return (self.directory / "log").read_text(errors="replace")

    def close(self) -> None:
        """End it and remove all that it kept."""
        if self._process is not None:
            self.thaw()
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def backup(self, directory: Path) -> None:
        """Copy the whole cluster while it runs, fit to be started as a server of its own."""
        self._run("pg_basebackup", "-h", str(self.directory), "-p", str(self.port), "-U", "postgres",
                  "-D", str(directory), "-X", "fetch", "-c", "fast", "--no-sync")  # fmt: skip

    def _make(self, settings: Mapping[str, str]) -> None:
        # Peers by socket are trusted, for the tests' own statements; whoever comes by TCP shows a password.
        options = ("-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
        trust = ("--auth-local=trust", "--auth-host=scram-sha-256")
        self._run("initdb", "-D", str(self.data), *options, *trust)
        lines = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "max_wal_size": "512MB",
            "logging_collector": "off",
        }
        self.configure(lines | dict(settings))

    def _answers(self) -> bool:
        assert self._running().poll() is None, self.log()
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.directory / f".s.PGSQL.{self.port}"))
            known = self.sql(f"SELECT count(*) FROM pg_roles WHERE rolname = '{USER}'")
        except (OSError, AssertionError):
            return False
        if known == "0":
            self.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        return True

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _children(self) -> list[int]:
        pid = self._running().pid
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def _signal_all(self, number: signal.Signals) -> None:
        process = self._running()
        # The parent first, so that no child is born meanwhile.
        os.kill(process.pid, number)
        for pid in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _own(self, path: Path) -> None:
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def _run(self, program: str, *arguments: str) -> None:
        process = self._popen(program, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output.decode(errors="replace")

    def _popen(self, program: str, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        if self._user is not None:
            options |= {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        return subprocess.Popen(
            [self._bin / program, *arguments],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The session's server; who stops, freezes or kills it takes ``lone_postgres`` instead."""
    # It never crashes, so that it need not wait for the disk, which most of the time went into.
    server = Server({"fsync": "off"})
    yield server
    server.close()


@pytest.fixture(scope="session")
def lone_server() -> Iterator[Server]:
    """The server that tests stop, freeze and kill; they take it as ``lone_postgres``."""
    server = Server()
    migrated(server.create_database(TEMPLATE))
    yield server
    server.close()


@pytest.fixture
def lone_postgres(lone_server: Server) -> Iterator[Server]:
    """A server to be broken; it is mended for whoever comes next."""
    yield lone_server
    lone_server.mend()


_serial = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_database(postgres_server: Server) -> Callable[[], str]:
    """Make a new migrated database at each call; return its URL."""
    migrated(postgres_server.create_database(TEMPLATE))

    return postgres_server.migrated_database


def database_name() -> str:
    """Return a name that no other database of this session has."""
    return f"test{next(_serial)}"


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """The URL of a new migrated database."""
    return postgres_database()


class Recycled:
    """One migrated database for many tests that change nothing but rows: five times as quick as new ones."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.url = server.migrated_database()
        self._name = self.url.rpartition("/")[2]
        found = server.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", self._name)
        copies = [f"CREATE TABLE pristine.{table} AS TABLE public.{table};" for table in found.split()]
        server.sql("CREATE SCHEMA pristine;" + "".join(copies), self._name)
        rows = (
            f"DELETE FROM public.{table}; INSERT INTO public.{table} SELECT * FROM pristine.{table};"
            for table in found.split()
        )
        # As a replica: foreign keys are not looked at, so that the tables' order does not matter.
        self._reset = "BEGIN; SET LOCAL session_replication_role = replica;" + "".join(rows) + "COMMIT"

    def clean(self) -> None:
        """Put the rows back that were there at first, and end whoever is still connected."""
        self._server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{self._name}' AND pid <> pg_backend_pid(); {self._reset}",
            self._name,
        )


@pytest.fixture(scope="session")
def recycled_postgres(postgres_server: Server, postgres_database: Callable[[], str]) -> Recycled:
    """The database that is used again and again."""
    assert postgres_database  # has made the template
    return Recycled(postgres_server)


def migrated(url: str) -> str:
    """Bring the database that ``url`` names up to date; return the URL."""

    async def migrate() -> None:
        store = open_store(url)
        try:
            await store.migrate()
        finally:
            await store.close()

    # In a thread, since the caller's may have an event loop.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate()).result()
    return url
