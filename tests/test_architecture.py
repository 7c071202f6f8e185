"""The shape of the house defends itself: imports run one way, towards ``core``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gateway"

# What each room may import of the project, besides itself; and why the rest is shut out.
MAY_IMPORT = {
    "core": set(),
    "observe": {"core"},
    "config": {"core"},
    "dataplane": {"core", "observe"},
    "store": {"core"},
    "keys": {"core", "store"},
    "control": {"core", "store"},
    "cli": {"core", "observe", "config", "dataplane", "store", "keys", "control", "app"},
    "app": {"core", "observe", "config", "dataplane", "store", "keys", "control"},
    "__main__": {"cli"},
    "__init__": set(),
}
WHY = {
    "core": "core is pure: it imports nothing but core",
    "dataplane": "the planes never import one another: they meet in the snapshot that app hands to each",
    "keys": "the planes never import one another: they meet in the snapshot that app hands to each",
    "control": "the planes never import one another: they meet in the snapshot that app hands to each",
    "store": "the store remembers and knows nobody who asks it",
}
# core does no I/O, has no clock, no randomness, no loop and no logger of its own.
IMPURE = {
    "asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random",
    "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uvloop", "aiohttp", "httptools",
}  # fmt: skip
LAYOUT = {"core", "dataplane", "keys", "store", "control", "cli", "observe", "config", "app"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, relative ones resolved, wherever it stands."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_towards_core(path: Path) -> None:
    room = room_of(path)
    assert room in MAY_IMPORT, f"{path.relative_to(ROOT)} is in a room that the layout does not know"
    for line, name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "gateway" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        allowed = parts[1] == room or parts[1] in MAY_IMPORT[room]
        reason = WHY.get(room, f"{room} may import only {sorted(MAY_IMPORT[room])}")
        assert allowed, f"{path.relative_to(ROOT)}:{line} imports {name}: {reason}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").glob("*.py")), ids=lambda path: path.name)
def test_core_is_pure(path: Path) -> None:
    for line, name in imports_of(path):
        assert name.split(".")[0] not in IMPURE, (
            f"{path.name}:{line} imports {name}: core has no I/O and no clock"
        )


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in modules()
        if (lines := len(path.read_text().splitlines())) > 300
    }
    assert not long, f"split at the noun: {long}"


def test_every_room_is_known() -> None:
    rooms = {room_of(path) for path in modules()} - {"__init__", "__main__"}
    assert rooms == LAYOUT


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_why_it_exists(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_the_data_path_takes_no_task_and_no_logging() -> None:
    """No task, no await, no logger and no labels of a metrics library on the way of a request."""
    shut_out = {"logging", "prometheus_client", "async_timeout"}
    for path in sorted((PACKAGE / "dataplane").glob("*.py")):
        for line, name in imports_of(path):
            assert name.split(".")[0] not in shut_out, f"{path.name}:{line} imports {name} on the hot path"
