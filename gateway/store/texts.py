"""Read the SQL that the engines share: the named queries, and the numbered migrations.

Imports ``store`` only.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import NamedTuple

from gateway.store.steps import Query

_NAME = re.compile(r"^-- name: (\w+)(?: \[(\w+)\])?\n", re.MULTILINE)
_MARK = re.compile(r"-- \[(\w+)\]\n")
_MIGRATION = re.compile(r"([0-9]{4})_\w+\.sql")


class Migration(NamedTuple):
    """One step of the schema: its number, the file's name, its statements in order."""

    version: int
    name: str
    statements: tuple[str, ...]


@functools.cache
def queries(engine: str) -> dict[str, str]:
    """Return the named texts for one engine; a text marked with the engine wins over the common one."""
    pieces = _NAME.split(_read("queries.sql"))[1:] + _NAME.split(_read(f"{engine}.sql"))[1:]
    found: dict[str, str] = {}
    for name, marked, text in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        if marked == engine or (not marked and name not in found):
            found[name] = text.strip()
    return found


def text_of(query: Query, engine: str) -> str:
    """Return the text that a query runs on an engine; empty: there is nothing to do."""
    text = _ddl(query.name, engine) if query.literal else queries(engine)[query.name]
    for place, words in query.fill:
        text = text.replace(place, words)
    return text


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Return every migration in order of their numbers."""
    names = sorted(
        entry.name
        for entry in resources.files("gateway.store").joinpath("migrations").iterdir()
        if _MIGRATION.fullmatch(entry.name)
    )
    return tuple(
        Migration(int(name[:4]), name.removesuffix(".sql"), _statements(_read(f"migrations/{name}")))
        for name in names
    )


def _ddl(statement: str, engine: str) -> str:
    """Return a migration's statement as an engine takes it; empty if it is another's."""
    marked = _MARK.match(statement)
    if marked and marked[1] != engine:
        return ""
    # SQLite compares texts byte by byte; PostgreSQL would by the language of whoever made the database.
    if engine == "postgres" and statement.startswith(("CREATE TABLE", "ALTER TABLE")):
        return re.sub(r"\bTEXT\b", 'TEXT COLLATE "C"', statement)
    return statement


def _read(path: str) -> str:
    return resources.files("gateway.store").joinpath(path).read_text("utf-8")


def _statements(text: str) -> tuple[str, ...]:
    # A statement ends with a semicolon at the end of a line; no text here holds one elsewhere.
    # One that is for one engine alone is marked with its name: "-- [postgres]".
    bare = re.sub(r"^--(?! \[).*\n", "", text, flags=re.MULTILINE)
    return tuple(piece.strip() for piece in bare.split(";\n") if piece.strip())
