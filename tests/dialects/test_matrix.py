"""Who may do what to whose key: every cell of design §8's rules, over the wire.

In one's tenant but not allowed is 403; another tenant's key is 404, as absent. In ``000`` and ``004``
members see every key of the organisation, in ``003`` their own (admins all). They change and end
their own, admins any; a viewer changes nothing. A key owns what it made itself; one that acts as a
user owns what is hers. The cookie without its CSRF token reads and never writes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.dialects.cast import Cast, Made
from tests.dialects.client import Answer, Caller
from tests.dialects.harness import World

WHOSE = ("editor's", "acting as editor", "other's", "operator's", "globex", "absent")
OK = 0  # whatever the endpoint's success is

# READ: any key of the organisation (GET of 000 and 004, permissions).
READ = """
                      editor's  acting  other's  operator's  globex  absent
nobody                401       401     401      401         401     401
unknown               401       401     401      401         401     401
revoked key           401       401     401      401         401     401
admin                 ok        ok      ok       ok          404     404
editor                ok        ok      ok       ok          404     404
other                 ok        ok      ok       ok          404     404
viewer                ok        ok      ok       ok          404     404
editor's editor key   ok        ok      ok       ok          404     404
editor's viewer key   ok        ok      ok       ok          404     404
key acting as editor  ok        ok      ok       ok          404     404
editor's cookie       ok        ok      ok       ok          404     404
globex admin          404       404     404      404         ok      404
globex editor         404       404     404      404         ok      404
globex viewer         404       404     404      404         ok      404
globex editor's key   404       404     404      404         ok      404
"""
# OWN: one's own keys (GET of 003); a key with a subject of its own has made none of these.
OWN = """
                      editor's  acting  other's  operator's  globex  absent
nobody                401       401     401      401         401     401
unknown               401       401     401      401         401     401
revoked key           401       401     401      401         401     401
admin                 ok        ok      ok       ok          404     404
editor                ok        ok      403      403         404     404
other                 403       403     ok       403         404     404
viewer                403       403     403      403         404     404
editor's editor key   403       403     403      403         404     404
editor's viewer key   403       403     403      403         404     404
key acting as editor  ok        ok      403      403         404     404
editor's cookie       ok        ok      403      403         404     404
globex admin          404       404     404      404         ok      404
globex editor         404       404     404      404         ok      404
globex viewer         404       404     404      404         403     404
globex editor's key   404       404     404      404         403     404
"""
# MANAGE: change, rotate, revoke, remove.
MANAGE = """
                      editor's  acting  other's  operator's  globex  absent
