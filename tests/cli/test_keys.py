"""Keys, tenants and environments by the command line, on a real store."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from gateway.core.envelope import read_unverified
from gateway.core.tokens import is_opaque
from tests.cli.conftest import Gateway, environment, refusal

MEMBERS = {
    "id", "subjectId", "tenantId", "environmentId", "name", "description", "prefix", "lastFour", "secretKey",
    "hashAlgo", "createdBySubjectId", "createdAt", "expiresAt", "status", "intendedUse", "permission",
}  # fmt: skip


def create(gateway: Gateway, *more: str, permission: str = "viewer", name: str = "k") -> dict[str, str]:
    result = gateway(
        "keys", "create", "--tenant", "default", "--name", name, "--permission", permission, "--json", *more
    )
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_token_alone_goes_to_stdout(gateway: Gateway) -> None:
    result = gateway("keys", "create", "--tenant", "default", "--name", "k", "--permission", "viewer")
    assert result.returncode == 0
    assert is_opaque(result.stdout.removesuffix("\n").encode(), b"gw_live_")
    assert "apk_" in result.stderr
    assert result.stdout.strip() not in result.stderr


def test_json_is_one_object_with_the_documents_members(gateway: Gateway) -> None:
    key = create(gateway, "--ttl", "30d", "--description", "d", permission="Editor")
    assert set(key) >= MEMBERS
    assert key["status"] == "active"
    assert key["secretKey"].startswith(key["prefix"])
    assert key["secretKey"].endswith(key["lastFour"])
    assert key["createdBySubjectId"].startswith("cli:")


def test_token_is_shown_once(gateway: Gateway) -> None:
    key = create(gateway)
    for command in (["list"], ["list", "--json"], ["show", key["id"]], ["show", key["id"], "--json"]):
        result = gateway("keys", *command)
        assert result.returncode == 0
        assert key["id"] in result.stdout
        assert key["secretKey"] not in result.stdout


def test_list_narrows_by_tenant_and_status(gateway: Gateway) -> None:
    assert gateway("tenants", "add", "acme", "--name", "Acme Ltd").returncode == 0
    live, dead = create(gateway, name="live"), create(gateway, name="dead")
    assert gateway("keys", "revoke", dead["id"], "--yes").returncode == 0

    def ids(*more: str) -> list[str]:
        return [key["id"] for key in json.loads(gateway("keys", "list", "--json", *more).stdout)]

    assert ids() == [live["id"], dead["id"]]
    assert ids("--status", "active") == [live["id"]]
    assert ids("--status", "revoked", "--tenant", "default") == [dead["id"]]
    assert ids("--tenant", "acme") == []


def test_revoking_asks_unless_told_not_to(gateway: Gateway) -> None:
    key = create(gateway)
    assert "add --yes" in refusal(gateway("keys", "revoke", key["id"], stdin="y\n"), 2)
    assert json.loads(gateway("keys", "show", key["id"], "--json").stdout)["status"] == "active"
    assert gateway("keys", "revoke", "--yes", key["id"]).stdout == f"{key['id']} is revoked\n"
    assert gateway("keys", "revoke", "--yes", key["id"]).stdout == f"{key['id']} was revoked before\n"
    assert json.loads(gateway("keys", "show", key["id"], "--json").stdout)["status"] == "revoked"


def answered(state: Path, key_id: str, answer: bytes) -> int:
    """Revoke a key at a terminal where somebody answers; return the exit code."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "keys", "revoke", key_id],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(state / "state"),
    )
    os.write(main, answer)
    process.communicate(timeout=20)
    os.close(main)
    os.close(terminal)
    return process.returncode


def test_answer_at_the_terminal_decides(gateway: Gateway, tmp_path: Path) -> None:
    key = create(gateway)
    assert answered(tmp_path, key["id"], b"n\n") == 1
    assert json.loads(gateway("keys", "show", key["id"], "--json").stdout)["status"] == "active"
    assert answered(tmp_path, key["id"], b"y\n") == 0
    assert json.loads(gateway("keys", "show", key["id"], "--json").stdout)["status"] == "revoked"


