"""Read a configuration file strictly: YAML's shapes, its scalars as text, every value with its line.

YAML 1.1 turns ``12:30:45`` into a number and ``on`` into a boolean, and PyYAML keeps the last of
two equal members. So the tree is built here from parser events: scalars stay text (the setting
that they are for gives them a meaning), and duplicates, aliases, tags and deep nests are refused.
Imports ``settings`` only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import msgspec
import yaml

from gateway.config.settings import ConfigError

MAXIMUM_BYTES = 1 << 20
MAXIMUM_DEPTH = 12
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})

Tree: TypeAlias = "str | list[Node] | dict[str, Node] | None"


class Node(msgspec.Struct, frozen=True):
    """A value and who said it: ``origin`` is ``line 3 of F``, a variable's name or a flag."""

    value: Tree
    origin: str


def read_document(path: str) -> dict[str, Node]:
    """Return the members of the YAML file at ``path``; raises ConfigError (missing, malformed, too large)."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error.strerror or error}") from None
    if len(content) > MAXIMUM_BYTES:
        raise ConfigError(f"configuration file {path} is larger than {MAXIMUM_BYTES} bytes")
    return parse_document(content, path)


def parse_document(content: bytes, name: str) -> dict[str, Node]:
    """Return the members of a YAML text; ``name`` is what errors call it."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"line {line} of {name} is not UTF-8") from None
    try:
        node = _Reader(text, name).document()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_malformed(error, text, name)) from None
    except yaml.YAMLError:  # the reader's own, about characters: it has no line to tell
        raise ConfigError(f"{name} holds a character that YAML does not allow") from None
    if node.value is None:
        return {}
    if not isinstance(node.value, dict):
        raise ConfigError(f"{node.origin}: a configuration is made of members such as `listen: 0.0.0.0:8080`")
    return node.value


def _malformed(error: yaml.MarkedYAMLError, text: str, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    last = max(len(text.splitlines()), 1)  # what breaks off is marked one line further
    where = f"line {min(mark.line + 1, last)} of {name}" if mark else name
    return f"{where} is not valid YAML: {error.problem or error.context}"


class _Reader:
    """Builds the tree from the parser's events, one document."""

    def __init__(self, text: str, name: str) -> None:
        self._events = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._name = name

    def document(self) -> Node:
        next(self._events)  # the stream's start
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return Node(None, self._at(event))
        root = self._node(next(self._events), 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise ConfigError(f"{self._at(event)} begins a second document: a configuration is one")
        return root

    def _at(self, event: yaml.Event) -> str:
        return f"line {event.start_mark.line + 1 if event.start_mark else 1} of {self._name}"

    def _node(self, event: yaml.Event, depth: int) -> Node:
        at = self._at(event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ConfigError(f"{at}: anchors and aliases are not read here; write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise ConfigError(f"{at}: tags are not read here; write the value without `{tag}`")
        if depth > MAXIMUM_DEPTH:
            raise ConfigError(f"{at}: nested deeper than {MAXIMUM_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            plain_null = event.implicit[0] and event.value in _NULLS
            return Node(None if plain_null else event.value, at)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._items(depth), at)
        return Node(self._members(depth), at)

    def _items(self, depth: int) -> list[Node]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _members(self, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key.value, str) or not key.value.isprintable():
                raise ConfigError(f"{key.origin}: a member's name must be a word")
            if key.value in members:
                raise ConfigError(
                    f"{key.origin} says `{key.value}` again, after {members[key.value].origin}: keep one"
                )
            value = self._node(next(self._events), depth + 1)
            members[key.value] = Node(value.value, key.origin)  # the line where the name stands
        return members
