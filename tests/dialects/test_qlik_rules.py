"""What ``003`` rules: who ends whose keys, for whom they act, a tenant's configuration, the tiers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.dialects import shapes
from tests.dialects.client import Caller
from tests.dialects.harness import ACME, GLOBEX, World
from tests.dialects.shapes import instant
from tests.wire.backend import eventually

KEYS = "/api/v1/api-keys"


def patch(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": path, "value": value}]


def _ids(caller: Caller, query: str) -> list[str]:
    return [one["id"] for one in caller.get(f"{KEYS}?{query}").expect(200).json["data"]]


def test_the_owner_removes_and_an_admin_revokes(world: World) -> None:
    """003: "When the owner ... removed. When a TenantAdmin ... revoked." """
    tenant = world.tenant()
    admin, owner = world.user("admin", tenant), world.user("editor", tenant)
    removed, revoked = world.qlik_key(owner), world.qlik_key(owner)
    eventually(lambda: {world.proxy(removed["token"]), world.proxy(revoked["token"])} == {200})
    owner.delete(f"{KEYS}/{removed['id']}").expect(204)
    admin.delete(f"{KEYS}/{revoked['id']}").expect(204)
    for caller in (owner, admin):
        caller.get(f"{KEYS}/{removed['id']}").expect(404)
        assert caller.get(f"{KEYS}/{revoked['id']}").expect(200).json["status"] == "revoked"
        assert removed["id"] not in _ids(caller, "limit=100")
    owner.delete(f"{KEYS}/{removed['id']}").expect(404)
    eventually(lambda: {world.proxy(removed["token"]), world.proxy(revoked["token"])} == {401})


def test_sub_is_oneself_unless_an_admin_says_otherwise(world: World) -> None:
    """Pitfall 69. Whom an admin names acts through the key; nobody else's user may be named."""
    admin, ann, bob = world.user("admin"), world.user("editor"), world.user("editor")
    stranger = world.user("editor", GLOBEX)
    assert world.qlik_key(ann, sub=ann.user_id, subType="user")["sub"] == ann.user_id
    refused = ann.post(KEYS, {"description": "d", "sub": bob.user_id}).expect(403)
    shapes.errors_of(refused)
    for nobody in (stranger.user_id, "subject_of_nobody"):
        admin.post(KEYS, {"description": "d", "sub": nobody}).expect(400, 404)
    made = world.qlik_key(admin, sub=bob.user_id)
    assert (made["sub"], made["createdByUser"]) == (bob.user_id, admin.user_id)


def test_external_clients_are_made_by_admins_for_their_own_time(world: World) -> None:
    tenant = world.tenant()
    world.cli("tenants", "set", tenant, "--max-api-key-expiry", "PT24H")
    admin, editor = world.user("admin", tenant), world.user("editor", tenant)
    editor.post(KEYS, {"description": "d", "subType": "externalClient"}).expect(403)
    made = admin.post(KEYS, {"description": "d", "subType": "externalClient"}).expect(201).json
    world.keep_secret(made["token"].rpartition(".")[2])
    assert made["subType"] == "externalClient"
    assert (instant(made["expiry"]) - instant(made["created"])).days == 365


def test_configs_change_within_the_documented_ranges(world: World) -> None:
    tenant = world.tenant()
    admin = world.user("admin", tenant)
    where = f"{KEYS}/configs/{tenant}"
    before = admin.get(where).json
    assert (before["api_keys_enabled"], before["max_keys_per_user"]) == (True, 100)
    assert (before["max_api_key_expiry"], before["scim_externalClient_expiry"]) == ("P1Y", "P365D")
    wanted = {
        "api_keys_enabled": False,
        "max_keys_per_user": 1000,
        "max_api_key_expiry": "PT24H",
        "scim_externalClient_expiry": "P30D",
    }
    admin.patch(
        where, [entry for name, value in wanted.items() for entry in patch(f"/{name}", value)]
    ).expect(204)
    assert admin.get(where).json == before | wanted
    admin.patch(where, patch("/max_keys_per_user", 0)).expect(204)
    assert admin.get(where).json["max_keys_per_user"] == 0


def test_a_tenant_whose_keys_are_off_refuses_them_until_they_are_on(world: World) -> None:
    tenant = world.tenant()
    admin = world.user("admin", tenant)
    where = f"{KEYS}/configs/{tenant}"
    token = world.qlik_key(admin)["token"]
    eventually(lambda: world.proxy(token) == 200)
    admin.patch(where, patch("/api_keys_enabled", False)).expect(204)
    admin.post(KEYS, {"description": "d"}).expect(403)
    eventually(lambda: world.proxy(token) == 403)
    admin.patch(where, patch("/api_keys_enabled", True)).expect(204)
    eventually(lambda: world.proxy(token) == 200)


@pytest.mark.parametrize("path", [KEYS, f"{KEYS}/apk_x", f"{KEYS}/configs/{ACME}"])
def test_a_missing_or_bad_credential_is_401_in_its_own_shape(world: World, path: str) -> None:
    for fields in ([], [("X-API-KEY", "no-key-at-all")], [("Authorization", "Bearer a.b.c")]):
        answer = world.call("GET", path, fields=fields).expect(401)
        shapes.errors_of(answer)
        assert (answer.value("www-authenticate") or "").startswith("Bearer realm=")


def test_writes_are_100_a_minute_across_dialects(world: World) -> None:
    """003, Tier 2. Writes come back by the second, so the count allows for the time it took."""
    caller, other = world.user("editor"), world.user("editor")
    started, allowed = time.monotonic(), 0
    while (answer := caller.delete(f"{KEYS}/apk_absent")).status == 404:
        allowed += 1
        assert allowed < 250, "no limit on writes"
    assert answer.status == 429
    shapes.errors_of(answer)
    assert int(answer.value("retry-after") or "0") > 0
    assert 100 <= allowed <= 101 + 100 * (time.monotonic() - started) / 60
    caller.delete("/api/1/api-keys/999999").expect(429)
    shapes.problem_of(caller.post("/api-keys", {}).expect(429))
    caller.get(KEYS).expect(200)
    other.delete(f"{KEYS}/apk_absent").expect(404)


def test_reads_are_1000_a_minute(world: World) -> None:
    """003, Tier 1."""
    caller = world.user("viewer")
    started, allowed = time.monotonic(), 0
    while (answer := caller.get(f"{KEYS}/apk_absent")).status == 404:
        allowed += 1
        assert allowed < 2500, "no limit on reads"
    assert answer.status == 429
    assert 1000 <= allowed <= 1001 + 1000 * (time.monotonic() - started) / 60
