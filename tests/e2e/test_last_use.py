"""An owner sees which of her keys is in use, on either port, and which is safe to revoke."""

from __future__ import annotations

import datetime
import json
import time
from typing import Any

from tests.conftest import Start
from tests.wire.client import Client, get
from tests.wire.product import Product, cli, make_key


def listed(product: Product) -> dict[str, Any]:
    run = cli("keys", "list", "--json", store=product.store)
    assert run.returncode == 0, run.stderr
    return {key["id"]: key["lastUsedAt"] for key in json.loads(run.stdout)}


def test_what_was_used_is_known_after_the_gateway_has_ended(product: Start) -> None:
    gateway = product(control=True)
    unused = make_key(gateway.store, "viewer", "unused")
    keys = gateway.keys
    assert set(listed(gateway).values()) == {None}

    before = time.time()
    for port, key, status in (
        (gateway.port, keys.viewer, 200),
        (gateway.port, keys.revoked, 401),
        (gateway.control_port, keys.editor, 200),
    ):
        with Client(port) as client:
            answer = client.send(get("/api/1/api-keys", "Connection: close", key=key)).response()
            assert answer.status == status
    gateway.stop()
    after = time.time()

    found = listed(gateway)
    for record in (keys.viewer_record, keys.editor_record):
        used_at = datetime.datetime.fromisoformat(found[record["id"]]).timestamp()
        assert before - 1 < used_at < after + 1
    assert found[unused["id"]] is None
    assert found[keys.revoked_record["id"]] is None, "it was let in nowhere"

    heads, *lines = cli("keys", "list", store=gateway.store).stdout.splitlines()
    assert "LAST USED" in heads
    at = heads.index("LAST USED")
    shown = {line.split()[0]: line[at:].split()[0] for line in lines}
    assert shown == {key_id: used_at or "-" for key_id, used_at in found.items()}
    one = cli("keys", "show", keys.viewer_record["id"], store=gateway.store).stdout
    assert f"lastUsedAt:          {found[keys.viewer_record['id']]}" in one
