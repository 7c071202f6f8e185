"""Read a request's content and query into the structs that an endpoint declares.

Imports aiohttp and its own room.

Promise: what is unknown, repeated or of another type is refused by name; nothing is guessed.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from gateway.control.http.faults import Fault, FaultError, invalid, not_json
from gateway.control.http.strict_json import MOST_DIGITS, read_json, shown_name
from gateway.control.http.wording import found_wrong

LARGEST_BODY_BYTES = 65536
BODY_TIMEOUT_S = 30.0
MOST_PARAMETERS = 50
_JSON_TYPES = frozenset({"application/json", "application/json-patch+json"})
# What `surrogateescape` makes of bytes that are no UTF-8.
_ESCAPED = re.compile(r"[\udc80-\udcff]")
_NO_BYTE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


async def read_body(request: web.Request, kind: type[T], *, optional: bool) -> T:
    """Return the request's content as ``kind``; absent content is an empty object where ``optional``.

    Raises FaultError: 400, 408, 413, 415.
    """
    content = await _content(request)
    if not content and optional:
        return converted({}, kind)
    _check_media_type(request)
    if not content:
        raise FaultError(not_json("is missing: send a JSON document"))
    return converted(read_json(content), kind)


def read_query(request: web.Request, kind: type[S]) -> S:
    """Return the request's query as ``kind``, a struct of texts and numbers. Raises FaultError (400)."""
    said: dict[str, str] = {}
    for name, value in _parameters(request):
        if name in said:
            raise FaultError(invalid(shown_name(name), "is given more than once"))
        if _ESCAPED.search(name + value):
            raise FaultError(invalid(shown_name(name), "must be UTF-8, percent-encoded"))
        if _CONTROL.search(value):
            raise FaultError(invalid(shown_name(name), "must not hold control characters"))
        said[name] = value
    wanted = converted(said, kind, strict=False)
    for field in msgspec.structs.fields(kind):
        raw, value = said.get(field.encode_name), getattr(wanted, field.name)
        # What a lenient reader takes for a number: 1e1, 10.0; and what takes long to write out again.
        if raw is not None and type(value) is int and (len(raw) > MOST_DIGITS or str(value) != raw):
            raise FaultError(invalid(field.encode_name, "must be a whole number"))
    return wanted


def converted(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """Return a JSON value as ``kind``. Raises FaultError (400) that names the member."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise FaultError(found_wrong(str(error), kind, value)) from None


def _parameters(request: web.Request) -> list[tuple[str, str]]:
    """Return the parameters of a query as they were sent; bytes that are no UTF-8 as lone surrogates."""
    query = request.raw_path.partition("#")[0].partition("?")[2]
    try:
        if _NO_BYTE.search(query):
            raise ValueError
        return parse_qsl(
            query, keep_blank_values=True, errors="surrogateescape", max_num_fields=MOST_PARAMETERS
        )
    except ValueError:
        detail = f"The query must be at most {MOST_PARAMETERS} parameters in UTF-8, percent-encoded."
        raise FaultError(Fault(400, "invalid_request", "Invalid request", detail)) from None


async def _content(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        detail = "The content did not arrive in time."
        raise FaultError(Fault(408, "request_timeout", "Request timeout", detail)) from None
    except (web.RequestPayloadError, ConnectionError):
        # It ended early, or its framing is broken: no reader of it can go on.
        raise FaultError(not_json("did not arrive whole")) from None
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
