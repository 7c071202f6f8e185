"""Several workers are one gateway: they share callers, add up, and outlive one another."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.e2e.test_control_process import ask
from tests.e2e.workers import Callers, alive, all_serve, who_answered, workers_of
from tests.wire.backend import OK, Backend, Exchange, eventually
from tests.wire.client import Client, get
from tests.wire.product import Keys, Product

CRASHED = 'gateway_worker_ends_total{how="crashed"}'
TOTAL = 'gateway_requests_total{code="200",method="GET",route="/"}'


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, keys: Keys, shared_backend: Backend) -> Iterator[Product]:
    """A gateway of three workers, of which none is harmed."""
    product = Product(
        tmp_path_factory.mktemp("three"), keys, shared_backend.port, {"workers": 3}, control=True
    )
    all_serve(product, 3)
    yield product
    product.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, keys: Keys, shared_backend: Backend) -> Iterator[Product]:
    """A gateway of two workers, to which tests do harm; each leaves it with two that serve."""
    settings = {"workers": 2, "timeouts": {"drain_delay": "1s"}}
    product = Product(tmp_path_factory.mktemp("pair"), keys, shared_backend.port, settings)
    all_serve(product, 2)
    yield product
    product.stop()


FROZEN_S = 6.5
"""Longer than it takes a worker that does not answer to be taken for stuck."""
SPARED_S = 3.0
"""More than the looks that could count against the workers once they are thawed."""


@pytest.fixture(scope="module", autouse=True)
def thawed(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys, shared_backend: Backend
) -> Iterator[Product]:
    """A gateway whose processes are all stopped while other tests run, and go on after a while."""
    product = Product(tmp_path_factory.mktemp("thawed"), keys, shared_backend.port, {"workers": 2})
    all_serve(product, 2)
    product.workers = workers_of(product)  # type: ignore[attr-defined]
    for pid in workers_of(product):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.3)  # more than a second, so that the supervisor waits for an answer when it is stopped
    os.kill(product.process.pid, signal.SIGSTOP)

    def thaw() -> None:
        for pid in (product.process.pid, *product.workers):  # type: ignore[attr-defined]
            os.kill(pid, signal.SIGCONT)

    timer = threading.Timer(FROZEN_S, thaw)
    timer.start()
    product.spared_at = time.monotonic() + FROZEN_S + SPARED_S  # type: ignore[attr-defined]
    yield product
    timer.join()
    product.stop()


def test_callers_are_dealt_out_among_all_workers(three: Product, path: str) -> None:
    assert len(set(who_answered(three, path, 60))) == 3


def test_their_numbers_are_one_gateways(three: Product, path: str) -> None:
    before = three.metric(TOTAL)
    who_answered(three, path, 30)
    assert three.metric(TOTAL) == before + 30
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(Client(three.port)).send(get(path, key=three.keys.viewer)).response()
        assert three.metric("gateway_downstream_connections") == 12
    assert three.metric("gateway_key_table_keys") == 3
    assert three.metric("gateway_store_up") == 1
    pids = [three.process.pid, *workers_of(three)]
    resident = sum(Product.resident_of(pid) for pid in pids)
    assert 0.5 * resident < three.metric("process_resident_memory_bytes") < 1.5 * resident


def test_a_key_that_is_made_or_revoked_is_so_for_all_of_them(three: Product, path: str) -> None:
    wanted = {"name": "everywhere", "ttl": 1, "permission": "viewer"}
    status, body = ask(three.control_port, "POST", "/api/1/api-keys", three.keys.editor, wanted)
    assert status == 201
    made = json.loads(body)

    def statuses() -> set[int]:
        found = set()
        for _ in range(20):
            with Client(three.port) as client:
                found.add(client.send(get(path, key=made["apiToken"])).response().status)
        return found

    eventually(lambda: statuses() == {200}, why="not every worker knows the key")
    status, _ = ask(three.control_port, "DELETE", f"/api/1/api-keys/{made['keyId']}", three.keys.editor)
    assert status == 200
    eventually(lambda: statuses() == {401}, why="a worker serves a revoked key")


def test_probes_are_answered_for_all(three: Product) -> None:
    assert three.ops("/readyz") == (200, "Ready.\n")
    assert three.ops("/startupz")[0] == 200
    assert three.ops("/livez")[0] == 200


def test_no_secret_stands_on_a_command_line_or_in_an_environment(three: Product) -> None:
    pepper = Path(f"{three.store}.pepper").read_text().split()[0]
    for pid in workers_of(three):
        for name in ("cmdline", "environ"):
            assert pepper.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_a_loop_is_seen_whichever_worker_it_comes_back_to(
    three: Product, backend: Backend, path: str
) -> None:
    who_answered(three, path, 1)
    via = backend.the_request_for(path).value(b"via")
    assert via is not None
    for _ in range(12):
        with Client(three.port) as client:
            client.send(get(path, b"Via: " + via, key=three.keys.viewer))
            assert client.response().code == "loop_detected"


def test_who_calls_while_workers_start_waits_and_is_answered(
    product: Start, backend: Backend, path: str
) -> None:
    gateway = product({"workers": 2}, wait=False)
    answers = []
    while len(answers) < 20:
        try:
            with Client(gateway.port, timeout=15) as client:
                answers.append(client.send(get(path, key=gateway.keys.viewer)).response().status)
        except ConnectionRefusedError:
            assert gateway.process.poll() is None, gateway.stderr
            time.sleep(0.005)
    assert answers == [200] * 20, "somebody was accepted before there were keys"


def test_a_second_gateway_on_the_port_is_refused(three: Product, product: Start) -> None:
    for workers in (1, 2):
        settings = {"workers": workers, "listen": f"127.0.0.1:{three.port}"}
        second = product(settings, wait=False)
        second.expected_code = 1
        assert second.wait() == 1
        assert "Address already in use" in second.stderr


def test_more_workers_than_files_can_be_open_for_are_refused(product: Start) -> None:
    many = product({"workers": 64}, files=150, wait=False)
    many.expected_code = 1
    assert many.wait() == 1
    told = "64 workers need 192 open files, and the limit is 150: raise it, or start fewer"
    assert many.stderr == f"gateway: {told}\n"


def test_a_killed_worker_is_replaced_and_only_what_it_had_is_lost(
    pair: Product, backend: Backend, path: str
) -> None:
    backend.on(path, _little)
    victim, other = workers_of(pair)
    crashed = pair.metric(CRASHED)
    with Callers(pair, path, keep_alive=False) as callers:
        callers.wait_for(100)
        counted = pair.metric(TOTAL)
        os.kill(victim, signal.SIGKILL)
        callers.wait_for(200)
        assert pair.metric(TOTAL) >= counted, "a counter fell"
        all_serve(pair, 2)
        callers.wait_for(100)
    assert callers.refused == []
    # Each caller has one request at a time; only those that the worker had accepted can be lost.
    assert len(callers.failed) <= 8, callers.failed
    assert not any("503" in failure for failure in callers.failed)
    assert f" (pid {victim}) ended by SIGKILL and is started again" in pair.stderr
    assert workers_of(pair)[0] == other
    assert pair.metric(CRASHED) == crashed + 1


def test_who_waits_at_a_killed_worker_is_answered_by_another(
    pair: Product, backend: Backend, path: str
) -> None:
    """They are in the queue of its socket, bytes and all: the socket outlives the worker."""
    victim = workers_of(pair)[0]
    with contextlib.ExitStack() as stack:
        os.kill(victim, signal.SIGSTOP)
        queued = []
        for _ in range(40):
            client = stack.enter_context(Client(pair.port))
            queued.append(client.send(get(path, key=pair.keys.viewer)))
        os.kill(victim, signal.SIGKILL)
        assert [client.response().status for client in queued] == [200] * 40
    all_serve(pair, 2)


def test_who_calls_while_all_workers_are_gone_waits_for_those_that_have_keys(
    pair: Product, backend: Backend, path: str
) -> None:
    with contextlib.ExitStack() as stack:
        victims = workers_of(pair)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        eventually(lambda: not any(map(alive, victims)))
        clients = [stack.enter_context(Client(pair.port, timeout=15)) for _ in range(40)]
        for client in clients:
            client.send(get(path, key=pair.keys.viewer))
        assert [client.response().status for client in clients] == [200] * 40
    all_serve(pair, 2)


def test_a_worker_that_is_asked_to_end_loses_no_request(pair: Product, backend: Backend, path: str) -> None:
    backend.on(path, _little)
    before = pair.metric(TOTAL)
    with (
        Callers(pair, path, keep_alive=True) as kept,
        Callers(pair, path, keep_alive=False) as single,
    ):
        for _ in range(2):
            for callers in (kept, single):
                callers.wait_for(50)
            leaver = workers_of(pair)[0]
            os.kill(leaver, signal.SIGTERM)
            eventually(lambda leaver=leaver: not alive(leaver), within=10, why="it does not end")
            all_serve(pair, 2)
        for callers in (kept, single):
            callers.wait_for(50)
    for callers in (kept, single):
        assert callers.refused == []
        assert callers.failed == []
    assert pair.stderr.count("was asked to end and is started again") == 2
    assert pair.metric('gateway_worker_ends_total{how="asked"}') == 2
    counted = pair.metric(TOTAL) - before
    assert counted == kept.served + single.served, "who ends by itself leaves its numbers"


def test_a_stuck_worker_is_replaced_and_callers_need_not_wait_for_that(
    pair: Product, backend: Backend, path: str
) -> None:
    stuck, other = workers_of(pair)
    os.kill(stuck, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(pair.port)) for _ in range(30)]
        for client in clients:
            client.send(get(path, key=pair.keys.viewer))
        assert {client.response().status for client in clients} == {200}
        assert alive(stuck), "they were answered before it was replaced"
    assert " does not serve: it does not answer." in pair.ops("/readyz")[1]
    eventually(lambda: not alive(stuck), within=15, why="the stuck worker lives on")
    all_serve(pair, 2)
    assert f" (pid {stuck}) has not answered for 5 s and is replaced" in pair.stderr
    assert other in workers_of(pair)
    assert pair.metric('gateway_worker_ends_total{how="stuck"}') == 1


def test_a_worker_that_cannot_start_again_is_told_and_the_others_serve(
    pair: Product, backend: Backend, path: str
) -> None:
    """Nor does it begin a new store where the one that is known is away."""
    away = pair.store.rename(pair.store.with_name("away.db"))
    os.kill(workers_of(pair)[0], signal.SIGKILL)
    eventually(lambda: "cannot be started again: the store" in pair.stderr, within=15)
    assert who_answered(pair, path, 20)
    status, told = pair.ops("/readyz")
    assert (status, " does not serve" in told) == (200, True)
    assert not pair.store.exists()
    away.rename(pair.store)
    all_serve(pair, 2)


def test_a_unix_socket_is_shared_by_all(product: Start, backend: Backend, path: str, tmp_path: Path) -> None:
    place = tmp_path / "socket"
    gateway = product({"workers": 2, "listen": f"unix:{place}"})
    all_serve(gateway, 2)

    def answer() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(place))
            sock.sendall(get(path, key=gateway.keys.viewer))
            return sock.recv(4096)

    victim = workers_of(gateway)[0]
    os.kill(victim, signal.SIGKILL)
    answers = [answer() for _ in range(30)]
    assert all(data.startswith(b"HTTP/1.1 200") for data in answers)
    all_serve(gateway, 2)
    gateway.signal()
    assert gateway.wait() == 0
    assert not place.exists()


def test_the_limit_of_connections_is_the_gateways(product: Start, backend: Backend, path: str) -> None:
    gateway = product({"workers": 2, "limits": {"connections": 8}})
    all_serve(gateway, 2)
    with contextlib.ExitStack() as stack:
        statuses = []
        for _ in range(24):
            client = stack.enter_context(Client(gateway.port))
            statuses.append(client.send(get(path, key=gateway.keys.viewer)).response().status)
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= 8


def test_log_lines_of_all_workers_stay_whole_in_a_pipe(
    tmp_path: Path, keys: Keys, shared_backend: Backend, path: str
) -> None:
    """Longer than a pipe keeps together, and read more slowly than they come."""
    reading, writing = os.pipe()
    told: list[bytes] = []

    def read() -> None:
        while data := os.read(reading, 3000):
            told.append(data)

    reader = threading.Thread(target=read)
    settings = {"workers": 4, "access_log": {"path": "stdout"}}
    gateway = Product(tmp_path / "gateway", keys, shared_backend.port, settings, stdout=writing)
    os.close(writing)
    try:
        all_serve(gateway, 4)
        long = f"{path}?{'x' * 6000}"
        with Callers(gateway, long, keep_alive=True, count=16) as callers:
            callers.wait_for(1500)
            reader.start()
    finally:
        gateway.stop()
    reader.join(10)
    os.close(reading)
    assert callers.failed == callers.refused == []
    lines = b"".join(told).decode().splitlines()
    assert len([json.loads(line) for line in lines]) == callers.served
    assert {json.loads(line)["target"] for line in lines} == {long}


def test_a_frozen_and_thawed_group_is_spared(thawed: Product, path: str) -> None:
    """Nobody answered for longer than it takes to be stuck, the one who would say so included."""
    time.sleep(max(0.0, thawed.spared_at - time.monotonic()))  # type: ignore[attr-defined]
    who_answered(thawed, path, 10)
    all_serve(thawed, 2)
    assert workers_of(thawed) == thawed.workers  # type: ignore[attr-defined]
    assert "replaced" not in thawed.stderr


def _little(exchange: Exchange) -> None:
    time.sleep(0.005)
    exchange.send(OK)
