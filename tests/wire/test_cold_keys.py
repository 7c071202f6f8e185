"""Keys from elsewhere work as they are, and whoever guesses at them costs nobody else anything."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import argon2
import pytest

from gateway.core.tokens import check_digits
from gateway.keys.suspects import FAILURES
from tests.conftest import Start
from tests.control.test_importing import a_line
from tests.wire.backend import Backend, eventually
from tests.wire.client import Client, Response, assert_refused, get
from tests.wire.product import Product, cli

FLOOD = 1000
THREADS = 16
# As costly as what the gateway itself makes.
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def cold_line(number: int, token: str, hasher: argon2.PasswordHasher = QUICK, **changes: Any) -> bytes:
    """Return a line of a key that is known by its hash, and found by what stands before the dot."""
    locator = token.partition(".")[0] + "."
    return a_line(number, **({"token": ..., "argon2id": hasher.hash(token), "locator": locator} | changes))


def imported(store: Path, *lines: bytes) -> list[dict[str, Any]]:
    """Import lines into a store; return its keys, the newest last."""
    file = store.parent / f"lines-{secrets.token_hex(4)}"
    file.write_bytes(b"".join(lines))
    run = cli("keys", "import", str(file), store=store)
    assert run.returncode == 0, run.stderr
    return list(json.loads(cli("keys", "list", "--json", store=store).stdout))


def asked(port: int, token: str, path: str = "/cold", **options: Any) -> Response:
    with Client(port) as client:
        return client.send(get(path, key=token, **options)).response()


def served(port: int, token: str) -> bool:
    return asked(port, token).status == 200


def runs(gateway: Product) -> dict[str, float]:
    return {
        result: gateway.metric(f'gateway_argon2_verifications_total{{result="{result}"}}')
        for result in ("ok", "failed", "refused")
    }


@pytest.fixture(scope="module")
def host(start_shared: Start) -> Product:
    return start_shared()


@pytest.mark.usefixtures("backend")
def test_tokens_of_every_form_work_once_they_are_imported(host: Product) -> None:
    tokens = [
        "0123456789abcdef",
        "sk_live_51H8x/+==~!{}()*&^%$#@",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln",
        '"quoted"\\and<odd>\'`|token',
        "x" * 4000,
    ]
    imported(host.store, *[a_line(n, token=token) for n, token in enumerate(tokens)])
    for token in tokens:
        eventually(lambda token=token: served(host.port, token), why=f"{token[:40]} is refused")  # type: ignore[misc]
        assert asked(host.port, token, method="POST").status == 403
    bearer = get("/cold", f"Authorization: Bearer {tokens[2]}")
    with Client(host.port) as client:
        assert client.send(bearer).response().status == 200
    # Whoever has the very next one has none.
    assert_refused(asked(host.port, tokens[0][:-1] + "0"), 401, "key_unknown")


@pytest.mark.usefixtures("backend")
def test_a_hash_lets_its_token_in_at_once_and_is_asked_about_once(host: Product) -> None:
    token = "hash-1.a-token-of-another-system"
    before = runs(host)
    imported(host.store, cold_line(100, token, HASHER))
    eventually(lambda: served(host.port, token))
    for _ in range(20):
        assert served(host.port, token)
    with contextlib.closing(sqlite3.connect(host.store)) as store:
        count = "SELECT COUNT(*) FROM api_keys WHERE locator = 'hash-1.' AND digest IS NOT NULL"
        eventually(lambda: store.execute(count).fetchone() == (1,), why="its digest was not written back")
    assert served(host.port, token)
    after = runs(host)
    assert after["ok"] - before["ok"] == 1
    found = json.loads(cli("keys", "list", "--json", store=host.store).stdout)
    (key,) = [key for key in found if key["prefix"] == "hash-1."]
    assert cli("keys", "revoke", key["id"], "--yes", store=host.store).returncode == 0
    eventually(lambda: asked(host.port, token).code == "key_revoked")
    assert asked(host.port, token + "x").code == "key_unknown"


@pytest.mark.usefixtures("backend")
def test_a_cold_key_that_is_revoked_before_it_was_ever_used_stays_out(host: Product) -> None:
    token = "hash-2.a-token-of-another-system"
    key = imported(host.store, cold_line(110, token))[-1]
    assert cli("keys", "revoke", key["id"], "--yes", store=host.store).returncode == 0
    eventually(lambda: asked(host.port, token).code == "key_revoked")


@pytest.mark.usefixtures("backend")
def test_a_wrong_secret_behind_a_known_beginning_looks_like_an_unknown_key(host: Product) -> None:
    token = "hash-3.a-token-of-another-system"
    imported(host.store, cold_line(120, token))
    eventually(lambda: served(host.port, token))
    other = "hash-4.a-token-of-another-system"
    imported(host.store, cold_line(121, other))
    before = runs(host)["failed"]
    eventually(lambda: asked(host.port, "hash-4.wrong").status == 401 and runs(host)["failed"] > before)
    warm = host.keys.viewer
    stem = warm[:20] + "0" * 32
    answers = [
        asked(host.port, each)
        for each in (
            "nobody-knows-this-token",
            "hash-4.wrong",  # of a cold key, which has been asked about
            "hash-4.wrong again",  # and has to be
            "hash-3.wrong",  # of a key that was cold
            stem + check_digits(stem.encode()),
        )
        if " " not in each
    ]
    for answer in answers:
        assert_refused(answer, 401, "key_unknown")
        fields = [field for field in answer.fields if field[0].lower() not in (b"date", b"x-request-id")]
        assert fields == [f for f in answers[0].fields if f[0].lower() not in (b"date", b"x-request-id")]
        assert {**answer.problem, "request_id": ""} == {**answers[0].problem, "request_id": ""}


class Flood:
    """Callers of one kind that ask as fast as they are answered, each on a connection of its own."""

    def __init__(self, port: int, token: Callable[[], str], count: int = FLOOD) -> None:
        self.answers: list[Response] = []
        self._count = count
        self._port = port
        self._token = token
        self._over = threading.Event()

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    def run(self) -> None:
        """Ask until there are enough answers, or it is over."""
        with ThreadPoolExecutor(THREADS) as pool:
            for done in [pool.submit(self._ask) for _ in range(THREADS)]:
                done.result()

    def stop(self) -> None:
        self._over.set()

    def _ask(self) -> None:
        while not self._over.is_set() and len(self.answers) < self._count:
            with Client(self._port) as client:
                closed = False
                while not closed and not self._over.is_set() and len(self.answers) < self._count:
                    answer = client.send(get("/flood", key=self._token())).response()
                    self.answers.append(answer)
                    closed = answer.says_close


class Good:
    """A caller whose key is known, who asks all the while."""

    def __init__(self, port: int, key: str) -> None:
        self.statuses: Counter[int] = Counter()
        self._request = get("/good", key=key)
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Good:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with Client(self._port) as client:
            while not self._over.is_set():
                self.statuses[client.send(self._request).response().status] += 1
                time.sleep(0.002)


def asked_from(address: str, port: int, token: str) -> int:
    """Return the status for a caller at another address of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0)) as sock:
        sock.sendall(get("/cold", "Connection: close", key=token))
        return int(sock.makefile("rb").readline().split()[1])


