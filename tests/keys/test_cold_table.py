"""Keys with two digests or none: whatever is read in which order, the table ends as the store has it."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.model import KeyTable
from gateway.keys.table import EntryBuilder, OddEntry, TableWriter
from gateway.store.base import LiveRow
from tests.keys.test_table import a_row

OLD, NEW = "01d01d01", "ae3ae3ae"


def cold_row(name: str = "1", **fields: object) -> LiveRow:
    return a_row(**({"digest": None, "id": name, "locator": f"loc-{name}", "verifier": f"$v{name}"} | fields))


def warm_row(name: str = "1", **fields: object) -> LiveRow:
    return a_row(**({"digest": f"old {name}".encode(), "id": name, "pepper_id": OLD} | fields))


def carried_row(name: str = "1", **fields: object) -> LiveRow:
    digests = {"digest": f"new {name}".encode(), "older_digest": f"old {name}".encode()}
    return a_row(**({"id": name, "pepper_id": NEW, "older_pepper_id": OLD} | digests | fields))


def digest_of(row: LiveRow, *pepper_ids: str) -> bytes | None:
    entry = EntryBuilder(pepper_ids)(row)
    return entry.digest if isinstance(entry, OddEntry) else entry[0]


def test_a_key_with_two_digests_is_found_by_the_one_whose_pepper_is_here() -> None:
    row = carried_row()
    assert digest_of(row, NEW, OLD) == digest_of(row, NEW) == b"new 1"
    assert digest_of(row, OLD) == b"old 1"
    assert digest_of(warm_row(), NEW, OLD) == b"old 1"


def test_a_cold_key_is_found_by_its_locator_and_by_no_digest() -> None:
    table = KeyTable()
    writer, build = TableWriter(table), EntryBuilder([NEW])
    writer.apply_keys([build(warm_row())])
    writer.apply_keys([build(cold_row(digest=b"old 1", pepper_id=OLD))])
    assert table.by_digest == {}
    assert [cold.verifier for cold in table.cold.values()] == ["$v1"]
    assert list(table.cold) == [b"loc-1"]
    assert table.cold_lengths == (5,)


def test_the_lengths_of_locators_are_those_of_cold_keys_whose_tokens_begin_with_them() -> None:
    table = KeyTable()
    writer, build = TableWriter(table), EntryBuilder()
    rows = [
        cold_row("a"),
        cold_row("b"),
        cold_row("cc", locator="longer-cc"),
        cold_row("apk_jwt", locator="apk_jwt"),
    ]
    writer.apply_keys([build(row) for row in rows])
    assert table.cold_lengths == (9, 5)
    assert len(table.cold) == 4
    writer.apply_keys(
        [build(a_row(id="cc", locator="longer-cc")), build(a_row(id="apk_jwt", locator="apk_jwt"))]
    )
    assert table.cold_lengths == (5,)
    writer.apply_keys([build(a_row(id="a", digest=b"a", locator="loc-a"))])
    assert table.cold_lengths == (5,)
    writer.apply_keys([build(a_row(id="b", digest=b"b", locator="loc-b"))])
    assert table.cold_lengths == ()


def test_a_key_without_digest_and_verifier_is_found_by_nothing() -> None:
    table = KeyTable()
    writer, build = TableWriter(table), EntryBuilder()
    writer.apply_keys([build(cold_row())])
    version = table.version
    writer.apply_keys([build(cold_row(verifier=""))])
    assert table.cold == {}
    assert table.version > version


async def test_ended_cold_keys_are_forgotten_like_others() -> None:
    table = KeyTable()
    writer, build = TableWriter(table), EntryBuilder()
    writer.apply_keys(
        [build(cold_row("a", expires_at=5)), build(cold_row("b", revoked_at=3)), build(cold_row("c"))]
    )
    assert await writer.sweep_ended(5) == 2
    assert list(table.cold) == [b"loc-c"]


# What may become of a key, step by step: each value of its row as the store has it then.
LIVES = {
    "warm, carried": [warm_row, carried_row],
    "warm, carried, revoked": [warm_row, carried_row, lambda name: carried_row(name, revoked_at=7)],
    "warm, revoked": [warm_row, lambda name: warm_row(name, revoked_at=7)],
    "cold, proven": [cold_row, carried_row],
    "cold, proven, revoked": [cold_row, carried_row, lambda name: carried_row(name, revoked_at=7)],
    "cold, revoked": [cold_row, lambda name: cold_row(name, revoked_at=7)],
    "cold, proven under one": [cold_row, lambda name: warm_row(name), carried_row],
}


def changed(row: LiveRow) -> LiveRow:
    """Return a row as the change log brings it: with its locator."""
    return msgspec.structs.replace(row, locator=f"loc-{row.id}")


@settings(max_examples=300, deadline=None)
@given(st.data())
async def test_whatever_changes_while_everything_is_read_the_table_ends_as_the_store(
    data: st.DataObject,
) -> None:
    here = data.draw(st.sampled_from([(NEW, OLD), (OLD,), (NEW,)]))
    lives = {
        str(n): life
        for n, life in enumerate(data.draw(st.lists(st.sampled_from(list(LIVES)), min_size=1, max_size=4)))
    }
    table = KeyTable()
    writer, build = TableWriter(table), EntryBuilder(here)

    def row(name: str, step: int) -> LiveRow:
        return LIVES[lives[name]][step](name)  # type: ignore[operator]

    def last(name: str) -> int:
        return len(LIVES[lives[name]]) - 1

    # Known before: any earlier state. In the snapshot: that one or a later. In the end: all went on.
    known = {name: data.draw(st.integers(0, last(name))) for name in lives}
    build.load = 1
    writer.begin_load(1)
    writer.apply_loaded([build(row(name, step)) for name, step in known.items()])
    await writer.sweep_unseen(1)
    taken = {name: data.draw(st.integers(known[name], last(name))) for name in lives}
    changes = [(name, step) for name in lives for step in range(taken[name] + 1, last(name) + 1)]
    build.load = 2
    writer.begin_load(2)
    loaded = [("load", name, taken[name]) for name in lives]
    rest: dict[str, list[tuple[str, str, int]]] = {"load": data.draw(st.permutations(loaded))}
    for name, step in changes:
        rest.setdefault(name, []).append(("change", name, step))
    while any(rest.values()):
        kind, name, step = rest[data.draw(st.sampled_from([key for key, left in rest.items() if left]))].pop(
            0
        )
        if kind == "load":
            writer.apply_loaded([build(row(name, step))])
        else:
            writer.apply_keys([build(changed(row(name, step)))])
    await writer.sweep_unseen(2)
    fresh = KeyTable()
    expected = TableWriter(fresh)
    expected.apply_keys([build(row(name, last(name))) for name in lives])
    assert table.by_digest == fresh.by_digest
    assert table.cold == fresh.cold
    assert table.cold_lengths == fresh.cold_lengths