def test_what_is_not_there_is_one_sentence(gateway: Gateway) -> None:
    base = ["keys", "create", "--name", "k", "--permission", "viewer"]
    assert "apk_none" in refusal(gateway("keys", "show", "apk_none"), 1)
    assert "apk_none" in refusal(gateway("keys", "revoke", "--yes", "apk_none"), 1)
    assert "nowhere" in refusal(gateway(*base, "--tenant", "nowhere"), 1)
    assert "prod" in refusal(gateway(*base, "--tenant", "default", "--environment", "prod"), 1)
    assert "nowhere" in refusal(gateway("keys", "list", "--tenant", "nowhere"), 1)


def test_wrong_value_is_wrong_use(gateway: Gateway) -> None:
    base = ["keys", "create", "--tenant", "default", "--name", "k"]
    assert "permission" in refusal(gateway(*base, "--permission", "admin"), 2)
    assert "ttl" in refusal(gateway(*base, "--permission", "viewer", "--ttl", "2y"), 2)
    assert "ttl" in refusal(gateway(*base, "--permission", "viewer", "--ttl", "400d"), 2)
    assert "name" in refusal(gateway(*base, "--permission", "viewer", "--name", "a\u202eb"), 2)
    assert json.loads(gateway("keys", "list", "--json").stdout) == []


def test_key_that_is_a_jwt_says_who_it_is_and_its_successor_is_one_too(gateway: Gateway) -> None:
    made = create(gateway, "--format", "jwt", "--ttl", "30d")
    rotated = gateway("keys", "rotate", made["id"], "--json")
    assert rotated.returncode == 0, rotated.stderr
    for key in (made, json.loads(rotated.stdout)):
        envelope = read_unverified(key["secretKey"].encode())
        assert envelope is not None
        assert (envelope.claims["jti"], envelope.claims["sub"]) == (key["id"], key["subjectId"])
        assert (key["prefix"], key["lastFour"]) == ("eyJh", key["secretKey"][-4:])
    (signing,) = json.loads(gateway("signing-keys", "list", "--json").stdout)
    assert (signing["kid"], signing["status"]) == (envelope.kid, "active")
    assert is_opaque(create(gateway, name="o")["secretKey"].encode(), b"gw_live_")


def test_successor_stands_beside_the_old_key_for_the_overlap(gateway: Gateway) -> None:
    old = create(gateway, "--ttl", "30d")
    rotated = gateway("keys", "rotate", old["id"], "--overlap", "2h", "--json")
    assert rotated.returncode == 0, rotated.stderr
    new = json.loads(rotated.stdout)
    assert set(new) >= MEMBERS
    assert new["replaces"] == old["id"]
    assert (new["subjectId"], new["permission"]) == (old["subjectId"], old["permission"])
    assert old["id"] in rotated.stderr
    assert new["secretKey"] not in rotated.stderr
    listed = json.loads(gateway("keys", "list", "--status", "active", "--json").stdout)
    assert [key["id"] for key in listed] == [old["id"], new["id"]]
    plain = gateway("keys", "rotate", new["id"])
    assert is_opaque(plain.stdout.removesuffix("\n").encode(), b"gw_live_")


def test_what_cannot_be_rotated_is_told(gateway: Gateway) -> None:
    key = create(gateway)
    assert "overlap" in refusal(gateway("keys", "rotate", key["id"], "--overlap", "soon"), 2)
    assert "apk_none" in refusal(gateway("keys", "rotate", "apk_none"), 1)
    gateway("keys", "revoke", key["id"], "--yes")
    assert "revoked" in refusal(gateway("keys", "rotate", key["id"]), 1)


def test_descendants_go_with_the_key_if_asked(gateway: Gateway) -> None:
    key = create(gateway)
    done = gateway("keys", "revoke", "--yes", "--descendants", key["id"])
    assert done.stdout == f"{key['id']} is revoked\n"


