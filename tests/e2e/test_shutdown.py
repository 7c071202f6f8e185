"""Shutdown as Kubernetes does it: unready at once, accepting for a while yet, then finished: exit code 0."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.conftest import Start
from tests.wire.backend import OK, Backend, Exchange, eventually
from tests.wire.client import Client, get
from tests.wire.product import Product

DRAINING = {"timeouts": {"drain_delay": "1s", "drain": "5s"}}


class Load:
    """Callers that keep asking; every answer or failure is noted with its time."""

    def __init__(self, product: Product, path: str, keep_alive: bool) -> None:
        self.product, self.path, self.keep_alive = product, path, keep_alive
        self.failures: list[str] = []
        self.served = 0
        self.refused = 0
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def join(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(10)

    def _run(self) -> None:
        client: Client | None = None
        while not self.stop.is_set():
            if client is None:
                try:
                    client = Client(self.product.port)
                except ConnectionRefusedError:
                    self.refused += 1
                    break
                except OSError as error:
                    self.failures.append(f"connect: {error!r}")
                    break
            client = self._ask(client)
        if client is not None:
            client.close()

    def _ask(self, client: Client) -> Client | None:
        try:
            response = client.send(get(self.path, key=self.product.keys.viewer)).response()
        except Exception as error:
            self.failures.append(repr(error))
            client.close()
            return None
        if response.status != 200:
            self.failures.append(str(response.status))
        self.served += 1
        if response.says_close or not self.keep_alive:
            client.close()
            return None
        return client


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "a connection each"])
def test_sigterm_under_load_loses_no_request(
    product: Start, backend: Backend, path: str, keep_alive: bool
) -> None:
    def little(exchange: Exchange) -> None:
        time.sleep(0.01)
        exchange.send(OK)

    backend.on(path, little)
    gateway = product(DRAINING)
    load = Load(gateway, path, keep_alive)
    eventually(lambda: load.served > 100)
    begun = time.monotonic()
    gateway.signal(signal.SIGTERM)
    eventually(lambda: gateway.ops("/readyz")[0] != 200, within=0.7, why="still ready after SIGTERM")
    code = gateway.wait(8)
    took = time.monotonic() - begun
    load.join()
    assert code == 0
    assert load.failures == []
    assert took >= 1.0, "connections were not accepted for the whole delay"
    assert took < 5, "nothing ran any more: the drain need not last"


def test_running_exchange_is_finished_and_told_to_close(product: Start, backend: Backend, path: str) -> None:
    release = threading.Event()

    def slow(exchange: Exchange) -> None:
        release.wait(10)
        exchange.send(OK)

    backend.on(path, slow)
    gateway = product(DRAINING)
    with Client(gateway.port) as idle, Client(gateway.port) as client:
        assert idle.send(get(path + "-idle", key=gateway.keys.viewer)).response().status == 200
        client.send(get(path, key=gateway.keys.viewer))
        eventually(lambda: backend.requests_for(path))
        gateway.signal(signal.SIGTERM)
        eventually(lambda: gateway.ops("/readyz")[0] != 200)
        with Client(gateway.port) as late:
            response = late.send(get(path + "-late", key=gateway.keys.viewer)).response()
            assert response.status == 200, "accepted while the delay lasts"
            assert response.says_close
            late.expect_closed()
        time.sleep(1.2)
        with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
            Client(gateway.port).close()
        release.set()
        response = client.response()
        assert response.status == 200
        assert response.says_close
        idle.expect_closed()
    assert gateway.wait(5) == 0


def test_requests_that_were_queued_when_accepting_ends_are_answered(product: Start, path: str) -> None:
    """They wait in the listener's queue, bytes and all, while the process does not run for a moment."""
    gateway = product(DRAINING)
    with contextlib.ExitStack() as stack:
        gateway.signal(signal.SIGTERM)
        begun = time.monotonic()
        eventually(lambda: gateway.ops("/readyz")[0] != 200)
        gateway.signal(signal.SIGSTOP)
        queued = []
        try:
            for _ in range(20):
                client = stack.enter_context(Client(gateway.port))
                queued.append(client.send(get(path, key=gateway.keys.viewer)))
            time.sleep(max(0.0, begun + 1.3 - time.monotonic()))
        finally:
            gateway.signal(signal.SIGCONT)
        for client in queued:
            response = client.response()
            assert response.status == 200
            assert response.says_close
    assert gateway.wait(5) == 0


def connected(product: Product) -> Client | None:
    """Connect; None once nobody listens any more."""
    try:
        return Client(product.port)
    except ConnectionRefusedError:
        return None


def test_caller_that_connected_in_time_may_still_send_its_request(product: Start, path: str) -> None:
    """A connection that was accepted a moment before accepting ends has its first request on the way."""
    gateway = product({"timeouts": {"drain_delay": "500ms", "drain": "5s"}})
    gateway.signal(signal.SIGTERM)
    answered = 0
    while client := connected(gateway):
        with client:
            time.sleep(0.02)
            assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
            answered += 1
    assert answered > 5
    assert gateway.wait(5) == 0


def test_exchange_that_does_not_end_is_cut_at_the_end_of_the_drain(
    product: Start, backend: Backend, path: str
) -> None:
    backend.on(path, lambda exchange: exchange.wait_for_end(15))
    gateway = product({"timeouts": {"drain_delay": "0s", "drain": "1s"}})
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer))
        eventually(lambda: backend.requests_for(path))
        begun = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(6) == 0
        assert 0.8 < time.monotonic() - begun < 4


def test_sigint_skips_the_delay(product: Start) -> None:
    gateway = product({"timeouts": {"drain_delay": "30s"}})
    begun = time.monotonic()
    gateway.signal(signal.SIGINT)
    assert gateway.wait(5) == 0
    assert time.monotonic() - begun < 3


def test_second_signal_ends_at_once(product: Start, backend: Backend, path: str) -> None:
    backend.on(path, lambda exchange: exchange.wait_for_end(15))
    gateway = product({"timeouts": {"drain_delay": "30s", "drain": "30s"}})
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
        assert time.monotonic() - begun < 2
    assert "Traceback" not in gateway.stderr


def test_access_log_is_whole_at_the_end(product: Start, path: str) -> None:
    import json

    gateway = product()
    with Client(gateway.port) as client:
        for number in range(100):
            assert client.send(get(f"{path}?{number}", key=gateway.keys.viewer)).response().status == 200
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    lines = [json.loads(line) for line in gateway.access_log.read_text().splitlines()]
    assert [line["target"] for line in lines if line["status"] == 200] == [f"{path}?{n}" for n in range(100)]


def test_a_hangup_without_a_terminal_ends_nothing(product: Start, backend: Backend, path: str) -> None:
    started = product({})
    started.process.send_signal(signal.SIGHUP)
    eventually(lambda: "SIGHUP" in started.stderr, within=5, why="nobody was told what SIGHUP does")
    with Client(started.port) as client:
        assert client.send(get(path, key=started.keys.viewer)).response().status == 200


def test_the_operator_is_told_once_that_a_backend_cannot_be_reached(product: Start, path: str) -> None:
    with socket.socket() as taken:
        # Bound but not listening: nobody else gets the port, and connecting to it is refused.
        taken.bind(("127.0.0.1", 0))
        _assert_told_once(product({}, upstream_port=taken.getsockname()[1]), path)


def _assert_told_once(started: Product, path: str) -> None:
    for _ in range(3):
        with Client(started.port) as client:
            assert client.send(get(path, key=started.keys.viewer)).response().code == "upstream_unreachable"
    assert started.stderr.count("cannot be reached: Connection refused") == 1
