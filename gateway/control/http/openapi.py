"""The API's own description, OpenAPI 3.1, made from the endpoints that are served.

Pure but for its route. Imports its own plane.

Promise: what is described is what is served: the same structs validate, and the same list is routed.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from gateway import __version__
from gateway.control.http.authentication import SAFE_METHODS
from gateway.control.http.endpoints import AnyEndpoint
from gateway.control.http.faults import SHAPES, Shape
from gateway.control.http.links import links_of
from gateway.control.http.openapi_words import (
    ABOUT,
    FAULT_WORDS,
    HEADERS,
    PATH_WORDS,
    TAGS,
    security_schemes,
)
from gateway.control.http.schemas import Schema, Schemas, parameters_of, words

PATH = "/openapi.json"
VERSION = "3.1.0"

_OF_FAULTS = {401: {"WWW-Authenticate"}, 429: {"Retry-After"}, 503: {"Retry-After"}}


def describe(endpoints: Sequence[AnyEndpoint], *, cookie: str, server: str | None = None) -> Schema:
    """Return the description of ``endpoints`` as a JSON object.

    ``cookie`` is the name of the one that carries a login; ``server`` where callers reach the API;
    None: where the description was found.
    """
    schemas = Schemas(
        [kind for endpoint in endpoints for kind in _types_of(endpoint)]
        + [kind for kind, _ in SHAPES.values()]
    )
    paths: dict[str, Schema] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint, endpoints, schemas
        )
    return {
        "openapi": VERSION,
        "info": {"title": "gateway", "version": __version__, "description": ABOUT},
        "servers": _servers(server),
        "tags": [{"name": tag, "description": TAGS.get(tag, "")} for tag in _tags(endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": _fault_responses(endpoints, schemas),
            "headers": {
                name: {"description": told, "schema": schema, "required": True}
                for name, (told, schema) in HEADERS.items()
            },
            "securitySchemes": security_schemes(cookie),
        },
    }


def description_route(description: Schema) -> web.RouteDef:
    """Return the route of ``/openapi.json``, which needs no credential."""
    content = msgspec.json.encode(description)
    # RFC 9110 §8.8.3: a strong validator; whoever kept the document asks whether it is the same still.
    tag = hashlib.sha256(content).hexdigest()[:32]

    async def show(request: web.Request) -> web.Response:
        headers = {"ETag": f'"{tag}"', "Cache-Control": "public, no-cache"}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type="application/json", headers=headers)

    return web.get(PATH, show)


def _servers(server: str | None) -> list[Schema]:
    """Return where the API is: where callers reach it, and where the description was found."""
    here = {"url": "/", "description": "Where this description was found."}
    return [here] if server is None else [{"url": server}, here]


def _types_of(endpoint: AnyEndpoint) -> Iterable[Any]:
    if endpoint.body is not None:
        yield endpoint.body
    yield from (kind for kind in endpoint.answers.values() if kind not in (None, str))


def _tags(endpoints: Iterable[AnyEndpoint]) -> list[str]:
    return list(dict.fromkeys(endpoint.tag for endpoint in endpoints))


def _operation(endpoint: AnyEndpoint, endpoints: Sequence[AnyEndpoint], schemas: Schemas) -> Schema:
    operation: Schema = {
        "operationId": endpoint.operation,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": words(inspect.getdoc(endpoint.handler)),
        "security": _security(endpoint),
        "parameters": [*_path_parameters(endpoint.path), *parameters_of(endpoint.query)],
        "responses": _responses(endpoint, endpoints, schemas),
    }
    if endpoint.body is not None:
        operation["requestBody"] = _request_body(endpoint, schemas)
    return operation


def _path_parameters(path: str) -> list[Schema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_WORDS.get(name, ""),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _request_body(endpoint: AnyEndpoint, schemas: Schemas) -> Schema:
    content = {"schema": schemas.of(endpoint.body)}
    kinds = ["application/json"]
    if endpoint.method == "PATCH" and content["schema"].get("type") == "array":
        kinds.append("application/json-patch+json")  # RFC 6902 §6
    return {"required": not endpoint.body_optional, "content": dict.fromkeys(kinds, content)}


def _responses(endpoint: AnyEndpoint, endpoints: Sequence[AnyEndpoint], schemas: Schemas) -> Schema:
    told = {str(status): _answer(endpoint, status, schemas) for status in endpoint.answers}
    for status in endpoint.answers:
        if links := links_of(endpoint, status, endpoints):
            told[str(status)]["links"] = links
    faults = {
        str(status): {"$ref": f"#/components/responses/{_fault_name(status, _shape(endpoint, status))}"}
        for status in _faults(endpoint)
    }
    return {**told, **faults}


def _shape(endpoint: AnyEndpoint, status: int) -> Shape:
    """Return how a fault is told; what no endpoint got to see has one shape for all."""
    return "problem" if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else endpoint.shape


def _answer(endpoint: AnyEndpoint, status: int, schemas: Schemas) -> Schema:
    kind = endpoint.answers[status]
    headers: dict[str, Schema] = _header_refs({"X-Request-Id"})
    if not endpoint.open:
        headers |= _header_refs({"RateLimit", "RateLimit-Policy"})
    for name, text in endpoint.headers.items():
        headers[name] = {"description": text, "schema": {"type": "string"}}
    answer: Schema = {"description": HTTPStatus(status).phrase, "headers": headers}
    if kind is str:
        answer["content"] = {"text/plain": {"schema": {"type": "string"}}}
    elif kind is not None:
        answer["content"] = {"application/json": {"schema": schemas.of(kind)}}
    return answer


def _faults(endpoint: AnyEndpoint) -> list[int]:
    """Return the faults that an endpoint may tell: those it says, and those of the listener itself."""
    faults = {400, 431, 500, 503, *endpoint.faults}
    if not endpoint.open:
        faults |= {401, 403, 429}
    if endpoint.body is not None:
        faults |= {408, 413, 415}
    return sorted(faults)


def _fault_responses(endpoints: Iterable[AnyEndpoint], schemas: Schemas) -> Schema:
    used = {(status, _shape(endpoint, status)) for endpoint in endpoints for status in _faults(endpoint)}
    return {_fault_name(status, shape): _fault(status, shape, schemas) for status, shape in sorted(used)}


def _fault_name(status: int, shape: Shape) -> str:
    return f"{shape}{status}"


def _fault(status: int, shape: Shape, schemas: Schemas) -> Schema:
    kind, content_type = SHAPES[shape]
    return {
        "description": FAULT_WORDS[status],
        "headers": _header_refs({"X-Request-Id"} | _OF_FAULTS.get(status, set())),
        "content": {content_type: {"schema": schemas.of(kind)}},
    }


def _header_refs(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in sorted(names)}


def _security(endpoint: AnyEndpoint) -> list[dict[str, list[str]]]:
    if endpoint.basic:
        return [{"password": []}]
    if endpoint.open:
        return []
    with_cookie: dict[str, list[str]] = (
        {"cookie": []} if endpoint.method in SAFE_METHODS else {"cookie": [], "csrf": []}
    )
    return [{"apiKey": []}, {"bearer": []}, with_cookie]
