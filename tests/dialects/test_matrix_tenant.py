"""Who may do what in whose tenant: lists, creation, configuration, people and the audit.

Where design §8 names no rule the reading is: people, subjects and the audit are the admins' to see
(they tell addresses and names of others); environments are every member's, who needs them to make
keys; a tenant that is not the caller's is 404, as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.dialects.cast import Cast
from tests.dialects.client import Answer, Caller
from tests.dialects.harness import ACME, GLOBEX, World

# What each may do at home. `no` is 403; a list shows what its dialect shows.
TABLE = """
                      lists  create  config  change  environments  people  audit  session
nobody                401    401     401     401     401           401     401    401
unknown               401    401     401     401     401           401     401    401
revoked key           401    401     401     401     401           401     401    401
admin                 200    201     200     204     200           200     200    200
editor                200    201     200     403     200           403     403    200
other                 200    201     200     403     200           403     403    200
viewer                200    403     200     403     200           403     403    200
editor's editor key   200    201     200     403     200           403     403    200
editor's viewer key   200    403     200     403     200           403     403    200
key acting as editor  200    201     200     403     200           403     403    200
editor's cookie       200    403     200     403     200           403     403    200
globex admin          200    201     200     204     200           200     200    200
globex editor         200    201     200     403     200           403     403    200
globex viewer         200    403     200     403     200           403     403    200
globex editor's key   200    201     200     403     200           403     403    200
"""

QWILT = {"name": "n", "ttl": 1, "permission": "viewer"}
SAME = [{"op": "replace", "path": "/api_keys_enabled", "value": True}]
Ask = Callable[[Caller, str], Answer]
ENDPOINTS: list[tuple[str, str, Ask]] = [
    ("lists", "000", lambda who, _: who.get("/api/1/api-keys")),
    ("lists", "003", lambda who, _: who.get("/v1/api-keys")),
    ("lists", "004", lambda who, _: who.get("/api-keys")),
    ("lists", "tenants", lambda who, _: who.get("/api/1/tenants")),
    ("create", "000", lambda who, _: who.post("/api/1/api-keys", QWILT)),
    ("create", "003", lambda who, _: who.post("/v1/api-keys", {"description": "d", "expiry": "PT1H"})),
    ("create", "004", lambda who, tenant: who.post("/api-keys", {"name": "n", "tenantId": tenant})),
    ("config", "003", lambda who, tenant: who.get(f"/v1/api-keys/configs/{tenant}")),
    ("change", "003", lambda who, tenant: who.patch(f"/v1/api-keys/configs/{tenant}", SAME)),
    ("environments", "", lambda who, tenant: who.get(f"/api/1/tenants/{tenant}/environments")),
    ("people", "users", lambda who, tenant: who.get(f"/api/1/tenants/{tenant}/users")),
    ("people", "subjects", lambda who, tenant: who.get(f"/api/1/tenants/{tenant}/subjects")),
    ("audit", "", lambda who, _: who.get("/api/1/audit")),
    ("session", "", lambda who, _: who.get("/api/1/session")),
]  # fmt: skip
# Those whose path or body names a tenant.
TENANTS = [entry for entry in ENDPOINTS if entry[2].__code__.co_varnames[1] == "tenant"]


def rows() -> dict[str, dict[str, int]]:
    head, *lines = TABLE.strip("\n").splitlines()
    return {
        line[:22].strip(): dict(zip(head.split(), map(int, line[22:].split()), strict=True)) for line in lines
    }


@pytest.fixture(scope="module")
def cast(world: World) -> Cast:
    return Cast(world)


@pytest.mark.parametrize("who", rows())
def test_at_home(world: World, cast: Cast, who: str) -> None:
    home = GLOBEX if who.startswith("globex") else ACME
    wrong = []
    for column, dialect, ask in ENDPOINTS:
        expected = rows()[who][column]
        answer = ask(cast.callers[who], home)
        _keep_token(world, answer)
        if answer.status != expected:
            wrong.append(
                f"{column} {dialect}: expected {expected}, got {answer.status} {answer.body[:160]!r}"
            )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("who", [who for who, row in rows().items() if row["lists"] == 200])
def test_abroad_is_answered_as_a_tenant_that_is_not_there(cast: Cast, who: str) -> None:
    """404 and never more. Only a viewer's creation (or a cookie's write) may be refused before: 403."""
    abroad = ACME if who.startswith("globex") else GLOBEX
    wrong = []
    for column, dialect, ask in TENANTS:
        theirs, absent = (ask(cast.callers[who], tenant) for tenant in (abroad, "no-such-tenant"))
        refused = rows()[who][column] == 403
        if theirs.status != absent.status or theirs.status not in ((404, 403) if refused else (404,)):
            wrong.append(f"{column} {dialect}: {theirs.status}, for an absent tenant {absent.status}")
        elif _told(theirs, abroad) != _told(absent, "no-such-tenant"):
            wrong.append(f"{column} {dialect}: {theirs.body[:200]!r} and {absent.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("who", [who for who, row in rows().items() if row["lists"] == 200])
def test_no_list_shows_anything_of_the_other_tenant(cast: Cast, who: str) -> None:
    abroad = ACME if who.startswith("globex") else GLOBEX
    theirs = cast.key("editor's" if abroad == ACME else "globex", fresh=False)
    for path in ("/api/1/api-keys", "/v1/api-keys?limit=100", "/api-keys?limit=100", "/api/1/tenants"):
        answer = cast.callers[who].get(path).expect(200)
        shown = re.findall(r'"(?:ownerId|tenantId|id)": ?"([^"]*)"', answer.text)
        assert abroad not in shown, path
        assert theirs["id"] not in answer.text


def _keep_token(world: World, answer: Answer) -> None:
    if answer.status == 201:
        made: dict[str, Any] = answer.json
        token = made.get("apiToken") or made.get("token") or made["secretKey"]
        world.keep_secret(token.rpartition(".")[2])


def _told(answer: Answer, tenant: str) -> str:
    return answer.text.replace(answer.value("x-request-id") or "-", "-").replace(tenant, "-")
