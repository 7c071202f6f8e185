"""The file is read strictly: what YAML would guess or forget is refused, each time with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.document import MAXIMUM_BYTES, Node, parse_document, read_document
from gateway.config.settings import ConfigError


def plain(node: Node) -> object:
    """Return a tree without its lines."""
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    if isinstance(node.value, dict):
        return {name: plain(item) for name, item in node.value.items()}
    return node.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: on", "on"),
        ("a: 12:30:45", "12:30:45"),
        ("a: 0o17", "0o17"),
        ("a: 2026-01-02", "2026-01-02"),
        ("a: 1_000", "1_000"),
        ("a: 'null'", "null"),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: ''", ""),
        ("a: [x, {y: z}]", ["x", {"y": "z"}]),
        ("\ufeffa: x", "x"),
        ("# only\n---\na: x\n", "x"),
    ],
)
def test_scalars_stay_the_text_that_was_written(text: str, value: object) -> None:
    assert plain(parse_document(text.encode(), "f.yaml")["a"]) == value


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null"])
def test_empty_file_says_nothing(text: str) -> None:
    assert parse_document(text.encode(), "f.yaml") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", ["line 3 of f.yaml", "`a`", "line 1 of f.yaml"]),
        ("a:\n  b: 1\n  b: 1", ["line 3 of f.yaml", "`b`"]),
        ("a: &x 1\nb: *x", ["line 1 of f.yaml", "anchors"]),
        ("a: *x", ["line 1 of f.yaml", "alias"]),
        ("a: !!python/object:os.system x", ["line 1 of f.yaml", "tags"]),
        ("a: !!int '1'", ["line 1 of f.yaml", "tags"]),
        ("x: 1\na: {b", ["line 2 of f.yaml", "not valid YAML"]),
        ("a: b: c", ["line 1 of f.yaml", "not valid YAML"]),
        ("\ta: x", ["line 1 of f.yaml", "not valid YAML"]),
        ("a: 1\n---\nb: 2", ["line 2 of f.yaml", "second document"]),
        ("- a", ["line 1 of f.yaml", "members"]),
        ("just words", ["line 1 of f.yaml", "members"]),
        ("[a]: 1", ["line 1 of f.yaml", "name must be a word"]),
        ('"a\\nb": 1', ["line 1 of f.yaml", "name must be a word"]),
        ("null: 1", ["line 1 of f.yaml", "name must be a word"]),
        ("a: " + "[" * 2000, ["line 1 of f.yaml"]),
        ("a: x\x00y", ["f.yaml"]),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), "f.yaml")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(ConfigError, match=r"line 2 of f.yaml is not UTF-8"):
        parse_document(b"a: x\nb: \xff", "f.yaml")


def test_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"#" * (MAXIMUM_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_document(str(path))


def test_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file"):
        read_document(str(tmp_path / "none.yaml"))


def test_directory_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(str(tmp_path))
