"""What a line of an import may say; what is wrong is told without a word of it."""

from __future__ import annotations

import json
import random
from typing import Any

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.import_lines import Line, LineError, parse_line
from gateway.core.tokens import make_token

TOKEN = "sk_other_0123456789abcdef"
ARGON2ID = "$argon2id$v=19$m=19456,t=2,p=1$YmVuY2htYXJrLXNhbHQ$" + "A" * 43
OURS = make_token("gw_live_", random.Random(1).choice)
PREFIXES = ("gw_live_", "qs_live_")


def line(**changes: Any) -> bytes:
    """Return a line that is right but for the changes; ``...`` leaves a member out."""
    members = {
        "tenantId": "default",
        "name": "one",
        "permission": "viewer",
        "expiresAt": "2027-01-01T00:00:00Z",
        "token": TOKEN,
    } | changes
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def cold(**changes: Any) -> bytes:
    return line(**({"token": ..., "argon2id": ARGON2ID, "locator": "sk_other_"} | changes))


def parsed(content: bytes, **options: Any) -> Line:
    return parse_line(content, PREFIXES, **options)


def fault(content: bytes, **options: Any) -> str:
    with pytest.raises(LineError) as raised:
        parsed(content, **options)
    return str(raised.value)


def test_a_token_of_any_form_is_taken_and_hardly_shown() -> None:
    found = parsed(line())
    assert (found.token, found.verifier, found.locator) == (TOKEN, None, None)
    assert (found.prefix, found.last_four) == ("sk_o", "cdef")
    short = parsed(line(token="0123456789abcdef"))
    assert (short.prefix, short.last_four) == ("", "")
    assert TOKEN not in repr(found)


def test_a_token_of_our_own_form_brings_its_locator() -> None:
    found = parsed(line(token=OURS))
    assert (found.locator, found.prefix) == (OURS[:20], OURS[:12])
    assert parsed(line(token=OURS, locator=OURS[:10])).locator == OURS[:10]


def test_a_hash_comes_with_the_locator_that_finds_it() -> None:
    found = parsed(cold(lastFour="wxyz", description="d", environmentId="e", intendedUse=None))
    assert (found.token, found.verifier, found.locator) == (None, ARGON2ID, "sk_other_")
    assert (found.prefix, found.last_four) == ("sk_other_", "wxyz")
    assert "intendedUse" not in found.said


