"""Values that a member may not have: 400 that names it, in the dialect's own shape (pitfalls 69-73, 76)."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from tests.dialects.doors import Door, Doors
from tests.dialects.harness import World

NO_TEXT = {"number": "1", "boolean": "true", "null": "null", "list": '["x"]', "object": "{}"}
UNSEEN = {
    "line break": '"a\\nb"',
    "tab": '"a\\tb"',
    "escape": '"a\\u001bb"',
    "delete": '"a\\u007fb"',
    "bidi override": '"a\\u202eb"',
    "bidi isolate": '"a\\u2066b"',
    "zero-width space": '"a\\u200bb"',
    "line separator": '"a\\u2028b"',
    "noncharacter": '"a\\ufffeb"',
    "tag": '"a\\udb40\\udc41b"',
}
NAMES = (
    NO_TEXT
    | UNSEEN
    | {"empty": '""', "blank": '"  "', "long": json.dumps("n" * 101), "huge": json.dumps("n" * 60_000)}
)
TEXTS = {k: v for k, v in NO_TEXT.items() if k != "null"} | UNSEEN | {"long": json.dumps("d" * 1001)}
# Whole days, 1 to 365 (design §8).
TTLS = {
    "zero": "0",
    "negative": "-1",
    "366": "366",
    "fraction": "1.5",
    "text": '"180"',
    "boolean": "true",
    "null": "null",
    "exponent beyond": "1e9",
    "64 bits": "18446744073709551616",
    "duration": '"P1D"',
}
PERMISSIONS = {
    "unknown": '"owner"',
    "admin": '"admin"',
    "Admin": '"Admin"',
    "empty": '""',
    "number": "1",
    "boolean": "true",
    "null": "null",
    "list": '["viewer"]',
    "look-alike": '"\\u0435ditor"',
    "blank around": '" viewer"',
}
# Pitfall 73. All are refused: no durations, none at all, or more than the calendar year that a key may live.
DURATIONS = {
    "overflow": '"P99999999999D"',
    "exponent": '"P1E9D"',
    "no parts": '"PT"',
    "nothing": '"P"',
    "twice": '"P1M2M"',
    "wrong order": '"P1D1M"',
    "negative": '"-P1D"',
    "negative part": '"P-1D"',
    "zero": '"P0D"',
    "zero time": '"PT0S"',
    "two years": '"P2Y"',
    "a year and a day": '"P1Y1D"',
    "13 months": '"P13M"',
    "367 days": '"P367D"',
    "year 10000": '"P9999Y"',
    "number alone": '"1"',
    "number": "86400",
    "empty": '""',
    "blank": '" P1D"',
    "trailing": '"P1D "',
    "full-width": '"P\\uff11D"',
    "underscore": '"P1_0D"',
    "plus": '"P+1D"',
    "object": "{}",
    "many digits": json.dumps("P" + "9" * 5000 + "D"),
    "time without T": '"P1H"',
    "a date": '"2027-01-01T00:00:00Z"',
}
INSTANTS = {
    "past": '"2020-01-01T00:00:00Z"',
    "year 10000": '"10000-01-01T00:00:00Z"',
    "year 9999": '"9999-12-31T23:59:59Z"',
    "year 0": '"0000-01-01T00:00:00Z"',
    "no zone": '"2027-01-01T00:00:00"',
    "date": '"2027-01-01"',
    "30 February": '"2027-02-30T00:00:00Z"',
    "24 o'clock": '"2027-01-01T24:00:01Z"',
    "number": "1800000000",
    "text": '"tomorrow"',
    "empty": '""',
    "duration": '"P1D"',
    "wide zone": '"2027-01-01T00:00:00+24:00"',
    "full-width": '"\\uff12027-01-01T00:00:00Z"',
    "boolean": "true",
    "week date": '"2027-W01-1T00:00:00Z"',
    "blank": '" 2027-01-01T00:00:00Z"',
}
MEMBERS: list[tuple[str, str, dict[str, str]]] = [
    ("000 create", "name", NAMES),
    ("000 create", "description", TEXTS),
    ("000 create", "ttl", TTLS),
    ("000 create", "permission", PERMISSIONS),
    ("003 create", "description", TEXTS),
    ("003 create", "expiry", DURATIONS),
    ("003 create", "subType", {"unknown": '"robot"', "empty": '""', "number": "1", "case": '"User"'}),
    ("003 create", "sub", {"number": "1", "empty": '""', "list": "[]", "unknown": '"subject_nobody"'}),
    ("004 create", "name", NAMES),
    ("004 create", "description", TEXTS),
    ("004 create", "expiresAt", INSTANTS),
    (
        "004 create",
        "environmentId",
        {"unknown": '"nowhere"', "another tenant's": '"prod"', "number": "1", "empty": '""'},
    ),
    ("004 create", "intendedUse", {k: v for k, v in NAMES.items() if k not in ("null", "empty")}),
    ("004 create", "permission", {k: v for k, v in PERMISSIONS.items() if k != "null"}),
    ("004 create", "tenantId", {"number": "1", "list": "[]", "object": "{}"}),
    (
        "004 rotate",
        "overlap",
        {
            k: v
            for k, v in DURATIONS.items()
            if not k.startswith("zero") and "year" not in k and k not in ("13 months", "367 days")
        },
    ),
    ("role", "role", PERMISSIONS),
]
CASES = [
    pytest.param(name, member, value, id=f"{name}-{member}-{what}")
    for name, member, values in MEMBERS
    for what, value in values.items()
]


@pytest.mark.parametrize(("name", "member", "value"), CASES)
def test_a_value_is_refused_and_its_member_named(doors: Doors, name: str, member: str, value: str) -> None:
    """Reading: an unknown ``sub`` or another tenant's environment is 400 too, or 404 for a ``sub``."""
    door = doors.doors[name]
    answer = door.send(doors.caller, door.spoilt(member, value))
    if member == "sub" and answer.status == 404:
        return
    door.refuse(answer, 400, member)


