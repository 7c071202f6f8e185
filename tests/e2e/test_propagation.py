"""Keys made and ended by another process, and what happens when the store is gone (the age rule)."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from pathlib import Path

import pytest

from gateway.control.domain import DomainService, KeyWish
from gateway.control.passwords import Argon2Pool
from gateway.core.tokens import make_token
from gateway.keys.peppers import open_digester
from gateway.store.base import Actor
from gateway.store.urls import open_store
from tests.conftest import Start
from tests.wire.backend import eventually
from tests.wire.client import Client, Response, assert_refused, get
from tests.wire.product import Product, cli, make_key, revoke

WITHIN = 1.2  # a second, and the moment that the command itself takes to end after its commit


def ask(product: Product, key: str | None) -> Response:
    with Client(product.port) as client:
        return client.send(get("/propagation", key=key)).response()


def code(product: Product, key: str) -> str:
    response = ask(product, key)
    return "served" if response.status == 200 else str(response.code)


def unknown() -> str:
    return make_token("gw_live_", lambda alphabet: alphabet[9])


@pytest.mark.parametrize("turn", [1, 2])
def test_key_works_within_a_second_of_its_making_and_is_dead_within_one_of_its_end(
    gateway: Product, turn: int
) -> None:
    made = make_key(gateway.store, "viewer", f"propagated-{turn}")
    key = made["secretKey"]
    eventually(lambda: code(gateway, key) == "served", within=WITHIN, why="created, not known")
    revoke(gateway.store, made["id"])
    eventually(lambda: code(gateway, key) == "key_revoked", within=WITHIN, why="revoked, yet alive")


def test_how_long_a_change_took_is_measured(gateway: Product) -> None:
    def measured() -> float:
        (line,) = (
            line
            for line in gateway.ops("/metrics")[1].splitlines()
            if line.startswith("gateway_key_propagation_seconds_count ")
        )
        return float(line.split()[1])

    before = measured()
    make_key(gateway.store, "viewer", "measured")
    eventually(lambda: measured() > before, within=WITHIN, why="the change was not measured")


def test_revocation_reaches_a_kept_connection(gateway: Product) -> None:
    made = make_key(gateway.store, "viewer", "kept-connection")
    eventually(lambda: code(gateway, made["secretKey"]) == "served", within=WITHIN)
    with Client(gateway.port) as client:
        assert client.send(get("/kept", key=made["secretKey"])).response().status == 200
        revoke(gateway.store, made["id"])

        def refused() -> bool:
            return client.send(get("/kept", key=made["secretKey"])).response().code == "key_revoked"

        eventually(refused, within=WITHIN, why="a kept connection keeps a dead key")


def test_keys_of_a_tenant_that_is_switched_off_are_refused_until_it_is_on_again(product: Start) -> None:
    gateway = product()

    def switch(word: str, expected: str) -> None:
        done = cli("tenants", "set", "default", "--api-keys-enabled", word, store=gateway.store)
        assert done.returncode == 0, done.stderr
        eventually(lambda: code(gateway, gateway.keys.viewer) == expected, within=WITHIN, why=word)

    assert code(gateway, gateway.keys.viewer) == "served"
    switch("false", "holder_disabled")
    switch("true", "served")


def test_policy_of_the_configuration_holds_for_tenants_that_say_nothing(product: Start) -> None:
    gateway = product({"key_policy": {"api_keys_enabled": False}})
    assert code(gateway, gateway.keys.viewer) == "holder_disabled"
    assert cli("tenants", "set", "default", "--api-keys-enabled", "true", store=gateway.store).returncode == 0
    eventually(lambda: code(gateway, gateway.keys.viewer) == "served", within=WITHIN)


def acting_key(store_file: Path, email: str) -> str:
    """Make a user, and a key that acts as her; return its token."""

    async def make() -> str:
        store = open_store(f"sqlite://{store_file}")
        hasher = Argon2Pool(threads=1)
        try:
            service = DomainService(store, await open_digester(store), hasher, {})
            actor = Actor(name="test")
            password = secrets.token_hex()
            ann = await service.add_user(actor, email, tenant="default", role="editor", password=password)
            principal = service.principal_of_user(ann, "default")
            wish = KeyWish(name="hers", as_subject=True)
            return (await service.create_key_as(principal, actor, wish)).token
        finally:
            hasher.close()
            await store.close()

    return asyncio.run(make())


def test_a_key_that_acts_as_a_user_follows_her_within_a_second(product: Start) -> None:
    gateway = product()
    key = acting_key(gateway.store, "ann@example.com")
    eventually(lambda: code(gateway, key) == "served", within=WITHIN, why="created, not known")

    def change(*arguments: str) -> None:
        done = cli("users", *arguments, store=gateway.store)
        assert done.returncode == 0, done.stderr

    def write() -> str:
        with Client(gateway.port) as client:
            response = client.send(get("/propagation", key=key, method="DELETE")).response()
        return "served" if response.status == 200 else str(response.code)

    assert write() == "served"
    change("set", "ann@example.com", "--tenant", "default", "--role", "viewer")
    eventually(lambda: write() == "permission_denied", within=WITHIN, why="she is a viewer now")
    assert code(gateway, key) == "served"
    change("set", "ann@example.com", "--tenant", "default", "--role", "admin")
    eventually(lambda: write() == "served", within=WITHIN, why="she is an admin now")
    change("set", "ann@example.com", "--enabled", "false")
    eventually(lambda: code(gateway, key) == "holder_disabled", within=WITHIN, why="she is disabled")
    change("set", "ann@example.com", "--enabled", "true")
    eventually(lambda: code(gateway, key) == "served", within=WITHIN, why="she is enabled again")
    change("remove", "ann@example.com", "--tenant", "default", "--yes")
    eventually(lambda: code(gateway, key) == "key_revoked", within=WITHIN, why="she has left")


QUICK = {"propagation": {"bound": "2s", "poll": "200ms", "fresh": "700ms"}}


def move_away(store: Path) -> Path:
    """Take the database file away, as a lost volume does; return where it went."""
    aside = store.parent / "aside"
    aside.mkdir()
    for file in store.parent.glob(store.name + "*"):
        if "pepper" not in file.name:
            file.rename(aside / file.name)
    return aside


@pytest.mark.parametrize("way", ["moved", "unlinked"])
def test_without_its_store_a_gateway_refuses_rather_than_guesses(product: Start, way: str) -> None:
    gateway = product(QUICK)
    known = gateway.keys.viewer
    assert code(gateway, known) == "served"
    assert code(gateway, unknown()) == "key_unknown"
    assert code(gateway, gateway.keys.revoked) == "key_revoked"

    kept = gateway.store.read_bytes()
    gone_at = time.monotonic()
    if way == "moved":
        aside = move_away(gateway.store)
    else:
        for file in gateway.store.parent.glob(gateway.store.name + "*"):
            if "pepper" not in file.name:
                file.unlink()
    trail: list[tuple[float, str, str, int]] = []
    while time.monotonic() - gone_at < 3.2:
        at = time.monotonic() - gone_at
        trail.append((at, code(gateway, known), code(gateway, unknown()), gateway.ops("/readyz")[0]))
        time.sleep(0.05)

    for at, with_known, with_unknown, ready in trail:
        if at < 1.6:
            assert with_known == "served", f"{at:.2f} s: within the bound"
            assert ready == 200, f"{at:.2f} s: an outage inside the bound is reported, not a failure"
        if at > 2.5:
            assert with_known == "key_table_stale", f"{at:.2f} s: past the bound"
            assert ready == 503, f"{at:.2f} s: past the bound"
        if at < 0.35:
            assert with_unknown == "key_unknown", f"{at:.2f} s: provably fresh"
        if at > 1.2:
            assert with_unknown == "key_table_stale", f"{at:.2f} s: may have been created since"
    response = ask(gateway, known)
    assert_refused(response, 503, "key_table_stale")
    assert int(response.value("retry-after") or 0) > 0
    assert ask(gateway, None).code == "credential_missing", "what needs no table is judged as ever"
    assert gateway.ops("/livez")[0] == 200
    assert gateway.metric("gateway_store_up") == 0
    assert gateway.metric("gateway_key_table_age_seconds") > 2

    if way == "moved":
        for file in aside.iterdir():
            file.rename(gateway.store.parent / file.name)
    else:
        fresh = gateway.store.with_suffix(".new")
        fresh.write_bytes(kept)
        fresh.chmod(0o600)
        fresh.rename(gateway.store)
    eventually(lambda: code(gateway, known) == "served", within=2, why="it did not recover with its store")
    eventually(lambda: gateway.ops("/readyz")[0] == 200, within=1)
    assert code(gateway, unknown()) == "key_unknown"
    made = make_key(gateway.store, "viewer", "after-recovery")
    eventually(lambda: code(gateway, made["secretKey"]) == "served", within=WITHIN)


def test_another_file_in_the_place_of_the_store_is_loaded_whole(product: Start, tmp_path: Path) -> None:
    """A restored backup: what it does not know is unknown from then on."""
    gateway = product()
    backup = gateway.store.read_bytes()
    made = make_key(gateway.store, "viewer", "after-the-backup")
    eventually(lambda: code(gateway, made["secretKey"]) == "served", within=WITHIN)
    restored = tmp_path / "restored.db"
    restored.write_bytes(backup)
    restored.chmod(0o600)
    for tail in ("-wal", "-shm"):
        Path(f"{gateway.store}{tail}").unlink(missing_ok=True)
    os.replace(restored, gateway.store)
    eventually(
        lambda: code(gateway, made["secretKey"]) == "key_unknown", within=2, why="the old file is still read"
    )
    assert code(gateway, gateway.keys.viewer) == "served"


@pytest.mark.parametrize("what", ["below a file", "a directory", "no database"])
def test_gateway_without_a_store_to_open_ends_with_one_sentence(
    product: Start, tmp_path: Path, what: str
) -> None:
    (tmp_path / "file").write_text("no directory")
    missing = {
        "below a file": tmp_path / "file" / "gateway.db",
        "a directory": tmp_path,
        "no database": tmp_path / "file",
    }[what]
    gateway = product({"store": {"url": f"sqlite:///{missing}"}}, wait=False)
    gateway.expected_code = 1
    assert gateway.wait(10) == 1
    lines = [line for line in gateway.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, gateway.stderr


def test_port_that_is_taken_ends_with_one_sentence(product: Start, gateway: Product) -> None:
    second = product({"listen": f"127.0.0.1:{gateway.port}"}, wait=False)
    second.expected_code = 1
    assert second.wait(10) == 1
    lines = [line for line in second.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, second.stderr
    assert str(gateway.port) in lines[0]
