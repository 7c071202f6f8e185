"""JSON read strictly (RFC 8259, and I-JSON's rules of RFC 7493): what two readers could differ on is refused.

Pure; the standard library's reader does the work, with its leniencies closed. Imports nothing of
the project but faults.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from gateway.control.http.faults import FaultError, invalid, not_json

DEEPEST = 32
"""No document of the API is nested deeper than four."""
MOST_DIGITS = 20
_LONGEST_SHOWN = 60
_SURROGATE = re.compile("[\ud800-\udfff]")
# A string that does not end runs to the end: begun anew at each quote, that would take quadratic time.
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


def read_json(content: bytes) -> Any:
    """Return the value of ``content``. Raises FaultError (400)."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise FaultError(not_json("is not UTF-8")) from None
    if _depth(content) > DEEPEST:
        raise FaultError(not_json(f"is nested deeper than {DEEPEST} levels"))
    try:
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise FaultError(
            not_json(f"is not valid JSON at line {error.lineno}, column {error.colno}")
        ) from None
    _check_texts(value, "")
    return value


def shown_name(name: str) -> str:
    """Return a member's name as it may be told: short, and nothing but visible ASCII."""
    safe = "".join(c if " " < c < "\x7f" else "?" for c in name[:_LONGEST_SHOWN])
    return safe + ("…" if len(name) > _LONGEST_SHOWN else "") or '""'


def _depth(content: bytes) -> int:
    """Return how deep brackets nest outside strings; counted first, so that no reader recurses in vain."""
    depth = deepest = 0
    for match in _TOKENS.finditer(content):
        mark = match[0]
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


def _check_texts(value: Any, place: str) -> None:
    """Raise FaultError for a text that is not one everywhere, by the member that holds it."""
    if isinstance(value, str):
        # Not every store keeps a NUL; and half a surrogate pair is no character (RFC 7493 §2.1).
        if "\x00" in value or _SURROGATE.search(value):
            raise FaultError(invalid(place or "content", "must not hold NUL or half a surrogate pair"))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _check_texts(each, f"{place}[{index}]")
    elif isinstance(value, dict):
        for name, each in value.items():
            below = f"{place}.{shown_name(name)}" if place else shown_name(name)
            _check_texts(name, below)
            _check_texts(each, below)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise FaultError(invalid(shown_name(name), "stands there more than once"))
        members[name] = value
    return members


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise FaultError(not_json(f"has a number of more than {MOST_DIGITS} digits"))
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise FaultError(not_json("has a number that is out of range"))
    return value


def _no_constant(name: str) -> Any:
    raise FaultError(not_json(f"has {name}, which is no JSON"))
