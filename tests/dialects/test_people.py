"""Who may look after whom: users, tenants and environments over HTTP, and every way to become more.

Design §8 names the paths and one rule, "nobody grants more than she has"; the rest is read from it:
people are the admins' to manage, by login (a key is an editor at most); what concerns a user in all her
tenants (password, being enabled) takes an admin of each; another tenant is 404, as absent.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from tests.dialects.cast import Cast
from tests.dialects.client import Answer, Caller
from tests.dialects.harness import ACME, GLOBEX, World

MANAGERS = {"admin": 0, "editor's cookie": 403, "nobody": 401, "unknown": 401, "revoked key": 401}
Ask = Callable[[Caller, str, str], Answer]
ENDPOINTS: dict[str, tuple[tuple[int, ...], Ask]] = {
    "users GET": ((200,), lambda who, home, user: who.get(f"{home}/users")),
    "users POST": ((201,), lambda who, home, user: who.post(f"{home}/users", newcomer())),
    "user GET": ((200,), lambda who, home, user: who.get(f"{home}/users/{user}")),
    "user PATCH": ((200,), lambda who, home, user: who.patch(f"{home}/users/{user}", {"role": "viewer"})),
    "user DELETE": ((200, 204), lambda who, home, user: who.delete(f"{home}/users/{user}")),
    "environments POST": (
        (201,),
        lambda who, home, user: who.post(
            f"{home}/environments", {"id": word("e"), "prefix": word("p") + "_"}
        ),
    ),
    "tenant PATCH": ((200,), lambda who, home, user: who.patch(home, {"api_keys_enabled": True})),
}


def word(beginning: str) -> str:
    return beginning + secrets.token_hex(6)


def newcomer() -> dict[str, str]:
    return {"email": f"{word('u')}@acme.example", "role": "viewer", "password": secrets.token_hex(12)}


@pytest.fixture(scope="module")
def cast(world: World) -> Cast:
    return Cast(world)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_admins_alone_look_after_people(world: World, cast: Cast, endpoint: str) -> None:
    success, ask = ENDPOINTS[endpoint]
    wrong = []
    for who, caller in cast.callers.items():
        if who.startswith("globex"):
            continue
        expected = MANAGERS.get(who, 403)
        third = world.user("viewer").user_id if expected == 0 else cast.callers["viewer"].user_id
        if endpoint == "user GET" and who == "viewer":
            expected = 0  # that is herself
        answer = ask(caller, f"/api/1/tenants/{ACME}", third)
        if answer.status not in (success if expected == 0 else (expected,)):
            wrong.append(f"{who}: expected {expected or success}, got {answer.status} {answer.body[:160]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_another_tenants_people_are_not_there(world: World, cast: Cast, endpoint: str) -> None:
    """In her tenant's path, in one's own path, and in that of a tenant that never was."""
    ask = ENDPOINTS[endpoint][1]
    stranger, viewer = cast.callers["globex viewer"].user_id, cast.callers["viewer"].user_id
    for who in ("admin", "editor", "editor's editor key"):
        caller = cast.callers[who]
        answers = [ask(caller, f"/api/1/tenants/{tenant}", stranger) for tenant in (GLOBEX, "no-such-tenant")]
        told = [answer.text.replace(GLOBEX, "-").replace("no-such-tenant", "-") for answer in answers]
        told = [
            text.replace(answer.value("x-request-id") or "-", "-")
            for text, answer in zip(told, answers, strict=True)
        ]
        assert answers[0].status == answers[1].status
        assert told[0] == told[1]
        answers[0].expect(404, *([403] if who != "admin" else []))
    if endpoint.startswith("user "):
        ask(cast.callers["admin"], f"/api/1/tenants/{ACME}", stranger).expect(404)
        ask(cast.callers["globex admin"], f"/api/1/tenants/{GLOBEX}", viewer).expect(404)


def test_nobody_makes_herself_more(world: World, cast: Cast) -> None:
    """By her own user, by the subject of a key that acts as her, or with a key that she made."""
    home = f"/api/1/tenants/{ACME}"
    for who in ("viewer", "editor", "key acting as editor", "editor's editor key"):
        caller = cast.callers[who]
        for name in ("viewer", "editor"):
            user = cast.callers[name].user_id
            caller.put(f"{home}/subjects/{user}/role", {"role": "admin"}).expect(403)
            caller.patch(f"{home}/users/{user}", {"role": "admin"}).expect(403)
        caller.post(f"{home}/users", newcomer() | {"role": "admin"}).expect(403)
    editor = cast.callers["editor"]
    assert editor.get("/api/1/session").json["permission"] == "editor"
    assert cast.callers["viewer"].get("/api/1/session").json["permission"] == "viewer"
    made = world.secret_key(editor)
    editor.put(f"{home}/subjects/{made['subjectId']}/role", {"role": "admin"}).expect(400, 403)


def test_a_key_that_acts_as_an_admin_is_no_admin(world: World, cast: Cast) -> None:
    """Design §2: "admin is for people"; a key is viewer or editor."""
    key = world.key_caller(world.qlik_key(cast.callers["admin"])["token"])
    home = f"/api/1/tenants/{ACME}"
    third = cast.callers["viewer"].user_id
    assert key.get("/api/1/session").json["permission"] == "editor"
    key.get("/api/1/audit").expect(403)
    key.get(f"{home}/users").expect(403)
    key.patch(f"{home}/users/{third}", {"role": "editor"}).expect(403)
    key.put(f"{home}/subjects/{third}/role", {"role": "editor"}).expect(403)
    key.patch(
        f"/v1/api-keys/configs/{ACME}", [{"op": "replace", "path": "/max_keys_per_user", "value": 9}]
    ).expect(403)
    theirs = world.secret_key(cast.callers["other"])["id"]
    key.delete(f"/api-keys/{theirs}").expect(403)
    key.post("/v1/api-keys", {"description": "d", "sub": third}).expect(403)
    key.post("/v1/api-keys", {"description": "d", "subType": "externalClient"}).expect(403)


def test_who_lets_a_user_join_does_not_own_her(world: World) -> None:
    """An admin may add anybody's address; password, state and default stay hers and her tenants'."""
    victim = world.person("editor", GLOBEX)
    admin = world.user("admin", world.tenant())
    home = f"/api/1/tenants/{admin.tenant}"
    stolen = secrets.token_hex(12)
    joined = admin.post(f"{home}/users", {"email": victim.email, "role": "viewer", "password": stolen})
    if joined.status != 201:
        joined.expect(400, 409)
        admin.post(f"{home}/users", {"email": victim.email, "role": "viewer"}).expect(201)
    found = world.session(victim)
    user = found.user_id
    admin.patch(f"{home}/users/{user}", {"password": stolen}).expect(403, 409)
    admin.patch(f"{home}/users/{user}", {"enabled": False}).expect(403, 409)
    admin.patch(f"{home}/users/{user}", {"default": True}).expect(403, 409)
    assert world.session(victim).tenant == GLOBEX, "she is logged in where she was, with her own password"
    shown = admin.get(f"{home}/users").expect(200).text
    assert GLOBEX not in shown.replace(victim.email, ""), "where else she is concerns nobody here"
    admin.delete(f"{home}/users/{user}").expect(200, 204)
    found.get("/api/1/api-keys").expect(200)


def test_a_user_who_leaves_takes_the_keys_that_act_as_her_along(world: World) -> None:
    tenant = world.tenant()
    admin, leaver = world.user("admin", tenant), world.user("editor", tenant)
    acting, own = world.qlik_key(leaver), world.secret_key(leaver)
    admin.delete(f"/api/1/tenants/{tenant}/users/{leaver.user_id}").expect(200, 204)
    world.key_caller(acting["token"], tenant).get("/v1/api-keys").expect(401, 403)
    world.key_caller(own["secretKey"], tenant).get("/api-keys").expect(200)
    leaver.get("/api/1/session").expect(401, 403)


def test_a_new_tenant_is_its_makers_alone(world: World, cast: Cast) -> None:
    """Reading: tenants are added by admins of ``default``, the operator's own; nobody else's admin may."""
    for who, expected in (("admin", 403), ("editor", 403), ("editor's editor key", 403), ("nobody", 401)):
        cast.callers[who].post("/api/1/tenants", {"id": word("t")}).expect(expected)
    world.user("editor", "default").post("/api/1/tenants", {"id": word("t")}).expect(403)
    name, first = word("t"), world.user("admin", "default")
    first.post("/api/1/tenants", {"id": name}).expect(201)
    first.post("/api/1/tenants", {"id": name}).expect(409)
    assert {one["id"] for one in _tenants(first)} == {"default", name}
    for who in ("admin", "editor", "globex admin"):
        assert name not in {one["id"] for one in _tenants(cast.callers[who])}


def _tenants(caller: Caller) -> list[dict[str, object]]:
    found = caller.get("/api/1/tenants").expect(200).json
    return list(found["data"] if isinstance(found, dict) else found)
