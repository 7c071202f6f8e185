"""``quickstart``: a stranger's first minutes, at the wire; what is printed is held line by line in e2e."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.demo import DemoBackend
from tests.cli.conftest import Gateway, environment, refusal


class Running:
    """The command with its output in a file, waited for until it has said what to try."""

    def __init__(self, directory: Path, *arguments: str, **variables: str) -> None:
        self.out = directory / f"out-{time.monotonic_ns()}"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "quickstart", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment(directory / "state", **variables),
                cwd=directory,
            )
        deadline = time.monotonic() + 20
        while "# no key: 401" not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    @property
    def text(self) -> str:
        return self.out.read_text()

    @property
    def port(self) -> int:
        found = re.search(r"^gateway +http://127\.0\.0\.1:(\d+)$", self.text, re.MULTILINE)
        assert found
        return int(found[1])

    def ask(
        self, method: str = "GET", path: str = "/", key: str = "", body: bytes = b""
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, path, body=body or None, headers={"X-API-KEY": key} if key else {})
            response = connection.getresponse()
            return response.status, response.read()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(15) == 0, self.text
        assert "Traceback" not in self.text


@contextlib.contextmanager
def running(directory: Path, *arguments: str, **variables: str) -> Iterator[Running]:
    started = Running(directory, "--ops-listen", "127.0.0.1:0", *arguments, **variables)
    try:
        yield started
        started.stop()
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def test_first_run_shows_two_keys_and_later_ones_none(tmp_path: Path) -> None:
    with running(tmp_path, "--listen", "127.0.0.1:0") as first:
        assert_changes_are_waited_for(first.text)
        viewer, editor = re.findall(r"^  (?:viewer|editor)  (gw_live_\w+)$", first.text, re.MULTILINE)
        assert first.ask(key=viewer)[0] == 200
        assert first.ask("POST", key=viewer, body=b"x")[0] == 403
        status, body = first.ask("POST", "/a?b=1", key=editor, body=b"hello")
        seen = json.loads(body)
        assert (status, seen["method"], seen["path"], seen["body_bytes"]) == (200, "POST", "/a?b=1", 5)
        assert seen["identity"]["X-Gateway-Permission"] == "editor"
        assert first.ask()[0] == 401
    with running(tmp_path, "--listen", "127.0.0.1:0") as second:
        assert second.ask(key=editor)[0] == 200
        assert "gw_live_" not in second.text
        assert_changes_are_waited_for(second.text)
        assert '"X-API-KEY: $KEY"' in second.text


def assert_changes_are_waited_for(text: str) -> None:
    """A change is seen within a second: whoever pastes all lines at once must not outrun it."""
    lines = text.splitlines()
    after = [lines[i + 1] for i, line in enumerate(lines) if re.match(r"[^#]*keys (revoke|create) ", line)]
    assert after == ["sleep 1"]


def test_taken_ports_give_way_to_the_next_and_say_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, "--listen", f"127.0.0.1:{port}") as started:
            assert started.port > port
            assert f"port {port} is taken; the next free one is {started.port}" in started.text


def test_data_and_ops_asked_for_one_port_are_refused(gateway: Gateway) -> None:
    told = refusal(gateway("quickstart", "--listen", "127.0.0.1:9464"), 2)
    assert "choose another" in told


def test_address_that_is_not_ours_is_one_sentence(gateway: Gateway) -> None:
    assert "192.0.2.1:8080" in refusal(gateway("quickstart", "--listen", "192.0.2.1:8080"), 1)


def test_store_and_revocation_line_go_together(tmp_path: Path, gateway: Gateway) -> None:
    with running(tmp_path, "--listen", "127.0.0.1:0", "--store", "sqlite:mine.db") as started:
        (line,) = re.findall(r"^.* (keys revoke .*)$", started.text, re.MULTILINE)
        viewer = re.findall(r"^  viewer  (gw_live_\w+)$", started.text, re.MULTILINE)[0]
        assert f"--store sqlite://{tmp_path}/mine.db" in line
        assert gateway(*line.split()).returncode == 0
        deadline = time.monotonic() + 5
        while started.ask(key=viewer)[0] != 401:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_own_upstream_takes_the_demo_s_place(tmp_path: Path) -> None:
    with DemoBackend() as backend:
        arguments = ("--listen", "127.0.0.1:0", "--upstream", backend.url)
        with running(tmp_path, *arguments) as started:
            editor = re.findall(r"^  editor  (gw_live_\w+)$", started.text, re.MULTILINE)[0]
            assert backend.url in started.text
            assert started.ask(key=editor)[0] == 200
        assert "built-in demo" not in started.text


@pytest.fixture
def demo() -> Iterator[socket.socket]:
    with DemoBackend() as backend, socket.create_connection(("127.0.0.1", backend.port), timeout=5) as peer:
        yield peer


def test_demo_speaks_http_1_1(demo: socket.socket) -> None:
    demo.sendall(
        b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        b"HEAD /y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    received = b"".join(iter(lambda: demo.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b'"body_bytes": 5' in received
    assert received.endswith(b"\r\n\r\n")  # HEAD: no body


def test_starts_at_the_same_time_find_ports_of_their_own_and_show_every_key_they_make(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        starts = [stack.enter_context(contextlib.ExitStack()) for _ in range(3)]
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            begun = list(pool.map(lambda start: start.enter_context(running(tmp_path)), starts))
        assert len({start.port for start in begun}) == 3
        shown = re.findall(
            r"^  (?:viewer|editor)  (\S+)$", "".join(start.text for start in begun), re.MULTILINE
        )
        made = subprocess.run(
            [sys.executable, "-m", "gateway", "keys", "list", "--json"],
            capture_output=True,
            env=environment(tmp_path / "state"),
            check=True,
        )
        assert len(shown) == len(json.loads(made.stdout))
        for token in shown:
            assert begun[0].ask(key=token)[0] == 200


def test_no_key_is_made_by_a_start_that_fails(tmp_path: Path) -> None:
    failed = subprocess.run(
        [sys.executable, "-m", "gateway", "quickstart", "--ops-listen", "127.0.0.1:0"],
        capture_output=True,
        env=environment(tmp_path / "state", GATEWAY_ACCESS_LOG__PATH=str(tmp_path / "absent" / "log")),
    )
    assert failed.returncode == 1
    listed = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "list", "--json"],
        capture_output=True,
        env=environment(tmp_path / "state"),
        check=True,
    )
    assert json.loads(listed.stdout) == []
