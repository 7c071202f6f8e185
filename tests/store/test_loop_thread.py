"""A thread with a loop of its own, where even that cannot be had."""

from __future__ import annotations

import asyncio
import errno
import threading

import pytest

from gateway.store.loop_thread import LoopThread


async def one() -> int:
    return 1


def test_who_wants_a_thread_without_a_descriptor_left_is_told_and_may_try_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thread = LoopThread("starved")
    found: list[object] = []

    def without() -> asyncio.AbstractEventLoop:
        raise OSError(errno.EMFILE, "made up")

    async def ask() -> None:
        with monkeypatch.context() as starved:
            starved.setattr(asyncio.events, "new_event_loop", without)
            try:
                found.append(await thread.run(one()))
            except OSError as error:
                found.append(error.errno)
        found.append(await thread.run(one()))
        await thread.close()

    # Who asks may wait for ever, and all that runs on the same loop with it.
    asking = threading.Thread(target=asyncio.run, args=(ask(),), daemon=True)
    asking.start()
    asking.join(10)
    assert found == [errno.EMFILE, 1]
