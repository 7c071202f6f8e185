"""A rotation of peppers under gateways updated one after the other: no key is refused, none lives on."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.wire.backend import eventually
from tests.wire.client import Client, Response, get
from tests.wire.product import COMMAND, ROOT, Product, clean_environment, make_key


def asked(gateway: Product, token: str) -> Response:
    with Client(gateway.port) as client:
        return client.send(get("/peppers", key=token)).response()


def command(peppers: Path, store: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments, "--store", f"sqlite:///{store}"],
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(GATEWAY_PEPPER_FILE=str(peppers)),
        cwd=ROOT,
        check=False,
    )


def done(peppers: Path, store: Path, *arguments: str) -> str:
    run = command(peppers, store, *arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout


def carried(store: Path, key_id: str) -> bool:
    """Tell whether a key is kept under the newer pepper as well as under the older one."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        text = "SELECT older_digest IS NOT NULL FROM api_keys WHERE id = ?"
        return bool(connection.execute(text, (key_id,)).fetchone()[0])


@pytest.mark.usefixtures("backend")
def test_a_rotation_refuses_no_live_key_on_any_gateway_and_keeps_no_dead_one(
    product: Start, tmp_path: Path
) -> None:
    late = product()  # still knows the older pepper alone
    store = late.store
    old = store.with_name(store.name + ".pepper")
    both, new = tmp_path / "both", tmp_path / "new"
    done(old, store, "pepper", "rotate", "--write", str(both))
    new.write_text(both.read_text().splitlines()[0] + "\n")
    settings = {"store": {"url": f"sqlite:///{store}"}}
    updated = product(settings, environment={"GATEWAY_PEPPER_FILE": str(both)})
    keys = late.keys
    early = make_key(store, "viewer", "made before the rotation")
    for gateway in (late, updated):
        eventually(lambda gateway=gateway: asked(gateway, early["secretKey"]).status == 200)  # type: ignore[misc]
        assert asked(gateway, keys.viewer).status == 200
    assert not carried(store, keys.viewer_record["id"])

    with Client(updated.port) as kept:
        request = get("/peppers", key=keys.viewer)
        assert kept.send(request).response().status == 200
        done(both, store, "pepper", "rotate", "--yes")
        # A connection that has shown its key before goes along as well, at its next request.
        eventually(
            lambda: kept.send(request).response().status == 200 and carried(store, keys.viewer_record["id"]),
            within=15,
        )
    made = json.loads(
        done(
            both,
            store,
            "keys",
            "create",
            "--tenant",
            "default",
            "--name",
            "n",
            "--permission",
            "viewer",
            "--json",
        )
    )
    for gateway in (late, updated):
        eventually(lambda gateway=gateway: asked(gateway, made["secretKey"]).status == 200)  # type: ignore[misc]
        assert asked(gateway, keys.viewer).status == 200
        assert asked(gateway, early["secretKey"]).status == 200
    lacking = command(old, store, "keys", "list")
    assert (lacking.returncode, "lacks pepper" in lacking.stderr) == (1, True)
    for dead in (keys.viewer_record, made):
        done(both, store, "keys", "revoke", dead["id"], "--yes")
        for gateway in (late, updated):
            token = dead["secretKey"]
            eventually(lambda gateway=gateway, token=token: asked(gateway, token).code == "key_revoked")  # type: ignore[misc]
    late.stop()

    # Whatever was not seen meanwhile is cold then, and proven when it is.
    unseen = done(both, store, "pepper", "rotate", "--finish", "--yes")
    assert keys.editor_record["id"] in unseen
    assert keys.viewer_record["id"] not in unseen
    proven = 'gateway_argon2_verifications_total{result="ok"}'
    eventually(lambda: asked(updated, keys.editor).status == 200 and updated.metric(proven) == 1)
    assert asked(updated, keys.viewer).code == "key_revoked"
    eventually(lambda: not command(new, store, "keys", "list").returncode)
    updated.stop()
    last = product(settings, environment={"GATEWAY_PEPPER_FILE": str(new)})
    assert asked(last, keys.editor).status == 200
    assert asked(last, keys.viewer).code == "key_revoked"
    assert last.metric(proven) == 0
