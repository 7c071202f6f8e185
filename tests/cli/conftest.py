"""What the tests of the command line share: the program as a process, with a state of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]
Gateway = Callable[..., Result]


def environment(state: Path, **more: str) -> dict[str, str]:
    """Return an environment without the product's variables, whose default store lies in ``state``."""
    ours = ("GATEWAY_", "STATE_DIRECTORY", "XDG_STATE_HOME")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"XDG_STATE_HOME": str(state), "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"} | more


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Run a command to its end; its store is of the test alone."""

    def run(*arguments: str, stdin: str = "", **variables: str) -> Result:
        result = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            env=environment(tmp_path / "state", **variables),
            cwd=tmp_path,
            check=False,
        )
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


def refusal(result: Result, code: int) -> str:
    """Return the one sentence on stderr of a command that ended with ``code`` and did nothing else."""
    assert result.returncode == code, (result.returncode, result.stderr)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("gateway: ")
    return lines[0]
