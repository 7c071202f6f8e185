"""The end of a pod as its manifest orders it: both programs, and signals as the kubelet sends them."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.deploy.manifests import ROOT, one
from tests.e2e.nginx import Nginx
from tests.wire.product import Product, free_port

# The manifest's own seconds would make a slow test; what matters is which is longer.
DRAIN_DELAY_S = 0.5
SLEEP_S = 0.8


class Caller(threading.Thread):
    """Asks again and again, on a kept connection while it may, until nobody accepts any more."""

    def __init__(self, port: int, key: str) -> None:
        super().__init__(daemon=True)
        self.answers: list[int] = []
        self.failures: list[str] = []
        self._port, self._key = port, key
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while True:
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                return  # nothing was accepted, so nothing was lost
            kept = bool(self.answers) and connection.sock is not None
            try:
                connection.request("GET", "/page.html", headers={"X-API-KEY": self._key})
                response = connection.getresponse()
                response.read()
                self.answers.append(response.status)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                # An idle kept connection may be closed at any time (RFC 9112 §9.3.1): asked anew.
                if not kept:
                    self.failures.append(repr(error))
                connection.close()
            time.sleep(0.002)


def test_no_request_is_lost_when_the_pod_ends(tmp_path: Path, product: Callable[..., Product]) -> None:
    port = free_port()
    (tmp_path / "html").mkdir()
    (tmp_path / "html/page.html").write_text("a page")
    conf = one("ConfigMap", "files-backend")["data"]["nginx.conf"]
    for manifest, test in (
        ("/tmp/", f"{tmp_path}/"),
        ("/usr/share/nginx/html", f"{tmp_path}/html"),
        ("127.0.0.1:9000", f"127.0.0.1:{port}"),
    ):
        assert manifest in conf
        conf = conf.replace(manifest, test)
    nginx = Nginx(tmp_path, conf)
    nginx.wait_for(port)
    shipped = yaml.safe_load((ROOT / "config/sidecar.yaml").read_text())
    gateway = product(
        {"routes": shipped["routes"], "timeouts": {"drain_delay": f"{DRAIN_DELAY_S * 1000:.0f}ms"}},
        upstream_port=port,
    )
    callers = [Caller(gateway.port, gateway.keys.viewer) for _ in range(4)]
    until(lambda: all(len(caller.answers) > 20 for caller in callers))

    began = time.monotonic()
    gateway.signal(signal.SIGTERM)  # the sidecar's hook
    until(lambda: gateway.ops("/readyz")[0] != 200)
    assert time.monotonic() - began < DRAIN_DELAY_S, "it must be unready at once"
    time.sleep(max(0.0, began + SLEEP_S - time.monotonic()))  # the backend's hook, which is a sleep
    nginx.process.send_signal(signal.SIGQUIT)
    nginx.process.wait(10)
    assert gateway.wait(10) == 0

    for caller in callers:
        caller.join(10)
        assert caller.failures == []
        assert set(caller.answers) == {200}


def until(holds: Callable[[], bool], within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
