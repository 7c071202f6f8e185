"""Read a request's content and query into the structs that an endpoint declares.

Imports aiohttp and its own room.

Promise: what is unknown, repeated or of another type is refused by name; nothing is guessed.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from gateway.control.http.faults import Fault, FaultError, invalid, not_json
from gateway.control.http.strict_json import read_json, shown_name
from gateway.control.http.wording import found_wrong

LARGEST_BODY_BYTES = 65536
BODY_TIMEOUT_S = 30.0
_JSON_TYPES = frozenset({"application/json", "application/json-patch+json"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[T], *, optional: bool) -> T:
    """Return the request's content as ``kind``; absent content is an empty object where ``optional``.

    Raises FaultError: 400, 408, 413, 415.
    """
    content = await _content(request)
    if not content and optional:
        return msgspec.convert({}, kind)
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
        raise FaultError(found_wrong(str(error), kind, value)) from None


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
