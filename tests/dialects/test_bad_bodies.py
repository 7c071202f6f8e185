"""Bodies that are no JSON, or no JSON that says one thing (pitfall 72), at every endpoint that reads one."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.dialects.doors import CREATIONS, NAMES, Door, Doors
from tests.dialects.harness import World
from tests.wire.client import Client

KIB = 1024


BAD_BYTES: dict[str, bytes] = {
    "blank": b"   ",
    "cut off": b'{"name": "n"',
    "cut off list": b'[{"op": "replace"',
    "no JSON": b"name=n&ttl=1",
    "two documents": b"{} {}",
    "trailing comma": b'{"name": "n",}',
    "comment": b'{"name": "n" /* why */}',
    "single quotes": b"{'name': 'n'}",
    "null": b"null",
    "number": b"1",
    "text": b'"text"',
    "true": b"true",
    "bad UTF-8": b'{"name": "\xff\xfe"}',
    "overlong UTF-8": b'{"name": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "UTF-16": '{"name": "n"}'.encode("utf-16"),
    "NUL byte": b'{"name": "a\x00b"}',
    "control character": b'{"name": "a\x01b"}',
    "deep lists": b"[" * 30_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("what", BAD_BYTES)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_json_is_400(doors: Doors, name: str, what: str) -> None:
    door = doors.doors[name]
    door.refuse(door.send(doors.caller_of(door), BAD_BYTES[what]), 400)


@pytest.mark.parametrize("name", [*CREATIONS, "tenant create", "environment create", "user add", "role"])
def test_an_empty_body_is_400(doors: Doors, name: str) -> None:
    """003 calls the body of its ``PATCH``es optional; a rotation's overlap has a default."""
    door = doors.doors[name]
    door.refuse(door.send(doors.caller_of(door), b""), 400)
    door.refuse(door.send(doors.caller_of(door), None), 400)


@pytest.mark.parametrize("name", NAMES)
def test_a_list_for_an_object_and_an_object_for_a_list_are_400(doors: Doors, name: str) -> None:
    door = doors.doors[name]
    turned = door.good[0] if isinstance(door.good, list) else [door.good]
    door.refuse(door.send(doors.caller_of(door), json.dumps(turned).encode()), 400)


def _a_member(door: Door) -> str:
    first = door.good[0] if isinstance(door.good, list) else door.good
    return "value" if "value" in first else next(iter(first))


@pytest.mark.parametrize("name", NAMES)
def test_a_repeated_member_is_400_and_named(doors: Doors, name: str) -> None:
    """Whichever value comes last, and if both are the same (CVE-2017-12635)."""
    door = doors.doors[name]
    text = json.dumps(door.good)
    member = _a_member(door)
    at = text.index(f'"{member}"')
    for value in (
        '"other"',
        json.dumps((door.good[0] if isinstance(door.good, list) else door.good)[member]),
    ):
        for doubled in (
            text[:at] + f'"{member}": {value}, ' + text[at:],
            text[:at] + f'"\\u{ord(member[0]):04x}{member[1:]}": {value}, ' + text[at:],
        ):
            door.refuse(door.send(doors.caller_of(door), doubled.encode()), 400, member)


VALUES = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "1e999": "1e999",
    "5,000 digits": "9" * 5000,
    "lone surrogate": '"\\ud800"',
    "NUL in text": '"a\\u0000b"',
    "deep": "[" * 5000 + "]" * 5000,
    "object": '{"a": 1}',
    "a duplicate within": '{"a": 1, "a": 1}',
}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_no_member_may_have_is_400(doors: Doors, name: str, what: str) -> None:
    door = doors.doors[name]
    door.refuse(door.send(doors.caller_of(door), door.spoilt(_a_member(door), VALUES[what])), 400)


@pytest.mark.parametrize("member", ["unknown", "Name", "__proto__", "", "a" * 300])
@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_member_is_400_and_named(doors: Doors, name: str, member: str) -> None:
    door = doors.doors[name]
    door.refuse(
        door.send(doors.caller_of(door), door.spoilt(member, "1")),
        400,
        *([member] if member[:1] != "a" else []),
    )


READ_ONLY = {
    "000 create": (
        "keyId",
        "ownerId",
        "createdBy",
        "createdAt",
        "expireAt",
        "apiToken",
        "id",
        "status",
        "tenantId",
    ),
    "003 create": ("id", "token", "status", "created", "tenantId", "lastUpdated", "createdByUser"),
    "004 create": (
        "id",
        "subjectId",
        "prefix",
        "lastFour",
        "secretKey",
        "hashAlgo",
        "createdBySubjectId",
        "createdAt",
        "status",
        "replaces",
        "revokedAt",
    ),
}


@pytest.mark.parametrize(
    ("name", "member"), [(name, member) for name, members in READ_ONLY.items() for member in members]
)
def test_a_read_only_member_is_400_and_named(doors: Doors, name: str, member: str) -> None:
    """Pitfall 70: mass assignment."""
    door = doors.doors[name]
    door.refuse(door.send(doors.caller_of(door), door.spoilt(member, '"x"')), 400, member)


@pytest.mark.parametrize("name", NAMES)
def test_beyond_64_kib_is_413(doors: Doors, name: str) -> None:
    door = doors.doors[name]
    good = json.dumps(door.good).encode()
    if door.success != (201,):  # those that create are held to their limit by a body of exactly 64 KiB below
        door.send(doors.caller_of(door), good + b" " * (64 * KIB - len(good))).expect(*door.success)
    door.refuse(door.send(doors.caller_of(door), good + b" " * (64 * KIB + 1 - len(good))), 413)
    door.refuse(door.send(doors.caller_of(door), b"[" * (1024 * KIB)), 413)


def test_beyond_64_kib_in_chunks_is_413(world: World, doors: Doors) -> None:
    caller = doors.caller
    head = (
        f"POST /api-keys HTTP/1.1\r\nHost: x\r\nX-API-KEY: {caller.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with Client(world.port) as client:
        client.send(head.encode())
        client.send_pieces(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(20))
        client.send_pieces([b"0\r\n\r\n"])
        assert client.response(b"POST").status == 413


@pytest.mark.parametrize("name", CREATIONS)
def test_exactly_64_kib_is_read(world: World, doors: Doors, name: str) -> None:
    door = doors.doors[name]
    good = json.dumps(door.good).encode()
    answer = door.send(doors.caller_of(door), good + b" " * (64 * KIB - len(good))).expect(201)
    made = answer.json
    world.keep_secret((made.get("apiToken") or made.get("token") or made["secretKey"]).rpartition(".")[2])


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonx",
        "application/xml",
        "application/json; charset=utf-16",
        "application/json, text/plain",
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_declared_as_json_is_415(doors: Doors, name: str, content_type: str | None) -> None:
    door = doors.doors[name]
    good = json.dumps(door.good).encode()
    door.refuse(door.send(doors.caller_of(door), good, content_type=content_type), 415)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"]
)
def test_json_may_be_declared_in_any_spelling(doors: Doors, content_type: str) -> None:
    door = doors.doors["003 patch"]
    door.send(doors.caller_of(door), json.dumps(door.good).encode(), content_type=content_type).expect(204)


@pytest.mark.parametrize("name", ["000 create", "003 create"])
def test_a_body_of_unknown_coding_is_refused(doors: Doors, name: str) -> None:
    """A compressed body could be any size: it is 415 or 400, never read."""
    door = doors.doors[name]
    content = gzip.compress(json.dumps(door.good).encode())
    fields = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]
    doors.caller.ask(door.method, door.path, body=content, fields=fields).expect(415, 400)
