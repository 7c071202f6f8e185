"""Write the digests of keys that were seen back to the store: behind, in batches, at nobody's expense.

A key that was found under an older pepper is written under the newest, once a rotation says so, and
a cold key that argon2id has proven under every pepper in use; then every gateway finds them at once.
What cannot be written costs no request anything: such a key is found as it was before. Imports
``core`` and ``store`` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from itertools import islice

from gateway.core.model import ColdKey, LiveKey
from gateway.core.tokens import Digester
from gateway.store.base import Store, StoreError
from gateway.store.peppers import Found, keep_digests, peppers_in_use

FLUSH_S = 1.0
RETRY_S = 5.0
"""How long nothing is written after a failure, and how often it is asked whether a rotation has begun."""
BATCH = 200
"""Keys in one transaction, some milliseconds, so that no revocation waits long behind it."""
WAITING_MAX = 10_000
"""Keys that wait to be written, about half a kilobyte each; a further one is noted when it is seen again."""
PAUSE = 4
"""After each batch so many times as long as it took, so that most of the store's time is left to others."""
LAST_S = 1.0
"""How long the end of the process waits for what is left to be written."""

_log = logging.getLogger("gateway.keys")


class DigestWriter:
    """Writes the digests of keys that one process sees."""

    def __init__(
        self, store: Store, digester: Digester, *, rotated: Callable[[], None] = lambda: None
    ) -> None:
        """Take the store and the peppers at hand.

        ``rotated`` is told that the newest pepper has come in use, so that what was found under an older
        one has to be found again.
        """
        self._store = store
        self._digester = digester
        self._rotated = rotated
        self._waiting: dict[bytes, Found] = {}
        self._rotating = False
        self._older_seen = False
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def found_older(self, key: LiveKey, token: bytes, digest: bytes) -> None:
        """Note that a key was found by ``digest``, under an older pepper; called when it is looked for."""
        if not self._rotating:
            self._older_seen = True
        elif key.who not in self._waiting and len(self._waiting) < WAITING_MAX:
            self._waiting[key.who] = Found(key.key_id or "", self._digester.digests(token), digest)

    def proven(self, cold: ColdKey, token: bytes) -> None:
        """Note that argon2id has proven a cold key's token."""
        key = cold.key
        if len(self._waiting) < WAITING_MAX:
            digests = self._digester.digests(token)
            self._waiting[key.who] = Found(key.key_id or "", digests, None, cold.verifier)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="digests")

    async def stop(self) -> None:
        """Write what is left, for a second at most; safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.write()

    async def write(self) -> bool:
        """Write what waits; False when that failed, and it is left for the next time."""
        try:
            if self._older_seen and not self._rotating:
                await self._look_for_rotation()
            while batch := list(islice(self._waiting.items(), BATCH)):
                began = asyncio.get_running_loop().time()
                await self._store.write(keep_digests([found for _, found in batch]))
                for who, found in batch:
                    if self._waiting.get(who) is found:
                        del self._waiting[who]
                await asyncio.sleep(PAUSE * (asyncio.get_running_loop().time() - began))
        except StoreError as error:
            self._went_out(str(error))
        except Exception as error:
            # A fault of ours must end neither the writing for good nor the process; its cause is given up.
            _log.exception("writing digests back failed")
            self._waiting.clear()
            self._went_out(type(error).__name__)
        else:
            self._failing = False
        return not self._failing

    async def _run(self) -> None:
        pause_s = FLUSH_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = FLUSH_S if await self.write() and not self._older_seen else RETRY_S

    async def _look_for_rotation(self) -> None:
        in_use = await self._store.read(peppers_in_use())
        if in_use and in_use[-1] == self._digester.pepper_ids[0]:
            self._rotating, self._older_seen = True, False
            self._rotated()

    def _went_out(self, sentence: str) -> None:
        if not self._failing:
            _log.warning("the digests of keys cannot be written back, and are kept for later: %s", sentence)
        self._failing = True
