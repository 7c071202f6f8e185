"""JSON Schemas of the structs that endpoints declare, as an OpenAPI document holds them.

msgspec writes the schemas; here they get names and words for readers. Pure.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

REF = "#/components/schemas/{name}"
Schema = dict[str, Any]

_ATTRIBUTES = re.compile(r"\n+Attributes:\n(.*?)(?=\n\S|\Z)", re.DOTALL)
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
# What only readers of the code can use: exceptions, and the document that a struct follows.
_RAISES = re.compile(r"\s*Raises [^.]*\.(?=\s|\Z)")
_DOCUMENT = re.compile(r"\A``\d{3}``: (\w)")


class Schemas:
    """The schemas of some types: one that refers to the components, and the components."""

    def __init__(self, types: Iterable[Any]) -> None:
        wanted = list(types)
        schemas, components = msgspec.json.schema_components(wanted, ref_template=REF)
        names = {name: _short(name) for name in components}
        # By id: a type such as ``list[Key]`` is made anew wherever it is written.
        self._of: dict[int, Schema] = {
            id(kind): _renamed(schema, names) for kind, schema in zip(wanted, schemas, strict=True)
        }
        self._types = wanted
        self.components = {
            names[name]: _described(_renamed(schema, names)) for name, schema in sorted(components.items())
        }

    def of(self, kind: Any) -> Schema:
        """Return the schema of one of the types."""
        return self._of[id(kind)]


def parameters_of(query: type[msgspec.Struct]) -> list[Schema]:
    """Return the parameters that a struct of query parameters describes."""
    (_,), components = msgspec.json.schema_components([query], ref_template=REF)
    schema = _described(components[query.__name__])
    required = set(schema["required"])
    return [
        _parameter(name, below, required=name in required) for name, below in schema["properties"].items()
    ]


def words(docstring: str | None) -> str:
    """Return what a docstring tells somebody who calls the API."""
    text = _RAISES.sub("", inspect.cleandoc(docstring or ""))
    return _DOCUMENT.sub(lambda found: found[1].upper(), _ATTRIBUTES.sub("", text)).strip()


def _parameter(name: str, schema: Schema, *, required: bool) -> Schema:
    schema = _without_null(schema)
    described = {"name": name, "in": "query", "required": required, "schema": schema}
    if "description" in schema:
        described["description"] = schema.pop("description")
    return described


def _without_null(schema: Schema) -> Schema:
    """Return the schema of what may be left out: that is its only way to be null in a query."""
    schema = dict(schema)
    if schema.get("default", "") is None:
        del schema["default"]
    options = [option for option in schema.pop("anyOf", ()) if option != {"type": "null"}]
    if len(options) > 1:
        schema["anyOf"] = options
    elif options:
        schema = {**options[0], **schema}
    return schema


def _described(schema: Schema) -> Schema:
    """Return a component's schema with its struct's docstring spread over its members."""
    schema = {key: value for key, value in schema.items() if key != "title"}
    told = inspect.cleandoc(schema.get("description", ""))
    if section := _ATTRIBUTES.search(told):
        members = {_joined(name): text for name, text in _ATTRIBUTE.findall(section[1])}
        for name, below in schema["properties"].items():
            if text := members.get(_joined(name)):
                below.setdefault("description", " ".join(text.split()))
    return {**schema, "description": words(told)} if told else schema


def _joined(name: str) -> str:
    """Return a member's name as code and JSON both spell it: ``key_id`` and ``keyId`` are one."""
    return name.replace("_", "").lower()


def _short(name: str) -> str:
    """Return a component's name; of several structs of one name, each with its dialect's before it."""
    if "." not in name:
        return name
    module, _, own = name.rpartition(".")
    dialect = module.rpartition(".")[2].removesuffix("_shapes")
    return "".join(part.title() for part in dialect.split("_")) + own


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    if isinstance(schema, list):
        return [_renamed(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    renamed = {key: _renamed(value, names) for key, value in schema.items()}
    if isinstance(renamed.get("$ref"), str):
        renamed["$ref"] = REF.format(name=names[renamed["$ref"].rpartition("/")[2]])
    return renamed