nobody                401       401     401      401         401     401
unknown               401       401     401      401         401     401
revoked key           401       401     401      401         401     401
admin                 ok        ok      ok       ok          404     404
editor                ok        ok      403      403         404     404
other                 403       403     ok       403         404     404
viewer                403       403     403      403         404     404
editor's editor key   403       403     403      403         404     404
editor's viewer key   403       403     403      403         404     404
key acting as editor  ok        ok      403      403         404     404
editor's cookie       403       403     403      403         403     403
globex admin          404       404     404      404         ok      404
globex editor         404       404     404      404         ok      404
globex viewer         404       404     404      404         403     404
globex editor's key   404       404     404      404         403     404
"""

Ask = Callable[[Caller, Made], Answer]
PATCH = [{"op": "replace", "path": "/description", "value": "changed"}]
# The cast, the table, the status of success, whether that uses the key up, and how it is asked.
ENDPOINTS: dict[str, tuple[str, str, tuple[int, ...], bool, Ask]] = {
    "000 GET": ("000", READ, (200,), False, lambda who, key: who.get(f"/api/1/api-keys/{key['number']}")),
    "000 DELETE": (
        "000", MANAGE, (200,), True, lambda who, key: who.delete(f"/api/1/api-keys/{key['number']}")
    ),
    "003 GET": ("003", OWN, (200,), False, lambda who, key: who.get(f"/v1/api-keys/{key['id']}")),
    "003 PATCH": (
        "003", MANAGE, (204,), False, lambda who, key: who.patch(f"/v1/api-keys/{key['id']}", PATCH)
    ),
    "003 DELETE": ("003", MANAGE, (204,), True, lambda who, key: who.delete(f"/v1/api-keys/{key['id']}")),
    "004 GET": ("004", READ, (200,), False, lambda who, key: who.get(f"/api-keys/{key['id']}")),
    "004 permissions": (
        "004", READ, (200,), False,
        lambda who, key: who.get(f"/api-keys/{key['id']}/permissions?method=GET&path=/"),
    ),
    "004 DELETE": ("004", MANAGE, (200, 204), True, lambda who, key: who.delete(f"/api-keys/{key['id']}")),
    "004 rotate": (
        "rotate", MANAGE, (201,), True, lambda who, key: who.post(f"/api-keys/{key['id']}/rotate", {})
    ),
}  # fmt: skip


def table(text: str) -> dict[str, list[int]]:
    """Return the statuses of a table by caller, in the order of ``WHOSE``."""
    rows = {}
    for line in text.strip().splitlines()[1:]:
        cells = line.split()[-len(WHOSE) :]
        rows[line[:22].strip()] = [OK if cell == "ok" else int(cell) for cell in cells]
    return rows


@pytest.fixture(scope="module")
def cast_of(world: World) -> Callable[[str], Cast]:
    casts: dict[str, Cast] = {}

    def cast_of(name: str) -> Cast:
        if name not in casts:
            casts[name] = Cast(world)
        return casts[name]

    return cast_of


@pytest.mark.parametrize("who", table(READ))
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_cell(cast_of: Callable[[str], Cast], endpoint: str, who: str) -> None:
    name, text, success, uses_up, ask = ENDPOINTS[endpoint]
    cast, wrong = cast_of(name), []
    for whose, expected in zip(WHOSE, table(text)[who], strict=True):
        if _has_no_name(endpoint, who, whose):
            continue
        fresh = expected == OK and uses_up
        answer = ask(cast.callers[who], cast.key(whose, fresh=fresh))
        if answer.status not in (success if expected == OK else (expected,)):
            wrong.append(
                f"{whose}: expected {expected or success}, got {answer.status} {answer.body[:200]!r}"
            )
    assert not wrong, "\n".join(wrong)


def _has_no_name(endpoint: str, who: str, whose: str) -> bool:
    """``000`` numbers keys within a tenant, so that another's has no name there: the number is one's own."""
    return endpoint.startswith("000") and whose != "absent" and (who[:6] == "globex") != (whose == "globex")


@pytest.mark.parametrize("endpoint", [name for name in ENDPOINTS if not name.startswith("000")])
def test_another_tenants_key_is_answered_as_an_absent_one(
    cast_of: Callable[[str], Cast], endpoint: str
) -> None:
    """The same status, fields and body, but for the id that was asked for and the request's own."""
    name, _, _, _, ask = ENDPOINTS[endpoint]
    cast = cast_of(name)
    for who in ("admin", "editor", "viewer", "editor's editor key", "key acting as editor"):
        theirs, absent = (cast.key(whose, fresh=False) for whose in ("globex", "absent"))
        told = [_told(ask(cast.callers[who], key), key) for key in (theirs, absent)]
        assert told[0] == told[1], who


def test_a_number_names_a_key_of_ones_own_tenant(world: World, cast_of: Callable[[str], Cast]) -> None:
    cast = cast_of("000")
    for who, whose in (("globex editor", "editor's"), ("editor", "globex")):
        key = cast.key(whose, fresh=True)
        answer = cast.callers[who].get(f"/api/1/api-keys/{key['number']}")
        if answer.expect(200, 404).status == 200:
            assert answer.json["ownerId"] != key["tenant"]


def _told(answer: Answer, key: Made) -> tuple[int, str, list[tuple[str, str]]]:
    body = answer.text
    for word in (answer.value("x-request-id") or "-", key["id"]):
        body = body.replace(word, "-")
    own = ("x-request-id", "date", "content-length")
    return answer.status, body, sorted((n.lower(), v) for n, v in answer.fields if n.lower() not in own)


def test_every_cell_is_written_down(cast_of: Callable[[str], Cast]) -> None:
    for text in (READ, OWN, MANAGE):
        assert set(table(text)) == set(cast_of("000").callers)
        assert all(len(row) == len(WHOSE) for row in table(text).values())
