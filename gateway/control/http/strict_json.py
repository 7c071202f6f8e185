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
_NUL = re.compile(r"(?<!\\)(?:\\\\)*+\\u0000")
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
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise FaultError(not_json("has a surrogate without its other half")) from None
    # Not every store keeps it in a text; and a text that stops being one there is nobody's name.
    if _NUL.search(text):
        raise FaultError(not_json("has a NUL character in a text"))
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
