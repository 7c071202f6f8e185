"""The gateway among the variables that Kubernetes injects for a Service called ``gateway``."""

from __future__ import annotations

from tests.conftest import Start
from tests.wire.client import Client, get

INJECTED = {
    "GATEWAY_SERVICE_HOST": "10.96.0.7",
    "GATEWAY_SERVICE_PORT": "8080",
    "GATEWAY_SERVICE_PORT_HTTP": "8080",
    "GATEWAY_PORT": "tcp://10.96.0.7:8080",
    "GATEWAY_PORT_8080_TCP": "tcp://10.96.0.7:8080",
    "GATEWAY_PORT_8080_TCP_PROTO": "tcp",
    "GATEWAY_PORT_8080_TCP_PORT": "8080",
    "GATEWAY_PORT_8080_TCP_ADDR": "10.96.0.7",
}


def test_variables_of_a_service_called_gateway_are_ignored(product: Start) -> None:
    gateway = product(environment=INJECTED)
    with Client(gateway.port) as client:
        assert client.send(get("/x", key=gateway.keys.viewer)).response().status == 200
    assert gateway.stderr.count("10.96.0.7") == 0


def test_variables_stand_over_the_file(product: Start) -> None:
    gateway = product(environment={"GATEWAY_LIMITS__TARGET_BYTES": "100"})
    with Client(gateway.port) as client:
        assert client.send(get("/" + "a" * 99, key=gateway.keys.viewer)).response().status == 200
        assert client.send(get("/" + "a" * 100, key=gateway.keys.viewer)).response().status == 414


def test_misspelt_variable_is_refused_with_the_nearest_name(product: Start) -> None:
    gateway = product(environment={"GATEWAY_LIMITS__TARGET_BYTE": "100"}, wait=False)
    gateway.expected_code = 2
    assert gateway.wait(10) == 2
    assert "target_bytes" in gateway.stderr.lower()
    assert len([line for line in gateway.stderr.splitlines() if line.strip()]) == 1
