"""argon2id in threads of its own: whether a token is the one that a string was made of.

The threads go behind all else on a busy core, for callers whose keys are known must not wait for
strangers' guesses. Imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import argon2.exceptions
import argon2.low_level

THREADS = 2
"""At most: each hash takes up to 64 MiB while it runs, and a sidecar has little to spare."""
NICENESS = 10
"""A tenth of a core that the event loop fills (nice(2) holds for one thread on Linux); a proof of 20 ms takes
a fifth of a second there. With less a flood of guesses would be felt, with more a proof be given up."""


class Argon2Threads:
    """Verifies tokens, as many at once as there are threads."""

    def __init__(self, threads: int | None = None) -> None:
        """Take how many tokens are verified at once; two, or one on a single core."""
        self.threads = threads or min(THREADS, os.cpu_count() or 1)
        self._executor = ThreadPoolExecutor(
            self.threads, thread_name_prefix="argon2", initializer=_go_behind_all_else
        )

    def verify(self, verifier: str, token: bytes) -> asyncio.Future[bool]:
        """Begin to find out whether ``verifier`` was made of ``token``; nonsense is made of nothing."""
        return asyncio.get_running_loop().run_in_executor(self._executor, _holds, verifier, token)

    def close(self) -> None:
        """Let the threads go once what they verify is done."""
        self._executor.shutdown(cancel_futures=True)


def _holds(verifier: str, token: bytes) -> bool:
    try:
        return argon2.low_level.verify_secret(verifier.encode(), token, argon2.low_level.Type.ID)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _go_behind_all_else() -> None:
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # where it is not allowed the threads are as others
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
