"""A real PgBouncer in transaction mode before a PostgreSQL: connections change hands at every commit."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.postgres import PASSWORD, START_S, USER, Server

POOLED = 3
"""Fewer connections to the server than the gateway has to the pooler, so that they are shared."""


class Pooler:
    """PgBouncer on a loopback port, which stays the same, until ``close``."""

    def __init__(self, server: Server) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            reason = "no PgBouncer here: install Debian's package pgbouncer"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        self._program = program
        self._server = server
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="gateway-pgbouncer-"))
        (self._directory / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        self._configuration = self._directory / "pgbouncer.ini"
        self._configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user={USER} password={PASSWORD}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self._directory}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = {POOLED}\nlogfile = {self._directory}/log\n"
            # A server that was away is tried again after so many seconds; PgBouncer's own default is 15.
            "server_login_retry = 1\n"
        )
        self._user = "postgres" if os.geteuid() == 0 else None
        for path in (self._directory, *self._directory.iterdir()):
            os.chown(path, pwd.getpwnam(self._user).pw_uid if self._user else -1, -1)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        user = self._user
        group = pwd.getpwnam(user).pw_gid if user else None
        self._process = subprocess.Popen(
            [self._program, "-q", self._configuration],
            user=user,
            group=group,
            extra_groups=[] if user else None,
        )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def url(self, url: str) -> str:
        """Return the URL that leads by way of the pooler to where ``url`` leads."""
        return url.replace(f":{self._server.port}/", f":{self.port}/")

    def kill(self) -> None:
        """End it, and so every connection through it, without a word."""
        self._process.kill()
        self._process.wait(START_S)

    def freeze(self) -> None:
        """Stop it where it stands: connections stay open, and nothing passes."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self.thaw()
        self._process.terminate()
        self._process.wait(START_S)
        shutil.rmtree(self._directory)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True
