"""Values that a member may not have: 400 that names it, in the dialect's own shape (pitfalls 69-73, 76)."""

from __future__ import annotations

import datetime
import json

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
IDS = NO_TEXT | {
    "empty": '""',
    "dots": '".."',
    "slash": '"a/b"',
    "blank": '"a b"',
    "line break": '"a\\n"',
    "long": json.dumps("a" * 65),
    "no ASCII": '"caf\\u00e9"',
    "header": '"a\\r\\nX-Gateway-Tenant: b"',
}
PREFIXES = IDS | {
    "no end": '"spoilt"',
    "one that begins ours": '"gw_"',
    "known": '"acme_live_x_"',
    "digit": '"1a_"',
}
EMAILS = (
    NO_TEXT
    | UNSEEN
    | {
        "empty": '""',
        "no at": '"ann"',
        "two": '"a@b@c"',
        "colon": '"a:b@c.example"',
        "blank": '"a b@c.example"',
        "long": json.dumps("a" * 250 + "@c.example"),
    }
)
USER_ROLES = NO_TEXT | {
    "unknown": '"owner"',
    "MediaEditor": '"MediaEditor"',
    "empty": '""',
    "case": '"Admin"',
}
PASSWORDS = {k: v for k, v in NO_TEXT.items() if k != "null"} | {
    "short": '"1234567"',
    "long": json.dumps("p" * 1025),
    "bytes": json.dumps("\u00fc" * 600),
    "control": '"12345678\\u0007"',
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
    ("role", "role", {k: v for k, v in PERMISSIONS.items() if k != "admin"}),
    ("tenant create", "id", IDS),
    ("tenant create", "name", {k: v for k, v in NAMES.items() if k != "null"}),
    (
        "tenant change",
        "max_keys_per_user",
        {"1001": "1001", "negative": "-1", "boolean": "true", "text": '"5"'},
    ),
    ("tenant change", "max_api_key_expiry", DURATIONS),
    ("tenant change", "api_keys_enabled", {"text": '"true"', "number": "1"}),
    ("environment create", "id", IDS),
    ("environment create", "prefix", PREFIXES),
    ("user add", "email", EMAILS),
    ("user add", "role", USER_ROLES),
    ("user add", "password", PASSWORDS),
    ("user change", "role", USER_ROLES),
    ("user change", "password", PASSWORDS),
    ("user change", "enabled", {"text": '"true"', "number": "1"}),
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
    answer = door.send(doors.caller_of(door), door.spoilt(member, value))
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
    door.refuse(door.send(doors.caller_of(door), json.dumps(body).encode()), 400, member)


def test_just_under_and_just_over_the_year(world: World, doors: Doors) -> None:
    """The ceiling is one calendar year from creation; a wish beyond it is refused, never shortened."""
    door = doors.doors["004 create"]
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    a_year_on = (
        now.replace(year=now.year + 1) if (now.month, now.day) != (2, 29) else now + datetime.timedelta(365)
    )
    for seconds, fits in ((-60, True), (60, False)):
        wanted = (a_year_on + datetime.timedelta(seconds=seconds)).isoformat()
        answer = door.send(doors.caller_of(door), door.spoilt("expiresAt", json.dumps(wanted)))
        if fits:
            world.keep_secret(answer.expect(201).json["secretKey"])
        else:
            door.refuse(answer, 400, "expiresAt")


def test_names_are_kept_in_nfc(world: World, doors: Doors) -> None:
    for name, member in (("000 create", "name"), ("004 create", "name"), ("003 create", "description")):
        door: Door = doors.doors[name]
        answer = door.send(doors.caller_of(door), door.spoilt(member, '"Cafe\\u0301 \\u200dok"')).expect(201)
        made = answer.json
        world.keep_secret((made.get("apiToken") or made.get("token") or made["secretKey"]).rpartition(".")[2])
        assert made[member] == "Caf\u00e9 \u200dok"
