"""Wait for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

FIRST_SYNC_S = 10.0
"""How long a start waits for the first load of the keys before it says that it serves."""


async def either(*waits: Coroutine[Any, Any, object], within_s: float | None = None) -> None:
    """Wait until one of these is done, or ``within_s`` seconds have passed; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
