"""What is secret is shown once and written nowhere: canaries in every place that a caller can put one."""

from __future__ import annotations

import secrets
import sqlite3

import pytest

from tests.dialects.client import Answer, Caller, basic, call
from tests.dialects.harness import ACME, World


def canary() -> str:
    return f"canary{secrets.token_hex(10)}"


@pytest.fixture
def held(world: World) -> str:
    """A word that the gateway must neither write nor echo."""
    word = canary()
    world.keep_secret(word)
    return word


def _unsaid(world: World, word: str, *answers: Answer) -> None:
    for answer in answers:
        assert word not in answer.text, answer
        assert not any(word in value for _, value in answer.fields), answer.fields
    assert word not in world.product.output


def test_a_password_is_never_told(world: World, held: str) -> None:
    person = world.person("viewer")
    answers = [
        world.call("GET", "/login", fields=[basic(name, held)], source="127.8.0.1").expect(401)
        for name in (person.email, "nobody@acme.example")
    ]
    answers.append(world.call("GET", f"/login?password={held}", source="127.8.0.1").expect(400, 401))
    _unsaid(world, held, *answers)
    assert held not in world.cli("audit", "--json")


@pytest.mark.parametrize("form", ["{}", "gw_live_{}", "a.{}.c", "eyJhbGciOiJub25lIn0.{}.x"])
@pytest.mark.parametrize(
    "field", ["X-API-KEY: ", "Authorization: Bearer ", "Authorization: ", "Cookie: cqloudLoginToken="]
)
def test_a_refused_credential_is_never_told(world: World, held: str, field: str, form: str) -> None:
    name, _, scheme = field.partition(": ")
    fields = [(name, scheme + form.format(held))]
    _unsaid(
        world,
        held,
        *(world.call("GET", path, fields=fields).expect(401, 400) for path in ("/api-keys", "/v1/api-keys")),
        call(world.proxy_port, "GET", "/x", fields=fields).expect(401),
    )


def test_a_token_in_a_body_or_query_is_never_told(world: World, held: str) -> None:
    caller = world.writer()
    json = [("Content-Type", "application/json")]
    answers = [
        caller.post("/api-keys", {"name": "n", "tenantId": ACME, "secretKey": held}).expect(400),
        caller.post("/v1/api-keys", {"description": "d", "token": held}).expect(400),
        caller.post("/api/1/api-keys", {"name": "n", "ttl": held, "permission": "viewer"}).expect(400),
        caller.ask("POST", "/api-keys", body=f'{{"name": "{held}"'.encode(), fields=json).expect(400),
        caller.get(f"/api-keys?token={held}").expect(400),
        caller.get(f"/api-keys?limit={held}").expect(400),
    ]
    _unsaid(world, held, *answers)


def test_tokens_are_shown_once_and_lie_nowhere(world: World) -> None:
    tenant = world.tenant()
    admin = world.user("admin", tenant)
    tokens = [
        world.qwilt_key(admin)["apiToken"],
        world.qlik_key(admin)["token"],
        world.secret_key(admin)["secretKey"],
    ]
    old = world.secret_key(admin)["id"]
    new = admin.post(f"/api-keys/{old}/rotate", {}).expect(201).json
    tokens.append(new["secretKey"])
    shown = "".join(
        admin.get(path).expect(200).text
        for path in (
            "/api/1/api-keys",
            "/v1/api-keys?limit=100",
            "/api-keys?limit=100",
            "/api/1/audit",
            "/api/1/session",
            f"/api/1/tenants/{tenant}/subjects",
            f"/api-keys/{old}",
            f"/v1/api-keys/{old}",
        )
    )
    shown += world.cli("audit", "--json", "--limit", "1000") + world.cli("keys", "list", "--json")
    with sqlite3.connect(f"file:{world.product.store}?mode=ro", uri=True) as store:
        dump = "\n".join(store.iterdump())
    store.close()
    for token in tokens:
        for word in (token, token.rpartition(".")[2]):
            assert word not in shown
            assert word not in dump, "the store holds verifiers, never tokens"
            assert word not in world.product.output


def test_passwords_and_login_tokens_lie_nowhere(world: World) -> None:
    person = world.person("editor")
    token = world.log_in(person)
    holder = Caller(world.port, token, (("X-API-KEY", token),))
    shown = holder.get("/api/1/session").expect(200).text + world.cli("audit", "--json", "--limit", "1000")
    shown += world.cli("users", "list", "--json")
    with sqlite3.connect(f"file:{world.product.store}?mode=ro", uri=True) as store:
        shown += "\n".join(store.iterdump())
    store.close()
    assert person.password not in shown
    assert token.rpartition(".")[2] not in shown
    assert "$argon2" not in holder.get("/api/1/api-keys").text


def test_nothing_of_all_this_was_written(world: World) -> None:
    world.product.assert_clean()
