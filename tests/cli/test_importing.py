"""``keys import``: whole or line by line, from file or pipe, again and again, and never a token in sight."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Gateway, environment, refusal
from tests.control.test_import_lines import ARGON2ID
from tests.control.test_importing import a_cold_line, a_line


def written(tmp_path: Path, *lines: bytes) -> str:
    (tmp_path / "lines").write_bytes(b"".join(lines))
    return "lines"


def listed(gateway: Gateway) -> list[str]:
    return [key["name"] for key in json.loads(gateway("keys", "list", "--json").stdout)]


LINES = [a_line(1), a_cold_line(2), a_line(3, locator="token-of-")]


def test_a_file_is_imported_and_a_second_run_finds_it_there(gateway: Gateway, tmp_path: Path) -> None:
    file = written(tmp_path, b"\xef\xbb\xbf", *LINES)
    first = gateway("keys", "import", file)
    assert (first.returncode, first.stdout) == (0, "3 keys imported\n")
    assert "1 of the new keys have no argon2id string" in first.stderr
    again = gateway("keys", "import", file)
    assert (again.stdout, again.stderr) == ("0 keys imported, 3 there already\n", "")
    assert listed(gateway) == ["key 1", "key 2", "key 3"]


def test_a_pipe_and_a_fifo_are_read_like_a_file(gateway: Gateway, tmp_path: Path) -> None:
    assert gateway("keys", "import", "-", stdin=LINES[0].decode()).stdout == "1 key imported\n"
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["sh", "-c", "cat > fifo"], cwd=tmp_path, stdin=subprocess.PIPE) as feeder:
        assert feeder.stdin is not None
        feeder.stdin.write(b"".join(LINES))
        feeder.stdin.close()
        assert gateway("keys", "import", "fifo").stdout == "2 keys imported, 1 there already\n"


def test_one_wrong_line_stops_everything_unless_it_may_be_passed_over(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = written(tmp_path, *LINES, b"nonsense\n", a_line(5, token="short"))
    refused = gateway("keys", "import", file)
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        "line 4: is not valid JSON at column 1",
        "line 5: token has fewer than 16 characters, and could be guessed",
        "gateway: nothing was imported: 2 lines wrong",
    ]
    assert listed(gateway) == []
    skipped = gateway("keys", "import", "--skip-bad", "--json", file)
    assert skipped.returncode == 0
    assert json.loads(skipped.stdout) == {
        "imported": 3,
        "present": 0,
        "withoutVerifier": 1,
        "refused": 2,
        "errors": [
            {"line": 4, "reason": "is not valid JSON at column 1"},
            {"line": 5, "reason": "token has fewer than 16 characters, and could be guessed"},
        ],
    }
    assert gateway("keys", "import", "--skip-bad", "--allow-weak", file).stdout == (
        "1 key imported, 3 there already, 1 line wrong\n"
    )


def test_many_wrong_lines_are_not_all_told(gateway: Gateway, tmp_path: Path) -> None:
    result = gateway("keys", "import", written(tmp_path, *[b"x\n"] * 120))
    assert "line 100: " in result.stderr
    assert "line 101: " not in result.stderr
    assert "… and 20 lines more" in result.stderr


def test_a_line_that_is_too_long_is_told_and_the_next_one_read(gateway: Gateway, tmp_path: Path) -> None:
    file = written(tmp_path, b'"' + b"x" * 200_000 + b'"\n', LINES[0])
    result = gateway("keys", "import", "--skip-bad", file)
    assert "line 1: is longer than 65536 bytes" in result.stderr
    assert "line 2" not in result.stderr
    assert "1 key imported" in result.stdout


def test_verifiers_are_left_out_on_request(gateway: Gateway, tmp_path: Path) -> None:
    result = gateway("keys", "import", "--no-verifier", "--json", written(tmp_path, LINES[2]))
    assert json.loads(result.stdout)["withoutVerifier"] == 1


def test_a_file_that_cannot_be_read_is_one_sentence(gateway: Gateway) -> None:
    assert "the file nowhere cannot be read: No such file" in refusal(gateway("keys", "import", "nowhere"), 1)


def test_no_token_is_ever_written_anywhere(gateway: Gateway, tmp_path: Path) -> None:
    canary = "c4n4ry-c4n4ry-c4n4ry-c4n4ry"
    wrong: list[dict[str, Any]] = [
        {"token": canary, "tenantId": canary},
        {"token": canary + " x"},
        {"token": canary, "name": f"{canary}\u0000"},
        {"token": canary, "permission": canary},
        {"token": canary, canary: "x"},
        {"token": canary, "expiresAt": canary},
        {"token": canary, "locator": canary + "x"},
        {"token": canary, "argon2id": ARGON2ID},
    ]
    file = written(tmp_path, a_line(0, token=canary), *[a_line(n, **each) for n, each in enumerate(wrong)])
    for options in ([], ["--skip-bad"], ["--skip-bad", "--json"]):
        result = gateway("keys", "import", *options, file)
        assert "c4n4ry" not in result.stdout + result.stderr
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path
    assert listed(gateway) == ["key 0"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(tmp_path: Path, terminal: bool) -> None:
    file = written(tmp_path, *[a_line(n) for n in range(5)])
    command = [sys.executable, "-m", "gateway", "keys", "import", file]
    primary, secondary = pty.openpty()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=secondary if terminal else subprocess.PIPE,
            env=environment(tmp_path / "state"),
            cwd=tmp_path,
            timeout=30,
            check=True,
        )
        shown = os.read(primary, 65536).decode() if terminal else done.stderr.decode()
    finally:
        os.close(primary)
        os.close(secondary)
    assert ("100%" in shown) is terminal
    assert ("importing" in shown) is terminal
