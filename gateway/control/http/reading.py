"""Read a request's content and query into the structs that an endpoint declares.

Imports aiohttp and its own room.

Promise: what is unknown, repeated or of another type is refused by name; nothing is guessed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import inspect

from gateway.control.http.faults import Fault, FaultError, invalid, not_json
from gateway.control.http.strict_json import read_json, shown_name

LARGEST_BODY_BYTES = 65536
BODY_TIMEOUT_S = 30.0
_JSON_TYPES = frozenset({"application/json", "application/json-patch+json"})
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_AT = re.compile(r" - at `(key in )?\$(.*)`$", re.DOTALL)
_NO_CHOICE = re.compile(r"Invalid (?:enum )?value .*", re.DOTALL)
_BOUND = re.compile(r"Expected `(\w+)` (of length )?(<=|>=) (-?[0-9.]+)")
_ORDERS = {"<=": "most", ">=": "least"}
_STEP = re.compile(r"\[[0-9]+\]|[^.\[\]]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[T], *, optional: bool) -> T:
    """Return the request's content as ``kind``; absent content is an empty document where ``optional``.

    Raises FaultError: 400, 408, 413, 415.
    """
    content = await _content(request)
    if not content and optional:
        return msgspec.convert([] if isinstance(inspect.type_info(kind), inspect.ListType) else {}, kind)
    _check_media_type(request)
    if not content:
        raise FaultError(not_json("is missing: send a JSON document"))
    return converted(read_json(content), kind)


def read_query(request: web.Request, kind: type[S]) -> S:
    """Return the request's query as ``kind``, a struct of texts and numbers. Raises FaultError (400)."""
    said: dict[str, str] = {}
    for name, value in request.query.items():
        if name in said:
            raise FaultError(invalid(shown_name(name), "is given more than once"))
        if _CONTROL.search(value):
            raise FaultError(invalid(shown_name(name), "must not hold control characters"))
        said[name] = value
    wanted = converted(said, kind, strict=False)
    for field in msgspec.structs.fields(kind):
        raw, value = said.get(field.encode_name), getattr(wanted, field.name)
        # What a lenient reader takes for a number: 1e1, 10.0.
        if raw is not None and type(value) is int and str(value) != raw:
            raise FaultError(invalid(field.encode_name, "must be a whole number"))
    return wanted


def converted(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """Return a JSON value as ``kind``. Raises FaultError (400) that names the member."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise FaultError(_told(str(error), kind)) from None


async def _content(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        detail = "The content did not arrive in time."
        raise FaultError(Fault(408, "request_timeout", "Request timeout", detail)) from None
    except web.HTTPRequestEntityTooLarge:
        detail = f"The content is larger than {LARGEST_BODY_BYTES} bytes."
        raise FaultError(Fault(413, "body_too_large", "Content too large", detail)) from None


def _check_media_type(request: web.Request) -> None:
    charset = request.charset
    well = (
        request.content_type in _JSON_TYPES
        and (charset is None or charset.lower() in {"utf-8", "utf8"})
        and request.headers.get("Content-Encoding", "identity").lower() == "identity"
    )
    if not well:
        detail = "Send the content as application/json, in UTF-8 and without a content coding."
        raise FaultError(Fault(415, "unsupported_media_type", "Unsupported media type", detail))


def _told(message: str, kind: Any) -> Fault:
    """Return what msgspec found wrong, by the member's name and without the value."""
    at = _AT.search(message)
    place = at[2].lstrip(".") if at else ""
    text = message[: at.start()] if at else message
    if unknown := _UNKNOWN.fullmatch(text):
        return invalid(_joined(place, shown_name(unknown[1])), "is not a member that is known here")
    if missing := _MISSING.fullmatch(text):
        return invalid(_joined(place, missing[1]), "is missing")
    if _NO_CHOICE.fullmatch(text):
        return invalid(place or "content", f"must be one of {', '.join(_choices(kind, place))}")
    return invalid(
        place or "content", _bound(text) or f"is wrong: {text[:1].lower()}{text[1:]}".replace("`", "")
    )


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
