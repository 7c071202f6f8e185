"""How a gateway of several workers ends: as one of one does, and without orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.e2e.workers import Callers, alive, all_serve, workers_of
from tests.wire.backend import OK, Backend, Exchange, eventually
from tests.wire.client import Client, get

DRAINING = {"workers": 2, "timeouts": {"drain_delay": "1s", "drain": "5s"}}


def little(exchange: Exchange) -> None:
    time.sleep(0.005)
    exchange.send(OK)


@pytest.mark.parametrize("to_all", [False, True], ids=["to the supervisor", "to every process"])
def test_sigterm_under_load_loses_no_request(
    product: Start, backend: Backend, path: str, to_all: bool
) -> None:
    """Service managers signal every process of a service, and Kubernetes the first one."""
    backend.on(path, little)
    gateway = product(DRAINING)
    all_serve(gateway, 2)
    workers = workers_of(gateway)
    with (
        Callers(gateway, path, keep_alive=True) as kept,
        Callers(gateway, path, keep_alive=False) as single,
    ):
        for callers in (kept, single):
            callers.wait_for(50)
        begun = time.monotonic()
        for pid in [*(workers if to_all else []), gateway.process.pid]:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: gateway.ops("/readyz")[0] != 200, within=0.7, why="still ready after SIGTERM")
        code = gateway.wait(8)
        took = time.monotonic() - begun
        for callers in (kept, single):
            callers.until_gone()
    assert code == 0
    for callers in (kept, single):
        assert callers.failed == []
        # Nobody listens any more: that is how they learn of the end.
        assert all("Refused" in word or "Reset" in word for word in callers.refused)
    assert 1.0 <= took < 5
    assert not any(alive(pid) for pid in workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_callers_of_a_unix_socket_are_served_or_find_it_gone(
    product: Start, path: str, tmp_path: Path, workers: int
) -> None:
    place = tmp_path / "socket"
    gateway = product({"workers": workers, "listen": f"unix:{place}", "timeouts": {"drain_delay": "0s"}})
    question, failed, served = get(path, key=gateway.keys.viewer), [], []

    def ask() -> None:
        while True:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                try:
                    sock.connect(str(place))
                except FileNotFoundError:
                    return
                try:
                    sock.sendall(question)
                    served.append(sock.recv(4096).startswith(b"HTTP/1.1 200"))
                except OSError as error:
                    failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(served) > 100)
    gateway.signal(signal.SIGTERM)
    for thread in threads:
        thread.join(15)
    assert gateway.wait(5) == 0
    assert failed == []
    assert all(served)


def test_running_exchange_is_finished_and_told_to_close(product: Start, backend: Backend, path: str) -> None:
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        release.wait(10)
        exchange.send(OK)

    backend.on(path, slow)
    gateway = product(DRAINING)
    all_serve(gateway, 2)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gateway.port)) for _ in range(8)]
        for client in clients:
            client.send(get(path, key=gateway.keys.viewer))
        eventually(lambda: len(backend.requests_for(path)) == 8)
        gateway.signal(signal.SIGTERM)
        eventually(lambda: gateway.ops("/readyz")[0] != 200)
        with Client(gateway.port) as late:
            response = late.send(get(path + "-late", key=gateway.keys.viewer)).response()
            assert (response.status, response.says_close) == (200, True)
        eventually(lambda: not listens(gateway.port), why="connections are accepted for ever")
        release.set()
        for client in clients:
            response = client.response()
            assert (response.status, response.says_close) == (200, True)
    assert gateway.wait(5) == 0


def test_a_terminals_sigint_is_the_supervisors_alone(product: Start, backend: Backend, path: str) -> None:
    backend.on(path, little)
    gateway = product({"workers": 2, "timeouts": {"drain_delay": "30s"}})
    all_serve(gateway, 2)
    with Callers(gateway, path, keep_alive=False) as callers:
        callers.wait_for(50)
        begun = time.monotonic()
        for pid in (*workers_of(gateway), gateway.process.pid):
            os.kill(pid, signal.SIGINT)
        assert gateway.wait(5) == 0
        callers.until_gone()
    assert callers.failed == []
    assert time.monotonic() - begun < 4


def test_second_signal_ends_at_once(product: Start, backend: Backend, path: str) -> None:
    backend.on(path, lambda exchange: exchange.wait_for_end(15))
    gateway = product({"workers": 2, "timeouts": {"drain_delay": "30s", "drain": "30s"}})
    all_serve(gateway, 2)
    workers = workers_of(gateway)
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer))
        eventually(lambda: backend.requests_for(path))
        gateway.signal(signal.SIGTERM)
        eventually(lambda: gateway.ops("/readyz")[0] != 200)
        begun = time.monotonic()
        gateway.signal(signal.SIGTERM)
        try:
            gateway.wait(5)
        except subprocess.TimeoutExpired:
            pytest.fail("the second signal changed nothing")
        assert time.monotonic() - begun < 3
    assert not any(alive(pid) for pid in workers)


def test_workers_of_a_killed_supervisor_finish_what_runs_and_end(
    product: Start, backend: Backend, path: str
) -> None:
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        release.wait(10)
        exchange.send(OK)

    backend.on(path, slow)
    gateway = product(DRAINING)
    all_serve(gateway, 2)
    workers = workers_of(gateway)
    gateway.expected_code = -signal.SIGKILL.value
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(gateway.port)) for _ in range(8)]
        for client in clients:
            client.send(get(path, key=gateway.keys.viewer))
        eventually(lambda: len(backend.requests_for(path)) == 8)
        gateway.signal(signal.SIGKILL)
        eventually(lambda: not listens(gateway.port), why="an orphan listens")
        release.set()
        assert [client.response().status for client in clients] == [200] * 8
    eventually(lambda: not any(alive(pid) for pid in workers), within=10, why="an orphan lives on")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", gateway.port))


def test_a_gateway_that_ends_while_its_workers_start_leaves_none(product: Start) -> None:
    gateway = product({"workers": 4}, wait=False)
    eventually(lambda: len(workers_of(gateway)) == 4, within=15)
    workers = workers_of(gateway)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(15) == 0
    assert not any(alive(pid) for pid in workers)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(2)
        return sock.connect_ex(("127.0.0.1", port)) == 0
