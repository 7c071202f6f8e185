"""``gateway signing-keys`` on a real store."""

from __future__ import annotations

import json

from tests.cli.conftest import Gateway, refusal


def test_keys_are_rotated_and_listed_without_their_private_halves(gateway: Gateway) -> None:
    assert json.loads(gateway("signing-keys", "list", "--json").stdout) == []
    first = gateway("signing-keys", "rotate")
    assert first.returncode == 0, first.stderr
    second = gateway("signing-keys", "rotate").stdout.split()[0]
    keys = json.loads(gateway("signing-keys", "list", "--json").stdout)
    assert [(key["kid"], key["status"]) for key in keys] == [
        (first.stdout.split()[0], "retiring"),
        (second, "active"),
    ]
    assert {name for key in keys for name in key} == {"kid", "status", "createdAt", "retiredAt"}
    assert second in gateway("signing-keys", "list").stdout
    assert "signing_key.rotate" in gateway("audit").stdout


def test_wrong_use_is_one_sentence(gateway: Gateway) -> None:
    assert "the nearest is `rotate`" in refusal(gateway("signing-keys", "rotat"), 2)
