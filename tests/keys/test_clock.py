"""What names a run of the boot clock, so that ages are compared within one alone."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from gateway.keys.clock import boot_id

ASK = "from gateway.keys.clock import boot_id; print(boot_id())"


def set_off(seconds: int) -> str:
    """Return the id that a process sees whose boot clock is set off by so much."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("this needs util-linux's unshare")
    command = [unshare, "-r", "-T", "--boottime", str(seconds), "--fork", sys.executable, "-c", ASK]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"no time namespace can be had here: {asked.stderr.strip()}")
    return asked.stdout.strip()


def test_a_clock_that_was_set_off_is_another_though_its_namespace_has_the_same_number() -> None:
    """A container may be started again with a boot clock that begins anew."""
    assert set_off(0) == boot_id()
    assert len({set_off(0), set_off(1000), set_off(2000)}) == 3