def test_configured_role_can_be_given(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("roles: {SitesEditor: {permission: editor, routes: [/sites]}}")
    assert create(gateway, "--config", "g.yaml", permission="SitesEditor")["permission"] == "SitesEditor"
    assert create(gateway, permission="MediaViewer")["permission"] == "MediaViewer"


def test_environment_gives_its_prefix(gateway: Gateway) -> None:
    added = gateway("environments", "add", "prod", "--tenant", "default", "--prefix", "qs_live_")
    assert added.returncode == 0, added.stderr
    assert create(gateway, "--environment", "prod")["secretKey"].startswith("qs_live_")
    assert json.loads(gateway("environments", "list", "--json").stdout) == [
        {"id": "prod", "tenantId": "default", "prefix": "qs_live_"}
    ]
    assert "qs_live_" in gateway("environments", "list").stdout


def test_tenant_is_added_once(gateway: Gateway) -> None:
    assert gateway("tenants", "add", "acme").stdout == "tenant acme added\n"
    assert "acme" in refusal(gateway("tenants", "add", "acme"), 1)
    assert "tenant" in refusal(gateway("tenants", "add", "a b"), 2)
    listed = json.loads(gateway("tenants", "list", "--json").stdout)
    assert [tenant["id"] for tenant in listed] == ["acme", "default"]
    assert "acme" in gateway("tenants", "list").stdout


def test_settings_of_a_tenant_bind_new_keys(gateway: Gateway) -> None:
    assert gateway("tenants", "set", "default", "--max-api-key-expiry", "PT24H").returncode == 0
    base = ["keys", "create", "--tenant", "default", "--name", "k", "--permission", "viewer"]
    assert "ttl" in refusal(gateway(*base, "--ttl", "25h"), 2)
    done = gateway("tenants", "set", "default", "--api-keys-enabled", "false", "--max-keys-per-user", "7")
    assert "api_keys_enabled false, max_keys_per_user 7, max_api_key_expiry PT24H" in done.stdout
    assert "switched off" in refusal(gateway(*base), 1)
    (tenant,) = json.loads(gateway("tenants", "list", "--json").stdout)
    assert tenant == {
        "id": "default",
        "name": "Default",
        "api_keys_enabled": False,
        "max_keys_per_user": 7,
        "max_api_key_expiry": "PT24H",
        "scim_externalClient_expiry": "P365D",
    }
    back = gateway("tenants", "set", "default", "--api-keys-enabled", "default")
    assert "api_keys_enabled true" in back.stdout
    assert "PT24H" in gateway("tenants", "list").stdout


def test_settings_that_cannot_be_are_refused(gateway: Gateway) -> None:
    for wrong, words in (
        (["--max-keys-per-user", "1_0"], "1_0"),
        (["--max-keys-per-user", "1001"], "from 0 to 1000"),
        (["--max-api-key-expiry", "P2Y"], "calendar year"),
        (["--max-api-key-expiry", "0s"], "no time at all"),
        (["--api-keys-enabled", "maybe"], "maybe"),
        ([], "nothing to set"),
    ):
        assert words in refusal(gateway("tenants", "set", "default", *wrong), 2)
    assert "nobody" in refusal(gateway("tenants", "set", "nobody", "--max-keys-per-user", "1"), 1)


def test_store_that_cannot_be_had_is_told(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, only text " * 100)
    assert "file" in refusal(gateway("keys", "list", "--store", "sqlite:file"), 1)
    assert "none" in refusal(gateway("keys", "list", "--store", "sqlite:/proc/none/x.db"), 1)


def test_wrong_pepper_is_refused_and_not_shown(gateway: Gateway) -> None:
    create(gateway)
    told = refusal(gateway("keys", "list", GATEWAY_PEPPER="geheim" * 8), 1)
    assert "geheim" not in told
    assert "geheim" not in refusal(gateway("keys", "list", GATEWAY_PEPPER="geheim"), 1)


def test_migrate_says_what_it_did(gateway: Gateway) -> None:
    first = gateway("migrate")
    assert first.returncode == 0
    assert "applied" in first.stdout
    assert gateway("migrate").stdout.endswith("nothing to apply\n")


def test_a_name_that_the_output_cannot_show_is_escaped(gateway: Gateway) -> None:
    assert gateway("tenants", "add", "acme", "--name", "Zoe 🏭").returncode == 0
    listed = gateway("tenants", "list", PYTHONIOENCODING="latin-1:strict", PYTHONUTF8="0")
    assert "\\U0001f3ed" in listed.stdout
    told = gateway("tenants", "list", "--json", PYTHONIOENCODING="latin-1:strict", PYTHONUTF8="0").stdout
    assert ("acme", "Zoe 🏭") in [(tenant["id"], tenant["name"]) for tenant in json.loads(told)]
