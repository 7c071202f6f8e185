"""``gateway run`` as a process: the shipped configurations serve, and what cannot be had is one sentence."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.demo import DemoBackend
from tests.wire.product import COMMAND, ROOT, clean_environment, cli, free_port, make_key

# Several gateways over PostgreSQL: see test_replicas.py.
SHIPPED = sorted(set((ROOT / "config").glob("*.yaml")) - {ROOT / "config/replicas.yaml"})


@pytest.fixture
def backend() -> Iterator[DemoBackend]:
    with DemoBackend() as demo:
        yield demo


def ask(port: int, path: str, key: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"X-API-KEY": key} if key else {})
        response = connection.getresponse()
        return response.status, response.read()


def wait_ready(process: subprocess.Popen[bytes], *arguments: str) -> None:
    """Wait by the product's own healthcheck."""
    deadline = time.monotonic() + 15
    while subprocess.run(
        [*COMMAND, "healthcheck", *arguments], capture_output=True, env=clean_environment(), check=False
    ).returncode:
        assert process.poll() is None
        assert time.monotonic() < deadline


def turn_keys_on(config: Path, store: Path) -> None:
    """Enable the default tenant's keys, which this configuration has off, five a user, a day each."""
    create = ("keys", "create", "--tenant", "default", "--name", "k", "--permission", "viewer")
    refused = cli(*create, "--config", str(config), store=store)
    assert refused.returncode == 1
    assert "switched off" in refused.stderr, refused.stderr
    enable = ("tenants", "set", "default", "--api-keys-enabled", "true")
    enabled = cli(*enable, "--config", str(config), store=store)
    assert enabled.returncode == 0, enabled.stderr
    too_long = cli(*create, "--ttl", "25h", "--config", str(config), store=store)
    assert too_long.returncode == 2
    assert "the longest that this tenant's keys live" in too_long.stderr, too_long.stderr


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_shipped_configuration_serves(file: Path, backend: DemoBackend, tmp_path: Path) -> None:
    """As it stands but for what a machine must decide: the ports, the store's place, the backend's port."""
    config = tmp_path / file.name
    config.write_text(file.read_text().replace("127.0.0.1:9000", f"127.0.0.1:{backend.port}"))
    store = tmp_path / "gateway.db"
    if file.name == "qlik.yaml":
        turn_keys_on(config, store)
    key = make_key(store, "viewer", "k", "--config", str(config))["secretKey"]
    port, ops = free_port(), f"127.0.0.1:{free_port()}"
    places = ["--listen", f"127.0.0.1:{port}", "--ops-listen", ops, "--store", f"sqlite:{store}"]
    places += ["--control-listen", f"127.0.0.1:{free_port()}"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "run", "--config", str(config), *places],
            stdout=out,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            cwd=ROOT,
        )
    try:
        wait_ready(process, "--ops-listen", ops)
        status, body = ask(port, "/x", key)
        assert (status, json.loads(body)["path"]) == (200, "/x")
        assert ask(port, "/x")[0] == 401
        if file.name == "gateway.yaml":
            assert json.loads(ask(port, "/public/a")[1])["path"] == "/a"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert b"Traceback" not in errors
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def sentence(*arguments: str, store: Path, code: int) -> str:
    if "--control-listen" not in arguments:
        arguments = (*arguments, "--control-listen", "none")
    result = cli("run", "--upstream", "http://127.0.0.1:1", *arguments, store=store)
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("gateway: ")
    return lines[0]


@pytest.mark.parametrize("flag", ["--listen", "--ops-listen", "--control-listen"])
def test_port_in_use_is_one_sentence(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        others = {"--listen", "--ops-listen", "--control-listen"} - {flag}
        places = [word for other in sorted(others) for word in (other, "127.0.0.1:0")]
        told = sentence(flag, address, *places, store=tmp_path / "g.db", code=1)
    assert address in told
    assert "in use" in told


@pytest.mark.parametrize("address", ["no-such-host.invalid:8080", "192.0.2.1:8080", "unix:/proc/none/g.sock"])
def test_address_that_cannot_be_had_is_one_sentence(address: str, tmp_path: Path) -> None:
    told = sentence("--listen", address, "--ops-listen", "127.0.0.1:0", store=tmp_path / "g.db", code=1)
    assert address in told
    assert "Unknown error" not in told


def test_store_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "g.db").write_text("no database, only text " * 100)
    places = ("--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
    assert "g.db" in sentence(*places, store=tmp_path / "g.db", code=1)


def test_access_log_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    config = tmp_path / "g.yaml"
    config.write_text("access_log: {path: /proc/none/access.log}\n")
    places = ("--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
    told = sentence("--config", str(config), *places, store=tmp_path / "g.db", code=1)
    assert "/proc/none/access.log" in told


def test_fewer_connections_than_configured_are_told(backend: DemoBackend, tmp_path: Path) -> None:
    ops = f"127.0.0.1:{free_port()}"
    command = [*COMMAND, "run", "--upstream", backend.url, "--listen", "127.0.0.1:0", "--ops-listen", ops]
    command += ["--control-listen", "none"]
    process = subprocess.Popen(
        ["bash", "-c", f"ulimit -n 400; exec {shlex.join([*command, '--store', f'sqlite:{tmp_path}/g.db'])}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    try:
        wait_ready(process, "--ops-listen", ops)
    finally:
        process.terminate()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert re.search(rb"^gateway: at most 1\d\d connections at once, not 10000: the limit", errors, re.M)
