"""Run the engines' shared operations on a SQLite connection. Imports ``store`` only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, TypeVar

from gateway.store.steps import Query, Row, Steps
from gateway.store.texts import queries, text_of

R = TypeVar("R")


def drive(connection: sqlite3.Connection, begin: str | None, steps: Steps[R]) -> R:
    """Run an operation to its end in one transaction, which ``begin`` opens.

    Without ``begin`` the caller's transaction is used. Whatever is raised rolls it back.
    """
    if begin is None:
        return _run(connection, steps)
    connection.execute(begin)
    try:
        result = _run(connection, steps)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return result


def schema_version(connection: sqlite3.Connection) -> int | None:
    """Return the schema's number, 0 for an empty database, None for one that is not ours."""
    texts = queries("sqlite")
    tables = {row[0] for row in connection.execute(texts["table_names"])}
    if "schema_migrations" in tables:
        return int(connection.execute(texts["schema_version"]).fetchone()[0])
    return None if tables else 0


def bound(args: Sequence[Any]) -> dict[str, Any]:
    """Return positional parameters as SQLite names them: ``$1`` is the parameter called 1."""
    return {str(place): value for place, value in enumerate(args, 1)}


def _run(connection: sqlite3.Connection, steps: Steps[R]) -> R:
    rows: list[Row] | None = None
    while True:
        try:
            query = next(steps) if rows is None else steps.send(rows)
        except StopIteration as end:
            result: R = end.value
            return result
        rows = _execute(connection, query)


def _execute(connection: sqlite3.Connection, query: Query) -> list[Row]:
    text = text_of(query, "sqlite")
    if query.many:
        connection.executemany(text, map(bound, query.args))
        return []
    return connection.execute(text, bound(query.args)).fetchall()
