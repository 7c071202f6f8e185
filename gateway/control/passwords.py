"""argon2id in a bounded pool of threads: slow by design, so never on an event loop and never unbounded.

argon2-cffi lets go of the interpreter's lock while it hashes, so a pool of threads is enough.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2
import argon2.exceptions

T = TypeVar("T")

# OWASP Password Storage Cheat Sheet, argon2id: m = 19 MiB, t = 2, p = 1.
MEMORY_KIB = 19456
PASSES = 2
LANES = 1
LONGEST_BYTES = 8192
"""As long as any token that is read; what a password may have at most is for ``names`` to say."""
WAITING_PER_THREAD = 64
"""At some 50 hashes a second and thread, the last in the queue waits little more than a second."""
LOGIN_THREADS = 1
LOGINS_WAITING = 256
"""As many logins as this may wait, the last one for some ten seconds; then come back later."""


class HasherBusyError(Exception):
    """More hashes are waiting than will be done soon: try again later."""


class Argon2Pool:
    """Hashes secrets with argon2id, at most ``threads`` at once."""

    def __init__(self, threads: int | None = None, *, waiting_per_thread: int | None = None) -> None:
        """Take how many secrets are hashed at once, and how many may wait for each thread."""
        self._threads = threads or min(2, os.cpu_count() or 1)
        waiting = WAITING_PER_THREAD if waiting_per_thread is None else waiting_per_thread
        self._most = self._threads * (1 + waiting)
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="argon2")
        self._hasher = argon2.PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._pending = 0

    async def hash(self, secret: str) -> str:
        """Return the argon2id string of ``secret`` with a salt of its own.

        Raises HasherBusyError when too many wait, ValueError when the secret is over 8 KiB. A
        cancelled caller leaves its hash to end; its place in the queue is held until then.
        """
        return await self._run(secret, self._hasher.hash, secret)

    async def verify(self, encoded: str, secret: str) -> bool:
        """Tell whether ``encoded`` was made of ``secret``; raises as ``hash`` does."""
        return await self._run(secret, self._matches, encoded, secret)

    def _matches(self, encoded: str, secret: str) -> bool:
        try:
            return self._hasher.verify(encoded, secret)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    async def _run(self, secret: str, work: Callable[..., T], *args: str) -> T:
        if len(secret.encode()) > LONGEST_BYTES:
            raise ValueError(f"a secret has at most {LONGEST_BYTES} bytes")
        if self._pending >= self._most:
            raise HasherBusyError("too many secrets are being hashed at once: try again soon")
        loop = asyncio.get_running_loop()
        self._pending += 1
        future = loop.run_in_executor(self._executor, work, *args)
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, _: object) -> None:
        self._pending -= 1

    def close(self) -> None:
        """Let the threads go once what they hash is done."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def login_pool() -> Argon2Pool:
    """Return the pool that checks passwords: apart from that of new keys, which strangers cannot fill."""
    return Argon2Pool(LOGIN_THREADS, waiting_per_thread=LOGINS_WAITING)


def nobodys_hash() -> str:
    """Return the argon2id string of a password that nobody has: to check one against it takes as long."""
    salt, digest = (base64.b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (16, 32))
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}"