@pytest.mark.parametrize(
    ("name", "member"),
    [("000 create", "name"), ("000 create", "permission"), ("004 create", "name"), ("role", "role")],
)
def test_a_member_that_is_needed_is_named_when_it_is_missing(doors: Doors, name: str, member: str) -> None:
    door = doors.doors[name]
    body = {key: value for key, value in door.good.items() if key != member}
    door.refuse(door.send(doors.caller, json.dumps(body).encode()), 400, member)


def test_just_under_and_just_over_the_year(world: World, doors: Doors) -> None:
    """The ceiling is one calendar year from creation; a wish beyond it is refused, never shortened."""
    door = doors.doors["004 create"]
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    a_year_on = (
        now.replace(year=now.year + 1) if (now.month, now.day) != (2, 29) else now + datetime.timedelta(365)
    )
    for seconds, fits in ((-60, True), (60, False)):
        wanted = (a_year_on + datetime.timedelta(seconds=seconds)).isoformat()
        answer = door.send(doors.caller, door.spoilt("expiresAt", json.dumps(wanted)))
        if fits:
            world.keep_secret(answer.expect(201).json["secretKey"])
        else:
            door.refuse(answer, 400, "expiresAt")


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
    door.refuse(door.send(doors.caller, json.dumps(OPS[what]).encode()), 400)
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
    door.refuse(door.send(doors.caller, json.dumps(patch).encode()), 400, "[1]")
    assert doors.caller.get(door.path).json == before


def test_names_are_kept_in_nfc(world: World, doors: Doors) -> None:
    for name, member in (("000 create", "name"), ("004 create", "name"), ("003 create", "description")):
        door: Door = doors.doors[name]
        answer = door.send(doors.caller, door.spoilt(member, '"Cafe\\u0301 \\u200dok"')).expect(201)
        made = answer.json
        world.keep_secret((made.get("apiToken") or made.get("token") or made["secretKey"]).rpartition(".")[2])
        assert made[member] == "Caf\u00e9 \u200dok"
