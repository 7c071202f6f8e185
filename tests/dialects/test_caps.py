"""How many keys a user may have, when a hundred ask at once (pitfall 74)."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.dialects import shapes
from tests.dialects.client import Caller
from tests.dialects.harness import World

CAP = 5


def _capped(world: World) -> str:
    tenant = world.tenant()
    world.cli("tenants", "set", tenant, "--max-keys-per-user", str(CAP))
    return tenant


def test_a_hundred_at_once_make_no_more_than_the_cap(world: World) -> None:
    """Her own wishes and those of her keys, in all dialects: all count at the root of the lineage."""
    tenant = _capped(world)
    login = world.user("editor", tenant)
    own = world.key_caller(world.qwilt_key(login, permission="editor")["apiToken"], tenant)
    acting = world.key_caller(world.qlik_key(login)["token"], tenant)
    wishes = (
        ("/api/1/api-keys", {"name": "n", "ttl": 1, "permission": "viewer"}),
        ("/v1/api-keys", {"description": "d", "expiry": "PT1H"}),
        ("/api-keys", {"name": "n", "tenantId": tenant}),
    )
    callers = (login, own, acting)

    def create(index: int) -> int:
        path, wish = wishes[index // len(callers) % len(wishes)]
        answer = callers[index % len(callers)].post(path, wish)
        if answer.status == 201:
            made = answer.json
            token = made.get("apiToken") or made.get("token") or made["secretKey"]
            world.keep_secret(token.rpartition(".")[2])
        return answer.status

    with ThreadPoolExecutor(100) as pool:
        statuses = Counter(pool.map(create, range(96)))
    assert statuses == {201: CAP - 2, 403: 96 - (CAP - 2)}
    keys = login.get("/api-keys?limit=100").json["data"]
    assert len([key for key in keys if key["status"] == "active"]) == CAP


def test_the_cap_is_told_in_each_dialects_shape_and_counts_active_keys_alone(world: World) -> None:
    tenant = _capped(world)
    caller = world.user("editor", tenant)
    made = [world.qwilt_key(caller)["keyId"] for _ in range(CAP)]

    def full(who: Caller) -> None:
        wish = {"name": "n", "ttl": 1, "permission": "viewer"}
        shapes.problem_of(who.post("/api/1/api-keys", wish).expect(403))
        shapes.errors_of(who.post("/v1/api-keys", {"description": "d"}).expect(403))
        shapes.problem_of(who.post("/api-keys", {"name": "n", "tenantId": tenant}).expect(403))

    full(caller)
    world.secret_key(world.user("editor", tenant))  # another user has a cap of her own
    caller.delete(f"/api/1/api-keys/{made[0]}").expect(200)
    world.secret_key(caller)
    full(caller)


def test_the_operator_knows_no_cap(world: World) -> None:
    tenant = world.tenant()
    world.cli("tenants", "set", tenant, "--max-keys-per-user", "0")
    world.user("editor", tenant).post("/v1/api-keys", {"description": "d"}).expect(403)
    world.cli_key("viewer", tenant)