def test_what_argon2_itself_makes_is_taken() -> None:
    made = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=2).hash("x")
    assert parsed(cold(argon2id=made)).verifier == made


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"nonsense", "is not valid JSON at column 1"),
        (b'{"tenantId": NaN}', "is not valid JSON"),
        (b"[" * 20_000, "is not valid JSON"),
        (b'{"name": 1e99999, "n": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (b"\xff{}", "is not UTF-8"),
        (b"[]", "is not a JSON object"),
        (b"{}", "tenantId is missing"),
        (line()[:-1] + b', "name": "two"}', "has a member twice"),
        (line(name=...), "name is missing"),
        (line(expiresAt=None), "expiresAt is missing"),
        (line(name=7), "name must be text"),
        (line(token=["x"]), "token must be text"),
        (line(status="active"), "has a member that is none of tenantId, name"),
        (line(token=...), "neither a token nor an argon2id string"),
        (line(argon2id=ARGON2ID), "exclude one another"),
        (line(token="short"), "fewer than 16 characters, and"),
        (line(token=""), "must be visible ASCII"),
        (line(token="with space 0123456789"), "must be visible ASCII"),
        (line(token="with,comma,0123456789"), "without spaces and commas"),
        (line(token="schlüssel-0123456789"), "must be visible ASCII"),
        (line(token="x" * 8193), "at most 8192 characters"),
        (
            line(token=OURS[:-1] + ("a" if OURS[-1] != "a" else "b")),
            "begins with gw_live_ and is no key of that",
        ),
        (line(token="qs_live_0123456789abcdef"), "begins with qs_live_ and is no key of that form"),
        (line(locator="sk_othex"), "must be a leading part of the token"),
        (line(locator=TOKEN), "fewer than 16 characters beyond its locator"),
        (line(locator="sk_other_01"), "fewer than 16 characters beyond its locator"),
        (line(lastFour="cdef"), "lastFour is read from the token"),
        (cold(locator=...), "argon2id needs a locator"),
        (cold(locator="abc"), "locator must have 4 to 64 characters"),
        (cold(locator="a" * 65), "locator must have 4 to 64 characters"),
        (cold(locator="ab cd"), "visible ASCII"),
        (cold(lastFour="abcde"), "lastFour must be four visible ASCII characters"),
        (cold(argon2id="$2b$12$abcdefghijklmnopqrstuv"), "must be a string such as"),
        (cold(argon2id=ARGON2ID.replace("argon2id", "argon2i")), "must be a string such as"),
        (cold(argon2id=ARGON2ID.replace("v=19", "v=16")), "must be a string such as"),
        (cold(argon2id=ARGON2ID.replace("m=19456", "m=019456")), "must be a string such as"),
        (cold(argon2id=ARGON2ID.replace("t=2", "t=02")), "must be a string such as"),
        (cold(argon2id=ARGON2ID + "\n"), "must be a string such as"),
        (cold(argon2id=ARGON2ID[:-2] + "AB"), "must be a string such as"),
        (cold(argon2id=ARGON2ID.replace("YmVuY2htYXJrLXNhbHQ", "YmVu")), "must be a string such as"),
        (cold(argon2id=ARGON2ID.replace("m=19456", "m=65537")), r"asks for more than m=65536 (64 MiB)"),
        (cold(argon2id=ARGON2ID.replace("t=2", "t=11")), "asks for more than"),
        (cold(argon2id=ARGON2ID.replace("p=1", "p=5")), "asks for more than"),
        (cold(argon2id=ARGON2ID.replace("m=19456", "m=9999999")), "asks for more than"),
        (cold(argon2id=ARGON2ID.replace("t=2", "t=0")), "asks for less than"),
        (cold(argon2id=ARGON2ID.replace("m=19456", "m=7")), "asks for less than"),
    ],
)
def test_what_is_wrong_is_said(content: bytes, says: str) -> None:
    assert says in fault(content)


def test_a_short_token_is_taken_where_that_was_asked_for() -> None:
    assert parsed(line(token="short"), weak=True).token == "short"
    assert parsed(line(token="short", locator="sho" + "r"), weak=True).locator == "shor"


def said_of(content: bytes) -> str | None:
    """Return what is wrong with a line; None: nothing."""
    try:
        parsed(content)
    except LineError as error:
        return str(error)
    return None


CANARY = "c4n4ry-c4n4ry-c4n4ry"


@pytest.mark.parametrize(
    "member", ["tenantId", "name", "permission", "expiresAt", "token", "argon2id", "locator"]
)
@pytest.mark.parametrize(
    "value", [CANARY, [CANARY], {CANARY: CANARY}, f"{CANARY} {CANARY}", f"gw_live_{CANARY}"]
)
def test_no_fault_repeats_what_stands_in_the_line(member: str, value: Any) -> None:
    for content in (line(**{member: value}), cold(**{member: value}), line(**{CANARY: value})):
        assert CANARY not in (said_of(content) or "")


@given(st.binary(max_size=200))
def test_whatever_a_line_holds_it_is_read_or_refused(content: bytes) -> None:
    assert said_of(content) != ""


@given(st.dictionaries(st.sampled_from(["token", "argon2id", "locator", "name"]), st.text(max_size=40)))
def test_whatever_its_members_say_it_is_read_or_refused(changes: dict[str, str]) -> None:
    try:
        found = parsed(line(**changes))
    except LineError:
        return
    assert (found.token is None) != (found.verifier is None)
    assert found.token is not None or found.locator is not None
    assert found.locator is None or found.token is None or found.token.startswith(found.locator)
