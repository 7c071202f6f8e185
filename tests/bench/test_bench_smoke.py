"""The benchmark's plumbing works: every contender is measured and has its row. No figure is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contenders import CONTENDERS, missing_programs

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def programs() -> None:
    missing = missing_programs(list(CONTENDERS))
    if missing and os.environ.get("CI") != "true":
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert not missing, f"install {', '.join(missing)}"


@pytest.mark.usefixtures("programs")
def test_quick_mode_prints_a_row_without_faults_for_every_contender() -> None:
    run = bench("--quick", "--scenario", "get", "--scenario", "upload")
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.split() for line in run.stdout.splitlines() if line.startswith("  ")]
    for first_word in ("gateway", "gateway,", "nginx", "HAProxy", "aiohttp"):
        own = [row for row in rows if row and row[0] == first_word]
        assert len(own) == 2, f"{first_word} has no row in each scenario:\n{run.stdout}"
        assert [row[-1] for row in own] == ["0", "0"]


@pytest.mark.usefixtures("programs")
def test_growth_modes_print_their_row() -> None:
    keys = bench("keys", "--quick", "--count", "2000")
    assert keys.returncode == 0, keys.stdout + keys.stderr
    assert "2,000 keys" in keys.stdout.splitlines()[-1]
    idle = bench("idle", "--count", "50")
    assert idle.returncode == 0, idle.stdout + idle.stderr
    assert idle.stdout.splitlines()[-1].split()[0] == "50"


@pytest.mark.usefixtures("programs")
def test_replicas_mode_prints_a_row_without_and_two_with_changes() -> None:
    run = bench("replicas", "--quick", "--count", "2000")
    assert run.returncode == 0, run.stdout + run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()[-3:]] == ["none", "not", "followed"]


def test_propagation_mode_prints_a_row_for_each_change_and_way_to_learn_of_it() -> None:
    run = bench("propagation", "--count", "3")
    assert run.returncode == 0, run.stdout + run.stderr
    assert [line.split()[-5] for line in run.stdout.splitlines()[-4:]] == 4 * ["9"]


@pytest.mark.usefixtures("programs")
def test_workers_mode_prints_a_row_without_faults_for_either() -> None:
    run = bench("workers", "--quick", "--scenario", "get")
    assert run.returncode == 0, run.stdout + run.stderr
    rows = [line.split() for line in run.stdout.splitlines() if line.startswith("  ")]
    assert [row[0] for row in rows if row[-1] == "0"] == ["1", "2"]


def test_streams_mode_prints_a_row_without_and_one_with_changes() -> None:
    run = bench("streams", "--count", "50")
    assert run.returncode == 0, run.stdout + run.stderr
    assert [line.split()[:2] for line in run.stdout.splitlines()[-2:]] == [["50", "0"], ["50", "1,000"]]


def test_a_mode_that_does_not_exist_is_refused_with_those_that_do() -> None:
    run = bench("everything")
    assert run.returncode == 2
    assert "compare" in run.stderr
    assert "Traceback" not in run.stderr
