"""How many workers `auto` means: as many as there are cores, within what a container may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.app.cores import cores, worker_count

HERE = len(os.sched_getaffinity(0))


def first_version(directory: Path, quota: str, period: str) -> Path:
    (directory / "cpu").mkdir()
    (directory / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (directory / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")
    return directory


def second_version(directory: Path, line: str) -> Path:
    (directory / "cpu.max").write_text(f"{line}\n")
    return directory


def test_without_a_share_there_are_as_many_as_the_process_may_run_on(tmp_path: Path) -> None:
    assert cores(tmp_path) == HERE
    assert cores(second_version(tmp_path, "max 100000")) == HERE
    assert cores(first_version(tmp_path, "-1", "100000")) == HERE


@pytest.mark.parametrize(("quota", "count"), [("10000", 1), ("100000", 1), ("100001", 2), ("9900000", HERE)])
def test_a_containers_share_is_the_bound(tmp_path: Path, quota: str, count: int) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    assert cores(second_version(tmp_path / "second", f"{quota} 100000")) == min(count, HERE)
    assert cores(first_version(tmp_path / "first", quota, "100000")) == min(count, HERE)


def test_what_cannot_be_read_binds_nobody(tmp_path: Path) -> None:
    assert cores(second_version(tmp_path, "0 0")) == HERE
    assert cores(second_version(tmp_path, "")) == HERE


def test_a_number_is_itself() -> None:
    assert worker_count(7) == 7
    assert worker_count("auto") == cores()