@pytest.fixture
def flooded(product: Start) -> tuple[Product, str, str]:
    """A gateway with two cold keys, and their tokens."""
    gateway = product()
    tokens = ["flooded.a-token-of-another-system", "another.a-token-of-another-system"]
    imported(gateway.store, *[cold_line(n, token, HASHER) for n, token in enumerate(tokens)])
    before = runs(gateway)["failed"]
    for token in tokens:
        eventually(lambda token=token: asked(gateway.port, token[:9] + "x").status == 401)  # type: ignore[misc]
    eventually(lambda: runs(gateway)["failed"] > before)
    return gateway, tokens[0], tokens[1]


@pytest.mark.usefixtures("backend")
def test_a_flood_of_every_kind_costs_no_good_caller_anything_and_runs_argon2id_within_its_budget(
    flooded: tuple[Product, str, str],
) -> None:
    gateway, first, second = flooded
    warm = gateway.keys.viewer

    def with_checksum(stem: str) -> str:
        return stem + check_digits(stem.encode())

    kinds: dict[str, Callable[[], str]] = {
        "garbage": lambda: secrets.token_hex(20),
        "wrong check digits": lambda: "gw_live_" + secrets.token_hex(25),
        "good checksum": lambda: with_checksum("gw_live_" + secrets.token_hex(22)),
        "a warm key's beginning": lambda: with_checksum(warm[:20] + secrets.token_hex(16)),
    }
    with Good(gateway.port, warm) as good:
        for kind, token in kinds.items():
            before = runs(gateway)
            flood = Flood(gateway.port, token)
            flood.run()
            assert set(flood.statuses) == {401}, kind
            assert runs(gateway) == before, kind
        before, began = runs(gateway), time.monotonic()
        flood = Flood(gateway.port, lambda: f"flooded.{secrets.token_hex(16)}", 10**9)
        flooding = threading.Thread(target=flood.run)
        flooding.start()
        try:
            spent = before["failed"] + FAILURES.quota
            eventually(lambda: runs(gateway)["failed"] >= spent and flood.statuses[503] > 0, within=20)
            # Another cold key's owner is let in, and then the flooded one's own, from her own address.
            eventually(lambda: asked_from("127.0.0.2", gateway.port, second) == 200, within=20)
            eventually(lambda: asked_from("127.0.0.3", gateway.port, first) == 200, within=20)
            after, took_s = runs(gateway), time.monotonic() - began
        finally:
            flood.stop()
            flooding.join()
    assert after["failed"] - before["failed"] <= FAILURES.quota + took_s * FAILURES.quota / FAILURES.window_s
    assert after["ok"] - before["ok"] == 2
    assert set(flood.statuses) <= {401, 503}
    turned_away = next(answer for answer in flood.answers if answer.status == 503)
    assert_refused(turned_away, 503, "overloaded")
    assert turned_away.value("retry-after") is not None
    assert set(good.statuses) == {200}
    assert good.statuses[200] > 100


@pytest.mark.usefixtures("backend")
def test_a_key_that_the_control_api_knows_by_its_hash_manages_keys(product: Start) -> None:
    gateway = product(control=True)
    token = "manager.a-token-of-another-system"
    imported(gateway.store, cold_line(0, token, permission="editor"))
    with Client(gateway.control_port) as client:
        answer = client.send(get("/api-keys", key=token)).response()
        assert answer.status == 200, answer.body
        assert client.send(get("/api-keys", key=token + "x")).response().status == 401


def test_backends_see_who_a_cold_key_is(host: Product, backend: Backend, path: str) -> None:
    token = "hash-5.a-token-of-another-system"
    key = imported(host.store, cold_line(130, token))[-1]
    eventually(lambda: served(host.port, token))
    assert asked(host.port, token, path).status == 200
    request = backend.the_request_for(path)
    assert f"X-Gateway-Key-Id: {key['id']}".encode() in request.raw_head
    assert token.encode() not in request.raw_head
