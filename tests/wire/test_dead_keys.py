"""Streams, downloads and uploads end with the key that began them; those of other keys go on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Start
from tests.e2e.test_propagation import QUICK, acting_key, move_away
from tests.wire.backend import Backend, Exchange, eventually
from tests.wire.client import Client, Cut, assert_refused, get
from tests.wire.product import Product, cli, make_key, revoke

WITHIN = 5.0
"""Seconds from a change to the end of what it ends: a look is made every second, and machines are busy."""


class Stream:
    """A backend that sends an event whenever it is told to, and knows when it was hung up on."""

    def __init__(self, backend: Backend, path: str, head: bytes) -> None:
        self.path = path
        self.head = head
        self.chunked = b"chunked" in head
        self.exchanges: list[Exchange] = []
        backend.on(path, self._serve)

    def _serve(self, exchange: Exchange) -> None:
        exchange.send(self.head + self._event())
        self.exchanges.append(exchange)
        while exchange.connection.fill():
            pass

    def _event(self) -> bytes:
        return b"7\r\nevent\r\n\r\n" if self.chunked else b"event\r\n"

    def tell_all(self) -> None:
        """Send an event to everybody who still listens."""
        for exchange in self.exchanges:
            if not exchange.connection.ended.is_set():
                exchange.send(self._event())

    def ended(self, number: int) -> bool:
        return self.exchanges[number].connection.ended.is_set()


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MILLION = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture(scope="module")
def live(start_shared: Start) -> Product:
    return start_shared({"routes": [
        {"path": "/public", "upstream": "backend", "auth": "anonymous"},
        {"path": "/", "upstream": "backend"},
    ]})  # fmt: skip


@pytest.fixture
def made(live: Product) -> dict[str, Any]:
    """A new key of an editor, which is known already."""
    key = make_key(live.store, "editor", "to-be-ended")
    wait_known(live, key["secretKey"])
    return key


def wait_known(product: Product, token: str) -> None:
    def served() -> bool:
        with Client(product.port) as client:
            return client.send(get("/known", key=token)).response().status == 200

    eventually(served, within=WITHIN, why="created, not known")


def logged(product: Product, path: str) -> list[dict[str, Any]]:
    lines = product.access_log.read_text().splitlines() if product.access_log.exists() else []
    return [line for line in map(json.loads, lines) if line["target"] == path]


def assert_cut(client: Client) -> None:
    """Read on until the end; it must come in time, and not look like a good one."""
    client.sock.settimeout(WITHIN)
    rest = client.rest(WITHIN)
    assert not rest.endswith(b"0\r\n\r\n"), "a final chunk: the caller takes the stream for whole"


def test_event_stream_ends_with_its_key_and_others_live_on(
    live: Product, backend: Backend, path: str, made: dict[str, Any]
) -> None:
    ended = 'gateway_connections_ended_total{reason="key_revoked"}'
    before = live.metric(ended)
    stream, public = Stream(backend, path, EVENTS), Stream(backend, f"/public{path}", EVENTS)
    with Client(live.port) as own, Client(live.port) as other, Client(live.port) as anonymous:
        for number, (client, key) in enumerate(((own, made["secretKey"]), (other, live.keys.viewer))):
            client.send(get(path, key=key))
            assert client.head().status == 200
            eventually(lambda wanted=number + 1: len(stream.exchanges) == wanted)
        assert anonymous.send(get(f"/public{path}")).head().status == 200
        revoke(live.store, made["id"])
        assert_cut(own)
        eventually(lambda: stream.ended(0), within=WITHIN, why="the backend goes on for nobody")
        stream.tell_all()
        public.tell_all()
        for client in (other, anonymous):
            eventually(lambda listener=client: _read_until(listener, b"event\r\n\r\n7\r\nevent\r\n\r\n"))
    assert live.metric(ended) == before + 1
    eventually(lambda: [line for line in logged(live, path) if line["reason"] == "key_revoked"])
    (line,) = [line for line in logged(live, path) if line["reason"] == "key_revoked"]
    assert line["status"] == 200
    assert line["key_id"] == made["id"]


def _read_until(client: Client, wanted: bytes) -> bool:
    client.sock.settimeout(WITHIN)
    seen = bytes(client._buffer)
    while wanted not in seen:
        data = client.sock.recv(65536)
        assert data, "this stream should live on"
        seen += data
    return True


def test_download_in_progress_is_cut_short(
    live: Product, backend: Backend, path: str, made: dict[str, Any]
) -> None:
    stream = Stream(backend, path, MILLION)
    with Client(live.port) as client:
        head = client.send(get(path, key=made["secretKey"])).head()
        assert head.value("content-length") == b"1000000"
        revoke(live.store, made["id"])
        with pytest.raises(Cut):
            client.body_of(head)
    eventually(lambda: stream.ended(0), within=WITHIN)


def test_response_that_only_its_end_would_delimit_ends_with_a_reset(
    live: Product, backend: Backend, path: str, made: dict[str, Any]
) -> None:
    Stream(backend, path, b"HTTP/1.1 200 OK\r\n\r\n")
    with Client(live.port) as client:
        client.send(get(path, key=made["secretKey"], version="HTTP/1.0"))
        assert client.head().status == 200
        revoke(live.store, made["id"])
        with pytest.raises(ConnectionResetError):
            client.rest(WITHIN)


def trickled(client: Client, stop: threading.Event) -> None:
    """Go on uploading, slowly, until nobody takes it any more."""
    try:
        while not stop.wait(0.05):
            client.send(b"x")
    except OSError:
        pass


@pytest.fixture
def uploading() -> Iterator[Any]:
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def begin(client: Client) -> None:
        threads.append(threading.Thread(target=trickled, args=(client, stop)))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


def test_upload_in_progress_is_refused(
    live: Product, backend: Backend, path: str, made: dict[str, Any], uploading: Any
) -> None:
    with Client(live.port) as client:
        client.send(
            get(path, "Content-Length: 1000000", method="POST", key=made["secretKey"]) + b"first bytes"
        )
        eventually(lambda: backend.requests_for(path))
        uploading(client)
        revoke(live.store, made["id"])
        client.sock.settimeout(WITHIN)
        assert_refused(client.response(), 401, "key_revoked")
    request = backend.the_request_for(path)
    eventually(lambda: request.connection.ended.is_set(), within=WITHIN)
    assert not request.complete, "half an upload was taken for a whole one"


def test_request_that_waits_for_its_answer_is_refused(
    live: Product, backend: Backend, path: str, made: dict[str, Any]
) -> None:
    def never(exchange: Exchange) -> None:
        while exchange.connection.fill():
            pass

    backend.on(path, never)
    with Client(live.port) as client:
        client.send(get(path, key=made["secretKey"]))
        eventually(lambda: backend.requests_for(path))
        revoke(live.store, made["id"])
        assert_refused(client.response(), 401, "key_revoked")
        assert_refused(client.send(get(path, key=made["secretKey"])).response(), 401, "key_revoked")
    assert len(backend.requests_for(path)) == 1


def test_stream_ends_when_its_key_expires(live: Product, backend: Backend, path: str) -> None:
    key = make_key(live.store, "viewer", "short-lived", "--ttl", "PT4S")["secretKey"]
    begun = time.monotonic()
    wait_known(live, key)
    stream = Stream(backend, path, EVENTS)
    with Client(live.port) as client:
        assert client.send(get(path, key=key)).head().status == 200
        assert_cut(client)
        assert time.monotonic() - begun > 2, "it was still good"
    eventually(lambda: stream.ended(0), within=WITHIN)
    eventually(lambda: logged(live, path)[-1:] and logged(live, path)[-1]["reason"] == "key_expired")


def test_streams_of_a_tenant_end_when_its_keys_are_switched_off(
    live: Product, backend: Backend, path: str
) -> None:
    assert cli("tenants", "add", "closing", store=live.store).returncode == 0
    run = cli(
        "keys", "create", "--tenant", "closing", "--name", "n", "--permission", "viewer", store=live.store
    )
    key = run.stdout.strip()
    wait_known(live, key)
    stream = Stream(backend, path, EVENTS)
    with Client(live.port) as own, Client(live.port) as other:
        assert own.send(get(path, key=key)).head().status == 200
        assert other.send(get(path, key=live.keys.viewer)).head().status == 200
        done = cli("tenants", "set", "closing", "--api-keys-enabled", "false", store=live.store)
        assert done.returncode == 0, done.stderr
        assert_cut(own)
        eventually(lambda: sum(map(stream.ended, range(2))) == 1)
        stream.tell_all()
        assert _read_until(other, b"event\r\n\r\n7\r\nevent\r\n\r\n")
    assert live.metric('gateway_connections_ended_total{reason="holder_disabled"}') == 1


def test_upload_ends_when_the_user_it_acts_for_becomes_a_viewer(
    live: Product, backend: Backend, path: str, uploading: Any
) -> None:
    key = acting_key(live.store, "uploader@example.com")
    wait_known(live, key)
    stream = Stream(backend, f"{path}/down", EVENTS)
    with Client(live.port) as upload, Client(live.port) as download:
        upload.send(get(path, "Transfer-Encoding: chunked", method="POST", key=key) + b"ffffff\r\n")
        eventually(lambda: backend.requests_for(path))
        uploading(upload)
        assert download.send(get(f"{path}/down", key=key)).head().status == 200
        done = cli(
            "users", "set", "uploader@example.com", "--tenant", "default", "--role", "viewer",
            store=live.store,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        upload.sock.settimeout(WITHIN)
        assert_refused(upload.response(), 403, "permission_denied")
        stream.tell_all()
        assert _read_until(download, b"event\r\n\r\n7\r\nevent\r\n\r\n"), "what a viewer may do goes on"


def test_streams_end_when_the_keys_cannot_be_confirmed_any_more(
    product: Start, backend: Backend, path: str
) -> None:
    gateway = product(QUICK)
    Stream(backend, path, EVENTS)
    with Client(gateway.port) as client:
        assert client.send(get(path, key=gateway.keys.viewer)).head().status == 200
        gone_at = time.monotonic()
        move_away(gateway.store)
        assert_cut(client)
        assert time.monotonic() - gone_at > 1.5, "within the bound it may go on"
    assert gateway.metric('gateway_connections_ended_total{reason="key_table_stale"}') == 1
