"""How a piece of work on a store is written once for every engine: as a generator of queries.

It yields the queries it needs and is sent their rows; its return value is the transaction's. The
engine decides how to wait, and rolls back when one raises. Imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")
Row = tuple[Any, ...]


class Query(NamedTuple):
    """A named text and its parameters; with ``many`` it runs once for each row of them.

    ``literal``: ``name`` is the text itself (a migration's statement). ``fill`` puts words of the
    program's own, never of a caller's, in places of the text.
    """

    name: str
    args: Sequence[Any] = ()
    many: bool = False
    literal: bool = False
    fill: Sequence[tuple[str, str]] = ()


Steps = Generator[Query, list[Row], R]
