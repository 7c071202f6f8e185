"""What a request leaves behind: one line of the log, bounded series, and no secret anywhere."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import Any

import pytest

from tests.wire.backend import OK, Backend, Exchange, eventually
from tests.wire.client import Client, Cut, get
from tests.wire.product import Product, make_key, revoke

FIELDS = {
    "time", "request_id", "route", "method", "target", "status", "reason", "duration_ms", "upstream_ms",
    "bytes_in", "bytes_out", "key_id", "tenant", "peer",
}  # fmt: skip


def lines_for(product: Product, path: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the log's lines for ``path`` once there are ``count`` of them."""

    def found() -> list[dict[str, Any]]:
        whole = product.access_log.read_text().splitlines()
        return [line for line in map(json.loads, whole) if line["target"].partition("?")[0] == path]

    eventually(lambda: len(found()) >= count, why="the access log lacks lines")
    return found()


def test_each_request_leaves_one_line(gateway: Product, backend: Backend, path: str) -> None:
    with Client(gateway.port) as client:
        raw = get(
            path + "?a=b", "X-Request-Id: mine-1", method="POST", key=gateway.keys.editor, body=b"x" * 10
        )
        assert client.send(raw).response().status == 200
        assert client.send(get(path, key=None)).response().status == 401
    one, two = lines_for(gateway, path, 2)
    assert set(one) == FIELDS
    assert (one["status"], one["method"], one["request_id"], one["target"]) == (
        200,
        "POST",
        "mine-1",
        path + "?a=b",
    )
    assert (one["bytes_in"], one["bytes_out"]) == (10, 2)
    assert (one["key_id"], one["tenant"]) == (gateway.keys.editor_record["id"], "default")
    assert one["upstream_ms"] is not None
    assert one["reason"] is None
    assert one["peer"].startswith("127.0.0.1")
    assert one["time"].endswith("Z")
    assert (two["status"], two["reason"], two["key_id"]) == (401, "credential_missing", None)


def test_caller_that_goes_away_is_logged_as_499(gateway: Product, backend: Backend, path: str) -> None:
    backend.on(path, lambda exchange: exchange.wait_for_end(5))
    with Client(gateway.port) as client:
        client.send(get(path, key=gateway.keys.viewer))
        eventually(lambda: backend.requests_for(path))
        client.reset()
    (line,) = lines_for(gateway, path)
    assert line["status"] == 499


def test_response_that_breaks_off_is_logged_as_such(gateway: Product, backend: Backend, path: str) -> None:
    def broken(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        exchange.end()

    backend.on(path, broken)
    with Client(gateway.port) as client, pytest.raises((Cut, ConnectionResetError)):
        client.send(get(path, key=gateway.keys.viewer)).response()
    (line,) = lines_for(gateway, path)
    assert line["bytes_out"] == 3
    assert line["reason"] is not None, "an aborted exchange must not look like a whole one"


def test_nothing_a_caller_sends_breaks_the_log_or_shows_a_secret(gateway: Product, path: str) -> None:
    key = gateway.keys.viewer
    cases = [
        get(f"{path}?api_key={key}&token={key}&x={key}", key=key),
        get(f"{path}?%0d%0a%22status%22:1", key=key),
        get(path, f"Cookie: k={key}", f"Referer: http://x/?{key}"),
        get(path, 'X-Request-Id: a"b', key=key),
        b"GET "
        + path.encode()
        + b"?"
        + key.encode()
        + b" HTTP/1.1\r\nbad header "
        + key.encode()
        + b"\r\n\r\n",
        b"\xff\xfe" + key.encode() + b"\r\n\r\n",
        get(path, "Host: x", key=key),
    ]
    for raw in cases:
        with Client(gateway.port) as client:
            response = client.send(raw).response()
            assert key.encode() not in response.raw_head + response.body
    eventually(lambda: len(gateway.access_log.read_text().splitlines()) >= len(cases))
    for line in gateway.access_log.read_text().splitlines():
        assert set(json.loads(line)) == FIELDS
    gateway.assert_clean()
    assert key not in gateway.ops("/metrics")[1]


def series(product: Product) -> set[str]:
    text = product.ops("/metrics")[1]
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


def test_what_callers_choose_adds_no_series(gateway: Product, backend: Backend, path: str) -> None:
    chance = random.Random(1)

    def crowd(count: int) -> None:
        with Client(gateway.port) as client:
            for _ in range(count):
                word = f"{chance.getrandbits(64):x}"
                client.send(
                    get(f"{path}/{word}", f"X-{word}: y", host=f"{word}.test", key=gateway.keys.viewer)
                )
                assert client.response().status == 200
                client.send(get(f"{path}/{word}", f"X-API-KEY: {word}"))
                assert client.response().status == 401
        for _ in range(5):
            with Client(gateway.port) as client:
                word = f"{chance.getrandbits(64):X}"[:8]
                client.send(get(path, method="Z" + word, key=gateway.keys.editor))
                assert client.response().status == 501

    crowd(5)
    before = series(gateway)
    crowd(100)
    assert series(gateway) == before


def test_refusals_and_requests_are_counted(gateway: Product, backend: Backend, path: str) -> None:
    rejected = 'gateway_rejections_total{reason="permission_denied"}'
    before = gateway.metric(rejected)
    with Client(gateway.port) as client:
        for _ in range(3):
            client.send(get(path, method="DELETE", key=gateway.keys.viewer))
            assert client.response().status == 403
    assert gateway.metric(rejected) == before + 3


def test_request_in_the_queue_is_decided_when_its_turn_comes(
    gateway: Product, backend: Backend, path: str
) -> None:
    """A key that is revoked while its second request waits behind the first is refused that one."""
    made = make_key(gateway.store, "viewer", "queued")
    release = threading.Event()

    def hold(exchange: Exchange) -> None:
        release.wait(10)
        exchange.send(OK)

    backend.on(path, hold)
    other = path + "-second"

    def known() -> bool:
        with Client(gateway.port) as client:
            return client.send(get("/known", key=made["secretKey"])).response().status == 200

    eventually(known)
    with Client(gateway.port) as client:
        client.send(get(path, key=made["secretKey"]) + get(other, key=made["secretKey"]))
        eventually(lambda: backend.requests_for(path))
        revoke(gateway.store, made["id"])

        def refused() -> bool:
            with Client(gateway.port) as probe:
                return probe.send(get("/known", key=made["secretKey"])).response().status == 401

        eventually(refused)
        release.set()
        assert client.response().status == 200
        assert client.response().code == "key_revoked"
    assert not backend.requests_for(other)


def test_flood_of_pipelined_refusals_delays_nobody(gateway: Product, path: str) -> None:
    """One caller with thousands of requests in a write gets its answers; others are served meanwhile."""
    flood = get(path) * 250_000
    with Client(gateway.port, timeout=20) as noisy, Client(gateway.port) as other:
        sender = threading.Thread(target=noisy.send_pieces, args=([flood],))
        reader = threading.Thread(target=noisy.drain_in_vain)
        sender.start()
        reader.start()
        waits = []
        begun = time.monotonic()
        while time.monotonic() - begun < 2:
            at = time.monotonic()
            assert other.send(get(path)).response().status == 401
            waits.append(time.monotonic() - at)
        noisy.abandon()
        sender.join()
        reader.join()
    waits.sort()
    assert waits[len(waits) // 2] < 0.05, (
        f"others waited {waits[len(waits) // 2]:.3f} s, {waits[-1]:.3f} s at most"
    )
