"""JSON Patches that ask for what may not be changed, or badly (pitfall 71): 400, and nothing is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dialects.doors import Doors


def _patch(**changed: Any) -> dict[str, Any]:
    return {"op": "replace", "path": "/description", "value": "v"} | changed


GOOD = _patch(value="half of a patch")
OPS: dict[str, list[dict[str, Any]]] = {
    **{op: [_patch(op=op)] for op in ("add", "remove", "test", "Replace", "", "increment")},
    "move": [{"op": "move", "from": "/description", "path": "/name"}],
    "copy": [{"op": "copy", "from": "/id", "path": "/description"}],
    "replace and from": [_patch(**{"from": "/id"})],
    **{
        f"path {path}": [_patch(path=path)]
        for path in (
            "",
            "/",
            "description",
            "/description/",
            "/description/0",
            "//description",
            "/Description",
            "/~1description",
            "/~0",
            "/~",
            "/id",
            "/status",
            "/expiry",
            "/tenantId",
            "/sub",
            "/-",
            "/description~1",
            "/des%63ription",
            "#/description",
            "/name",
            "/__class__",
        )
    },
    "path number": [_patch(path=1)],
    "no op": [{"path": "/description", "value": "v"}],
    "no path": [{"op": "replace", "value": "v"}],
    "no value": [{"op": "replace", "path": "/description"}],
    "value null": [_patch(value=None)],
    "value number": [_patch(value=1)],
    "value list": [_patch(value=["v"])],
    "value long": [_patch(value="v" * 1001)],
    "value bidi": [_patch(value="a\u202eb")],
    "21 operations": [_patch() for _ in range(21)],
    "5000 operations": [{"op": "replace", "path": "/x", "value": 1}] * 1200,
    "second of two": [GOOD, _patch(op="test", value="half of a patch")],
    "last of three": [GOOD, GOOD, _patch(path="/status", value="revoked")],
}


@pytest.mark.parametrize("what", OPS)
def test_a_patch_of_a_key_is_refused_whole(doors: Doors, what: str) -> None:
    """Pitfall 71: ``replace`` on the listed paths only, at most 20, all or nothing."""
    door = doors.doors["003 patch"]
    door.refuse(door.send(doors.caller_of(door), json.dumps(OPS[what]).encode()), 400)
    assert doors.caller.get(door.path).expect(200).json["description"] != GOOD["value"]


SETTINGS: dict[str, list[Any]] = {
    "/api_keys_enabled": ["true", 1, 0, None, [], {}],
    "/max_keys_per_user": [-1, 1001, 1.5, True, "5", None, 10**18, [5]],
    "/max_api_key_expiry": [
        "",
        "P2Y",
        "P367D",
        "PT0S",
        "P0D",
        "PT",
        "P1M2M",
        "P99999999999D",
        86_400,
        None,
        True,
    ],
    "/scim_externalClient_expiry": ["", "P2Y", "PT0S", 5, None],
    "/tenantId": ["acme"],
    "/unknown": [1],
    "": [{"api_keys_enabled": False}],
}


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in SETTINGS.items() for value in values]
)
def test_a_setting_out_of_its_range_changes_nothing(doors: Doors, path: str, value: Any) -> None:
    """``max_keys_per_user`` 0-1000; lifetimes are some time and a calendar year at most.

    The member is named by its place in the patch, such as ``[1].value``.
    """
    door = doors.doors["003 configs"]
    before = doors.caller.get(door.path).expect(200).json
    patch = [
        {"op": "replace", "path": "/max_keys_per_user", "value": 77},
        {"op": "replace", "path": path, "value": value},
    ]
    door.refuse(door.send(doors.caller_of(door), json.dumps(patch).encode()), 400, "[1]")
    assert doors.caller.get(door.path).json == before
