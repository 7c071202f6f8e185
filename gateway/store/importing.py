"""What an import asks a store: which of its keys are there already. Imports ``store`` only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

import msgspec

from gateway.store.steps import Query, Row, Steps

V = TypeVar("V")
PLACES = 250
"""Values that are asked for at a time; one text for all is prepared once."""


class Present(msgspec.Struct, frozen=True):
    """What an import compares of a key that is there already; its ``repr`` keeps the verifier."""

    id: str
    tenant_id: str
    name: str
    role: str
    expires_at: int
    verifier: str

    def __repr__(self) -> str:
        return f"Present({self.id!r})"


def keys_present(
    digests: Iterable[bytes], locators: Iterable[str]
) -> Steps[tuple[dict[bytes, Present], dict[str, Present]]]:
    """Return the keys that have one of these digests, and those that have one of these locators."""
    by_digest: dict[bytes, Present] = {}
    for portion in _portions(digests):
        for digest, older, *facts in (yield _asked("keys_with_digests", portion)):
            for each in (digest, older):
                if each is not None:
                    by_digest[bytes(each)] = Present(*facts)
    by_locator: dict[str, Present] = {}
    for names in _portions(locators):
        for locator, *facts in (yield _asked("keys_with_locators", names)):
            by_locator[locator] = Present(*facts)
    return by_digest, by_locator


def locator_lengths() -> Steps[set[int]]:
    """Return how long the locators in the store are."""
    rows: list[Row] = yield Query("locator_lengths")
    return {row[0] for row in rows}


def _portions(values: Iterable[V]) -> Iterable[Sequence[V]]:
    rest = iter(values)
    while portion := list(islice(rest, PLACES)):
        # Filled up with what was asked already, so that the text stays the same.
        yield portion + [portion[0]] * (PLACES - len(portion))


def _asked(name: str, values: Sequence[object]) -> Query:
    places = ", ".join(f"${n}" for n in range(1, PLACES + 1))
    return Query(name, values, fill=(("/*places*/", places),))
