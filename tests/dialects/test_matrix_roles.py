"""Who may give whose key's subject a role (design §8, ``004``): as with the key itself."""

from __future__ import annotations

import pytest

from tests.dialects.cast import Cast
from tests.dialects.harness import World

WHOSE = ("editor's", "other's", "operator's", "globex", "absent")
# `ok` is 200 or 204.
TABLE = """
                      editor's  other's  operator's  globex  absent
nobody                401       401      401         401     401
unknown               401       401      401         401     401
revoked key           401       401      401         401     401
admin                 ok        ok       ok          404     404
editor                ok        403      403         404     404
other                 403       ok       403         404     404
viewer                403       403      403         404     404
editor's editor key   403       403      403         404     404
editor's viewer key   403       403      403         404     404
key acting as editor  ok        403      403         404     404
editor's cookie       403       403      403         403     403
globex admin          404       404      404         ok      404
globex editor         404       404      404         ok      404
globex viewer         404       404      404         403     404
globex editor's key   404       404      404         403     404
"""


@pytest.fixture(scope="module")
def cast(world: World) -> Cast:
    return Cast(world)


@pytest.mark.parametrize("row", TABLE.strip("\n").splitlines()[1:], ids=lambda row: row[:22].strip())
def test_cell(cast: Cast, row: str) -> None:
    who, wrong = cast.callers[row[:22].strip()], []
    for whose, expected in zip(WHOSE, row[22:].split(), strict=True):
        key = cast.key(whose, fresh=False)
        answer = who.put(f"/api/1/tenants/{key['tenant']}/subjects/{key['subject']}/role", {"role": "viewer"})
        if answer.status not in ((200, 204) if expected == "ok" else (int(expected),)):
            wrong.append(f"{whose}: expected {expected}, got {answer.status} {answer.body[:200]!r}")
    assert not wrong, "\n".join(wrong)


def test_a_key_gives_itself_no_more(world: World, cast: Cast) -> None:
    """Reading: a key owns itself, so it may change its own role, and never raise it (pitfall 69)."""
    key = world.secret_key(cast.callers["editor"], permission="viewer")
    holder = world.key_caller(key["secretKey"])
    path = f"/api/1/tenants/{key['tenantId']}/subjects/{key['subjectId']}/role"
    holder.put(path, {"role": "editor"}).expect(403)
