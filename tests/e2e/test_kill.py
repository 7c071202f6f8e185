"""What was acknowledged is kept: ``kill -9`` in the middle of ``keys create``, a hundred times."""

from __future__ import annotations

import concurrent.futures
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.wire.backend import eventually
from tests.wire.client import Client, get
from tests.wire.product import COMMAND, ROOT, Product, clean_environment, cli, make_key

TIMES = 100
AT_ONCE = 4
ROUNDS = 3


def create_and_kill(store: Path, number: int, delay: float) -> dict[str, str] | None:
    """Start ``keys create``, kill it after ``delay``; return what it had printed, if it was whole."""
    command = [*COMMAND, "keys", "create", "--tenant", "default", "--name", f"killed-{number}"]
    command += ["--permission", "viewer", "--json", "--store", f"sqlite:///{store}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment(), cwd=ROOT, text=True
    )
    try:
        out, _ = process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
    try:
        return dict(json.loads(out))
    except ValueError:
        assert "secretKey" not in out or "}" not in out, f"half an object was printed: {out!r}"
        return None


def time_to_create(store: Path) -> float:
    """Return how many seconds the command takes that nobody kills."""
    began = time.monotonic()
    make_key(store, "viewer", "unharmed")
    return time.monotonic() - began


def works(gateway: Product, token: str) -> bool:
    with Client(gateway.port) as client:
        return client.send(get("/killed", key=token)).response().status == 200


def test_every_key_that_was_printed_works_and_none_is_half_there(product: Start) -> None:
    gateway = product()
    chance = random.Random(3)
    printed: list[dict[str, str]] = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(ROUNDS):
            # The machine is as fast as it is now; half of the kills lie around the instant of commit.
            usual = max(pool.map(time_to_create, [gateway.store] * AT_ONCE))
            delays = [usual * (0.5 + 0.6 * chance.random()) for _ in range(TIMES // 2)]
            delays += [usual * 1.3 * chance.random() for _ in range(TIMES - TIMES // 2)]
            made = list(pool.map(create_and_kill, [gateway.store] * TIMES, range(TIMES), delays))
            printed += [key for key in made if key]
            if 0 < sum(key is not None for key in made) < TIMES:
                break
        else:
            pytest.fail("the kills all came too early or too late to show anything")
    listed = cli("keys", "list", "--tenant", "default", "--json", store=gateway.store)
    assert listed.returncode == 0, listed.stderr
    records = json.loads(listed.stdout)
    records = records if isinstance(records, list) else records["data"]
    assert {key["id"] for key in printed} <= {record["id"] for record in records}
    for record in records:
        assert record["id"]
        assert record["name"]
        assert record["permission"] in ("viewer", "editor")
    for key in printed:
        eventually(lambda key=key: works(gateway, key["secretKey"]), within=2, why=f"{key['id']} was lost")
    assert gateway.metric("gateway_key_table_keys") == len(records), "the table and the store disagree"
