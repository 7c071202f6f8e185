"""``gateway audit`` on a real store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Gateway, refusal


def rows(gateway: Gateway, *more: str) -> list[dict[str, Any]]:
    result = gateway("audit", "--json", *more)
    assert result.returncode == 0, result.stderr
    return list(json.loads(result.stdout)["data"])


def test_what_was_done_is_told_newest_first(gateway: Gateway) -> None:
    made = gateway("keys", "create", "--tenant", "default", "--name", "k", "--permission", "viewer", "--json")
    key = json.loads(made.stdout)
    assert gateway("keys", "revoke", key["id"], "--yes").returncode == 0
    assert gateway("tenants", "add", "acme").returncode == 0
    told = rows(gateway)
    assert [row["action"] for row in told] == ["tenant.create", "key.revoke", "key.create", "tenant.create"]
    assert told[1]["entity"] == key["id"]
    assert told[1]["actor"].startswith("cli:")
    assert told[1]["tenantId"] == "default"
    assert key["secretKey"] not in json.dumps(told)
    assert [row["action"] for row in rows(gateway, "--action", "key")] == ["key.revoke", "key.create"]
    assert [row["entity"] for row in rows(gateway, "--tenant", "acme", "--since", "1h")] == ["acme"]
    assert "key.revoke" in gateway("audit").stdout


def test_pages_follow_one_another(gateway: Gateway) -> None:
    for name in ("a", "b"):
        gateway("tenants", "add", name)
    page = json.loads(gateway("audit", "--json", "--limit", "2").stdout)
    assert [row["entity"] for row in page["data"]] == ["b", "a"]
    last = json.loads(gateway("audit", "--json", "--limit", "2", "--after", page["next"]).stdout)
    assert [row["entity"] for row in last["data"]] == ["default"]
    assert last["next"] is None
    assert page["next"] in gateway("audit", "--limit", "2").stderr


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--since", "yesterday"], "since"),
        (["--after", "audit_x"], "after"),
        (["--limit", "0"], "--limit"),
        (["--limit", "1_0"], "--limit"),
    ],
)
def test_wrong_filters_are_refused(gateway: Gateway, wrong: list[str], words: str) -> None:
    assert words in refusal(gateway("audit", *wrong), 2)
