"""``quickstart`` as the README presents it, with the gateway that is installed here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tests.e2e.walk import walk


def test_every_printed_line_does_what_it_says_on_the_first_start_and_later(tmp_path: Path) -> None:
    command = shlex.quote(str(Path(sys.executable).with_name("gateway")))
    walk(f"true && {command} quickstart", tmp_path, tmp_path / "state")
