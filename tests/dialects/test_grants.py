"""Nobody grants more than she has (design §8, pitfall 69): neither in permission nor in reach, nor later.

``SitesEditor`` is an editor below ``/sites`` alone, ``SitesViewer`` a viewer below ``/sites/public``.
"""

from __future__ import annotations

import pytest

from tests.dialects.client import Caller
from tests.dialects.harness import ACME, World
from tests.wire.backend import eventually


def _limited(world: World, role: str = "SitesEditor") -> Caller:
    return world.key_caller(world.secret_key(world.writer(), permission=role)["secretKey"], ACME)


def test_a_limited_role_holds_at_the_proxy(world: World) -> None:
    token = world.qwilt_key(world.writer(), permission="SitesEditor")["apiToken"]
    eventually(lambda: world.proxy(token, "POST", "/sites/1") == 200)
    assert world.proxy(token, "GET", "/elsewhere") == 403
    assert world.proxy(token, "GET", "/sitesx") == 403


@pytest.mark.parametrize(
    ("role", "expected"),
    [("SitesEditor", 201), ("SitesViewer", 201), ("editor", 403), ("viewer", 403), ("MediaEditor", 403),
     ("MediaViewer", 403)],
)  # fmt: skip
def test_a_limited_key_makes_no_key_that_reaches_further(world: World, role: str, expected: int) -> None:
    caller = _limited(world)
    wishes = {
        "/api/1/api-keys": {"name": "n", "ttl": 1, "permission": role},
        "/api-keys": {"name": "n", "tenantId": ACME, "permission": role},
    }
    for path, wish in wishes.items():
        answer = caller.post(path, wish).expect(expected)
        if expected == 201:
            made = answer.json
            world.keep_secret(made.get("apiToken") or made["secretKey"])


def test_a_limited_key_reaches_no_further_through_003(world: World) -> None:
    """Reading: what acts as the key has the key's own role; where it cannot, it is refused."""
    answer = _limited(world).post("/v1/api-keys", {"description": "d"}).expect(201, 403)
    if answer.status == 201:
        token = answer.json["token"]
        world.keep_secret(token.rpartition(".")[2])
        eventually(lambda: world.proxy(token, "GET", "/sites/1") == 200)
        assert world.proxy(token, "GET", "/elsewhere") == 403


def test_a_limited_key_widens_no_role_and_rotates_nothing_wider(world: World) -> None:
    caller = _limited(world)
    made = world.secret_key(caller, permission="SitesViewer")
    where = f"/api/1/tenants/{ACME}/subjects/{made['subjectId']}/role"
    for role in ("editor", "viewer", "MediaEditor"):
        caller.put(where, {"role": role}).expect(403)
    world.writer("admin").put(where, {"role": "editor"}).expect(200, 204)
    caller.post(f"/api-keys/{made['id']}/rotate", {}).expect(403)


def test_whoever_was_demoted_changes_nothing_any_more_not_even_her_own(world: World) -> None:
    person = world.person("editor")
    caller = world.session(person)
    own, acting = world.secret_key(caller, permission="editor"), world.qlik_key(caller)
    number = world.cli_show(own["id"])["keyId"]
    world.cli("users", "set", person.email, "--tenant", ACME, "--role", "viewer")
    caller.get(f"/api-keys/{own['id']}").expect(200)
    caller.get(f"/v1/api-keys/{acting['id']}").expect(200)
    describe = [{"op": "replace", "path": "/description", "value": "changed"}]
    caller.patch(f"/v1/api-keys/{acting['id']}", describe).expect(403)
    caller.post(f"/api-keys/{own['id']}/rotate", {}).expect(403)
    role = f"/api/1/tenants/{ACME}/subjects/{own['subjectId']}/role"
    caller.put(role, {"role": "viewer"}).expect(403)
    for path in (f"/api/1/api-keys/{number}", f"/v1/api-keys/{acting['id']}", f"/api-keys/{own['id']}"):
        caller.delete(path).expect(403)
    holder = world.key_caller(acting["token"])
    holder.post("/api-keys", {"name": "n", "tenantId": ACME}).expect(403)
