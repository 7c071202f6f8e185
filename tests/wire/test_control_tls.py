"""The control listener over TLS: renewed under a running gateway, refused where it cannot be had."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from tests.conftest import Start
from tests.wire.backend import eventually
from tests.wire.product import Product, cli, free_port

CA = trustme.CA()


def hold(directory: Path, leaf: trustme.LeafCert) -> dict[str, str]:
    """Put a certificate and its key where the gateway looks for them; return the setting."""
    directory.mkdir(exist_ok=True)
    files = {"cert": directory / "tls.crt", "key": directory / "tls.key"}
    contents = {
        "cert": b"".join(blob.bytes() for blob in leaf.cert_chain_pems),
        "key": leaf.private_key_pem.bytes(),
    }
    for name, path in files.items():
        new = path.with_suffix(".new")
        new.write_bytes(contents[name])
        os.replace(new, path)
    return {name: str(path) for name, path in files.items()}


def trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    return context


def serial(gateway: Product) -> int:
    with (
        socket.create_connection(("127.0.0.1", gateway.control_port), timeout=5) as plain,
        trust().wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def serial_of(leaf: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def test_keys_are_managed_over_tls_whose_certificate_is_renewed(product: Start, tmp_path: Path) -> None:
    first, second = CA.issue_cert("localhost"), CA.issue_cert("localhost")
    gateway = product({"control": {"tls": hold(tmp_path / "tls", first)}}, control=True)
    eventually(lambda: f"control API at https://127.0.0.1:{gateway.control_port}" in gateway.stderr)
    connection = http.client.HTTPSConnection("localhost", gateway.control_port, timeout=5, context=trust())
    with closing(connection):
        connection.request("GET", "/api/1/api-keys", headers={"X-API-KEY": gateway.keys.editor})
        assert connection.getresponse().status == 200
    assert "plain HTTP" not in gateway.stderr
    assert serial(gateway) == serial_of(first)
    hold(tmp_path / "tls", second)
    eventually(lambda: serial(gateway) == serial_of(second), within=20, why="the old certificate is shown on")


def test_who_speaks_http_to_tls_learns_nothing(product: Start, tmp_path: Path) -> None:
    tls = hold(tmp_path / "tls", CA.issue_cert("localhost"))
    gateway = product({"control": {"tls": tls}}, control=True)
    eventually(lambda: "control API at https" in gateway.stderr)
    with socket.create_connection(("127.0.0.1", gateway.control_port), timeout=5) as plain:
        plain.sendall(b"GET /api/1/api-keys HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not _read(plain).startswith(b"HTTP/")
    assert serial(gateway)


def _read(sock: socket.socket) -> bytes:
    """Return what comes; a reset is an answer too."""
    try:
        return sock.recv(100)
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"cert": "none.crt", "key": "none.key"}, "none.crt cannot be read: No such file"),
        ({"cert": "tls.key", "key": "tls.key"}, "tls.key does not hold a certificate"),
    ],
)
def test_certificate_that_cannot_be_had_is_one_sentence(
    files: dict[str, str], told: str, tmp_path: Path
) -> None:
    hold(tmp_path, CA.issue_cert("localhost"))
    paths = {name: str(tmp_path / file) for name, file in files.items()}
    config = tmp_path / "g.yaml"
    config.write_text(f"control: {{tls: {{cert: {paths['cert']}, key: {paths['key']}}}}}\n")
    run = cli(
        *("run", "--config", str(config), "--upstream", "http://127.0.0.1:9"),
        *("--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0"),
        store=tmp_path / "g.db",
    )
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    assert run.stderr.startswith("gateway: control.tls: ")
    assert told in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_what_is_in_clear_on_a_network_is_said_loudly(product: Start) -> None:
    """Bound to all interfaces for a moment; nothing but this test knows the port."""
    settings = {"control": {"listen": f"0.0.0.0:{free_port()}", "allow_plaintext": True}}
    gateway = product(settings)
    assert "passwords, login tokens and new keys cross the network in clear" in gateway.stderr


def test_control_listener_may_be_off(product: Start) -> None:
    gateway = product({"control": {"listen": None}})
    assert "control API" not in gateway.stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.control_port), timeout=5).close()
