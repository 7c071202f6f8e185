"""The event loop that everything runs on."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any


def collect_rarely() -> None:
    """Let the collector run seldom: nearly all is freed by its count, and each run walks the live objects."""
    gc.set_threshold(50_000, 50, 100)


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run ``main`` on uvloop where there is one, and return what it returns."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)
