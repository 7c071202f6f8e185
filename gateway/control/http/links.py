"""Links of OpenAPI: what made something says which operations take its id. Pure; imports its own plane."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.control.http.endpoints import AnyEndpoint
from gateway.control.http.schemas import Schema

_BELOW = re.compile(r"/\{(\w+)\}[^{}]*")
_PARAMETER = re.compile(r"\{(\w+)\}")


def links_of(endpoint: AnyEndpoint, status: int, endpoints: Sequence[AnyEndpoint]) -> Schema:
    """Return the links of an answer: from a thing that was made to the operations on it."""
    if status != 201:
        return {}
    members = set(_members(endpoint.answers[status]))
    links = {}
    for other in endpoints:
        below = _BELOW.fullmatch(other.path.removeprefix(endpoint.path))
        member = below and _naming(below[1], members)
        if below and member and other.path.startswith(endpoint.path):
            above = {name: f"$request.path.{name}" for name in _PARAMETER.findall(endpoint.path)}
            parameters = above | {below[1]: f"$response.body#/{member}"}
            links[other.operation] = {"operationId": other.operation, "parameters": parameters}
    return links


def _naming(parameter: str, members: set[str]) -> str | None:
    """Return the member that holds what a parameter of the path wants."""
    return next((name for name in (parameter, "id") if name in members), None)


def _members(kind: Any) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from (field.encode_name for field in msgspec.structs.fields(kind))
