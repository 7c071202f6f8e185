"""Say what msgspec found wrong in words for people, by the member's name.

Imports its own room.

Promise: no value that was sent is repeated, but for the names that it gives to members.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import inspect

from gateway.control.http.faults import Fault, invalid
from gateway.control.http.strict_json import shown_name

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
# The last one: a member's name may look like a place itself.
_AT = re.compile(r"(.*) - at `(?:key in )?\$([^`]*)`", re.DOTALL)
_NO_CHOICE = re.compile(r"Invalid (?:enum )?value .*", re.DOTALL)
_BOUND = re.compile(r"Expected `(\w+)` (of length )?(<=|>=) (-?[0-9.]+)")
_ORDERS = {"<=": "most", ">=": "least"}
_STEP = re.compile(r"\[[0-9]+\]|[^.\[\]]+")
_OPERATION = re.compile(r"\[([0-9]+)\]")


def found_wrong(message: str, kind: Any, value: Any) -> Fault:
    """Return what msgspec found wrong as it read ``value`` as ``kind``: the member, never what it held."""
    at = _AT.fullmatch(message)
    place = shown_name(at[2].lstrip(".")) if at and at[2] else ""
    text = at[1] if at else message
    if unknown := _UNKNOWN.fullmatch(text):
        return invalid(_joined(place, shown_name(unknown[1])), "is not a member that is known here")
    if missing := _MISSING.fullmatch(text):
        return invalid(_joined(place, missing[1]), "is missing")
    if _NO_CHOICE.fullmatch(text):
        reason = f"must be one of {', '.join(_choices(kind, place))}"
    else:
        reason = _bound(text) or f"is wrong: {text[:1].lower()}{text[1:]}".replace("`", "")
    return invalid(place or "content", f"{_aim(value, place)}{reason}")


def _aim(value: Any, place: str) -> str:
    """Return what an operation of a JSON Patch is for, which says more than its place in the array."""
    at = _OPERATION.match(place)
    operation = value[int(at[1])] if at and isinstance(value, list) else None
    path = operation.get("path") if isinstance(operation, dict) else None
    return f"for {shown_name(path)} " if isinstance(path, str) else ""


def _bound(text: str) -> str | None:
    """Return what msgspec found out of bounds, in the words of the domain service."""
    if text.startswith("Expected `str` matching regex"):
        return "does not have the form that /openapi.json describes"
    found = _BOUND.fullmatch(text)
    if found is None:
        return None
    kind, of_length, order, bound = found.groups()
    if not of_length:
        return f"must be at {_ORDERS[order]} {bound}"
    if order == ">=" and bound == "1":
        return "must not be empty"
    return f"must have at {_ORDERS[order]} {bound} {'characters' if kind == 'str' else 'items'}"


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _choices(kind: Any, place: str) -> list[str]:
    """Return the values that what stands at ``place`` may have: a literal's, or the tags of a union."""
    found: Sequence[inspect.Type] = [inspect.type_info(kind)]
    for step in _STEP.findall(place):
        found = [below for each in found for below in _below(each, step)]
    flat = [each for kind_ in found for each in _members_of(kind_)]
    return list(dict.fromkeys(str(v) for t in flat if isinstance(t, inspect.LiteralType) for v in t.values))


def _below(kind: inspect.Type, step: str) -> list[inspect.Type]:
    """Return the types that an item, or the member ``step``, of ``kind`` may have."""
    below: list[inspect.Type] = []
    for each in _members_of(kind):
        if isinstance(each, inspect.ListType):
            below.append(each.item_type)
        elif isinstance(each, inspect.StructType):
            below += [field.type for field in each.fields if field.encode_name == step]
            if each.tag_field == step:
                below.append(inspect.LiteralType((each.tag,)))
    return below


def _members_of(kind: inspect.Type) -> Sequence[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _members_of(kind.type)
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)
