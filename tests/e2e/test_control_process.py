"""The control API runs beside the data path: what befalls one does not befall the other."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.wire.product import Keys, Product, cli, free_port

Start = Callable[..., Product]


def ask(port: int, method: str, path: str, key: str, body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"X-API-KEY": key, "Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """Tell whether a process has ended, even if nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def control_of(running: Product) -> int:
    """Return the process that serves the control API, once it does."""
    assert ask(running.control_port, "GET", "/api/1/api-keys", running.keys.editor)[0] == 200
    (control,) = children(running.process.pid)
    return control


def by_and_by(happened: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_callers_of_backends_go_before_whoever_manages_keys(product: Start) -> None:
    running = product(control=True)
    control, callers = control_of(running), running.process.pid
    assert os.getpriority(os.PRIO_PROCESS, control) > os.getpriority(os.PRIO_PROCESS, callers)


def test_the_api_is_back_after_its_process_was_killed_and_no_caller_noticed(product: Start) -> None:
    running = product(control=True)
    key = running.keys.editor
    for _ in range(2):
        control = control_of(running)
        os.kill(control, signal.SIGKILL)
        assert ask(running.port, "GET", "/still", key)[0] == 200
        # The connection waits for the new process: nothing refuses it meanwhile.
        assert ask(running.control_port, "GET", "/api/1/api-keys", key)[0] == 200
        assert by_and_by(lambda: len(children(running.process.pid)) == 1, 5)
    assert running.stderr.count("the control API ended with code -9 and is started again") == 2


def test_the_api_is_back_after_no_process_could_be_made_for_a_while(product: Start) -> None:
    running = product(control=True)
    control, pid = control_of(running), running.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
    os.kill(control, signal.SIGKILL)
    assert by_and_by(lambda: "control API cannot be served: its process" in running.stderr, 10)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert ask(running.control_port, "GET", "/api/1/api-keys", running.keys.editor)[0] == 200


def test_it_ends_with_a_gateway_that_was_killed(product: Start) -> None:
    running = product(control=True)
    control = control_of(running)
    running.kill()
    assert by_and_by(lambda: gone(control), 10), "the control process lives on"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", running.control_port))
    running.expected_code = -signal.SIGKILL.value


def test_keys_that_are_being_made_at_the_end_are_made_or_refused_whole(product: Start) -> None:
    running = product(control=True)
    answers: list[int] = []
    tokens: list[str] = []

    def make() -> None:
        wanted = {"name": "late", "ttl": 1, "permission": "viewer"}
        for _ in range(20):
            try:
                path = "/api/1/api-keys"
                status, body = ask(running.control_port, "POST", path, running.keys.editor, wanted)
            except (OSError, http.client.HTTPException):
                return
            answers.append(status)
            if status == 201:
                tokens.append(json.loads(body)["apiToken"])

    makers = [threading.Thread(target=make) for _ in range(4)]
    for maker in makers:
        maker.start()
    assert by_and_by(lambda: len(tokens) >= 4, 10)
    running.signal(signal.SIGTERM)
    for maker in makers:
        maker.join()
    assert running.wait() == 0
    assert set(answers) <= {201, 503}
    listed = cli("keys", "list", "--tenant", "default", "--json", store=running.store)
    shown = {key["lastFour"] for key in json.loads(listed.stdout) if key["name"] == "late"}
    assert {token[-4:] for token in tokens} <= shown


def test_no_secret_stands_on_its_command_line_or_in_its_environment(
    tmp_path: Path, keys: Keys, shared_backend: Any
) -> None:
    pepper = "a-pepper-that-is-long-enough-to-be-one-0123456789"
    fresh = Keys.__new__(Keys)
    fresh.store = tmp_path / "seed" / "gateway.db"
    fresh.store.parent.mkdir()
    settings = {
        "store": {"url": f"sqlite://{tmp_path}/own.db"},
        "secrets": {"pepper_file": f"{tmp_path}/pepper"},
    }
    (tmp_path / "pepper").write_text(pepper + "\n")
    made = Product(tmp_path / "gateway", keys, shared_backend.port, settings, control=True)
    try:
        # Another store, another pepper: nobody is known, and it says so.
        assert ask(made.control_port, "GET", "/api/1/api-keys", keys.editor)[0] == 401
        (control,) = children(made.process.pid)
        for name in ("cmdline", "environ"):
            assert pepper.encode() not in Path(f"/proc/{control}/{name}").read_bytes()
    finally:
        made.stop()


def test_a_gateway_whose_api_cannot_be_served_says_so_and_does_not_start(product: Start) -> None:
    missing = {"control": {"tls": {"cert": "/nowhere/tls.crt", "key": "/nowhere/tls.key"}}}
    running = product(missing, control=True, wait=False)
    running.expected_code = 1
    assert running.wait(20) == 1
    assert running.stderr.count("\n") == 1
    assert "/nowhere/tls.crt" in running.stderr


def test_without_a_listener_there_is_no_process(product: Start) -> None:
    running = product()
    assert children(running.process.pid) == []
    assert free_port() != running.control_port
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", running.control_port)) != 0
