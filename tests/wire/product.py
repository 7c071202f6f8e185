"""The real product as a process: its command line, its configuration file, its signals."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port as free_port

COMMAND = [sys.executable, "-m", "gateway"]
ROOT = Path(__file__).resolve().parents[2]


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without the product's own variables, so that only the test decides."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return kept | {"PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1"} | more


def cli(*arguments: str, store: Path, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run one command against ``store`` and return what came of it."""
    return subprocess.run(
        [*COMMAND, *arguments, "--store", f"sqlite:///{store}"],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=clean_environment(),
        cwd=ROOT,
        check=False,
    )


def make_key(store: Path, permission: str, name: str, *more: str) -> dict[str, Any]:
    """Make a key through the command line; the token is in ``secretKey``."""
    run = cli(
        "keys", "create", "--tenant", "default", "--name", name, "--permission", permission, "--json", *more,
        store=store,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


def revoke(store: Path, key_id: str) -> None:
    run = cli("keys", "revoke", key_id, "--yes", store=store)
    assert run.returncode == 0, run.stderr


def copy_store(source: Path, directory: Path) -> Path:
    """Copy a store that no process has open, with its pepper, into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in source.parent.glob(source.name + "*"):
        shutil.copy2(file, directory / file.name)
    return directory / source.name


class Keys:
    """A store with one viewer and one editor, made by the command line; copied for each gateway."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.store = directory / "gateway.db"
        self.viewer_record = make_key(self.store, "viewer", "viewer")
        self.editor_record = make_key(self.store, "editor", "editor")
        self.revoked_record = make_key(self.store, "viewer", "revoked")
        revoke(self.store, self.revoked_record["id"])

    @property
    def viewer(self) -> str:
        return str(self.viewer_record["secretKey"])

    @property
    def editor(self) -> str:
        return str(self.editor_record["secretKey"])

    @property
    def revoked(self) -> str:
        return str(self.revoked_record["secretKey"])

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.viewer, self.editor, self.revoked)


class Product:
    """A running gateway in front of ``upstream_port``; ``settings`` are laid over the plain ones.

    ``control``: it serves the control API too, for which it starts a further process.
    """

    def __init__(
        self,
        directory: Path,
        keys: Keys,
        upstream_port: int,
        settings: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        files: int | None = None,
        wait: bool = True,
        control: bool = False,
        stdout: int | None = None,
    ) -> None:
        self.directory = directory
        self.keys = keys
        self.expected_code = 0
        self.port, self.ops_port, self.control_port = free_port(), free_port(), free_port()
        self.store = copy_store(keys.store, directory)
        self.access_log = directory / "access.log"
        self.settings = _merged(
            {
                "listen": f"127.0.0.1:{self.port}",
                "ops": {"listen": f"127.0.0.1:{self.ops_port}"},
                "control": {"listen": f"127.0.0.1:{self.control_port}" if control else None},
                "store": {"url": f"sqlite:///{self.store}"},
                "upstreams": {"backend": {"targets": [f"http://127.0.0.1:{upstream_port}"]}},
                "routes": [{"path": "/", "upstream": "backend"}],
                "timeouts": {"drain_delay": "0s", "drain": "5s"},
                "access_log": {"path": str(self.access_log)},
            },
            settings or {},
        )
        self.config = directory / "gateway.yaml"
        self.config.write_text(yaml.safe_dump(self.settings))
        command = [*COMMAND, "run", "--config", str(self.config)]
        if files is not None:
            command = ["bash", "-c", f'ulimit -n {files}; exec "$0" "$@"', *command]
        with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdout=stdout or out,
                stderr=err,
                env=clean_environment(**(environment or {})),
                cwd=ROOT,
            )
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                self.kill()
                raise

    def wait_ready(self, within: float = 15.0) -> None:
        deadline = time.monotonic() + within
        while self.ops("/readyz")[0] != 200:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr}"
            assert time.monotonic() < deadline, f"not ready in time: {self.stderr}"
            time.sleep(0.02)

    def ops(self, path: str) -> tuple[int, str]:
        """Ask the ops listener; status 0 when it cannot be reached."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ops_port, timeout=3)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return response.status, response.read().decode()
            except OSError:
                return 0, ""

    def metric(self, series: str) -> float:
        """Return the value of one series as it is spelt in the exposition; 0 without it."""
        for line in self.ops("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return 0.0

    @property
    def resident(self) -> int:
        """Resident memory in bytes."""
        return self.resident_of(self.process.pid)

    @staticmethod
    def resident_of(pid: int) -> int:
        """Resident memory in bytes of a process."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")

    @property
    def stderr(self) -> str:
        return (self.directory / "stderr").read_text(errors="replace")

    @property
    def output(self) -> str:
        """All that it has written anywhere: stdout, stderr, access log."""
        log = self.access_log.read_text(errors="replace") if self.access_log.exists() else ""
        return (self.directory / "stdout").read_text(errors="replace") + self.stderr + log

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, within: float = 10.0) -> int:
        return self.process.wait(within)

    def kill(self) -> None:
        """End it whatever state it is in; for the teardown of a test that failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Stop it as an operator does, and hold it to a clean end."""
        try:
            if self.process.poll() is None:
                self.signal()
            code = self.wait()
            assert code == self.expected_code, f"exit code {code}: {self.stderr}"
            self.assert_clean()
        finally:
            self.kill()

    def assert_clean(self) -> None:
        """No traceback, no warning of Python's, no secret in anything that was written."""
        for word in ("Traceback", "Exception ", "Error:", "Warning:", "never awaited"):
            assert word not in self.stderr, self.stderr
        for secret in self.keys.secrets:
            assert secret not in self.output, "a secret was written"


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in over.items():
        below = result.get(name)
        result[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
