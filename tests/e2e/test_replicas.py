"""Two gateways of the shipped configuration for replicas, over one PostgreSQL database."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.backend import Backend, eventually
from tests.wire.product import COMMAND, ROOT, clean_environment, free_port


class Replica:
    """One gateway as a process."""

    def __init__(self, config: Path, url: str) -> None:
        self.port, self.ops = free_port(), free_port()
        places = ["--listen", f"127.0.0.1:{self.port}", "--ops-listen", f"127.0.0.1:{self.ops}"]
        places += ["--control-listen", f"127.0.0.1:{free_port()}", "--store", url]
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--config", str(config), *places],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            cwd=ROOT,
        )

    def ask(self, key: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/x", headers={"X-API-KEY": key})
                return connection.getresponse().status
            except OSError:
                return 0

    def stop(self) -> None:
        """Stop it as an operator does, and hold it to a clean end."""
        self.process.send_signal(signal.SIGINT)
        try:
            _, errors = self.process.communicate(timeout=30)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, errors
        assert b"Traceback" not in errors


@pytest.fixture
def config(tmp_path: Path, shared_backend: Backend) -> Path:
    """The shipped file, but for what a machine must decide: the pepper's place, the backend's address."""
    pepper = tmp_path / "pepper"
    pepper.touch(mode=0o600)
    pepper.write_text(secrets.token_urlsafe(48))
    text = (ROOT / "config/replicas.yaml").read_text()
    text = text.replace("/etc/pepper/pepper", str(pepper)).replace(
        "http://backend:80", f"http://127.0.0.1:{shared_backend.port}"
    )
    path = tmp_path / "replicas.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def replicas(config: Path, postgres_url: str) -> Iterator[list[Replica]]:
    started = [Replica(config, postgres_url) for _ in range(2)]
    try:
        yield started
    finally:
        for replica in started:
            replica.stop()


def manage(config: Path, url: str, *arguments: str) -> str:
    """Run one command, which finds the database by a variable, as in a pod."""
    run = subprocess.run(
        [*COMMAND, *arguments, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(GATEWAY_STORE=url),
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_key_lives_and_dies_on_every_replica(
    config: Path, postgres_url: str, replicas: list[Replica]
) -> None:
    create = ("keys", "create", "--tenant", "default", "--name", "k", "--permission", "viewer", "--json")
    made = json.loads(manage(config, postgres_url, *create))
    for replica in replicas:
        eventually(lambda r=replica: r.ask(made["secretKey"]) == 200, within=20)
        assert replica.ask("") == 401
    manage(config, postgres_url, "keys", "revoke", made["id"], "--yes")
    for replica in replicas:
        eventually(lambda r=replica: r.ask(made["secretKey"]) == 401, within=5)
