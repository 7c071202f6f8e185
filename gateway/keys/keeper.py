"""Keep the key table on disk while it is followed, so that a gateway can start while its store is out.

The whole table is written when something in it has changed, the sooner the smaller it is; a stamp says
in between that it still is the store's. Keys are taken down on the event loop, half a millisecond at a
time with pauses, since a thread that did that would hold the interpreter for longer; sealing and
writing are a thread's. What changes meanwhile is noted and written after, so that the file is the
table as it was at one instant. Imports ``core`` and its own plane.

Promise: whatever fails here fails nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from gateway.core.model import KeyTable
from gateway.keys.cold_table import Touched
from gateway.keys.kept import SLICE, Encoder, encode_ended, encode_sync, encode_tenants
from gateway.keys.kept_file import Draft, file_id, write_stamp
from gateway.keys.replica import Replica
from gateway.keys.restoring import LABEL, KeptPlace

STAMPS_A_BOUND = 30
"""So many stamps, or tables, are written while a table may be served without being read."""
WRITES_A_BOUND = 4
"""So many tables at least, however long one takes."""
SHARE = 0.1
"""The part of the time that writing tables may take otherwise."""
LOOP_SHARE = 0.2
"""The part of the event loop's time that taking keys down may take meanwhile."""

T = TypeVar("T")
_log = logging.getLogger("gateway.keys")


class _File(msgspec.Struct):
    """The file that is in place: what seals it, which state of the table it holds, and its date."""

    id: bytes
    secret: bytes
    version: int
    synced_at: float


class Keeper:
    """Writes one replica's table to its place; used on the event loop."""

    def __init__(self, place: KeptPlace, replica: Replica) -> None:
        self._place = place
        self._path = place.path
        self._replica = replica
        self._every_s = place.freshness.bound_s / STAMPS_A_BOUND
        self._due_at = 0.0
        self._file: _File | None = None
        self._failing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep the table, once it is whole."""
        self._task = asyncio.create_task(self._run(), name="keeper")

    async def stop(self) -> None:
        """Stamp the file a last time, if it is still right; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._try(self._stamp)
        await asyncio.to_thread(self._thread.shutdown)

    async def turn(self) -> None:
        """Write what has to be written now; what fails is told once, and tried again at the next turn."""
        await self._try(self._write_or_stamp)

    async def _run(self) -> None:
        await self._replica.synced.wait()
        while True:
            await self.turn()
            await asyncio.sleep(self._every_s)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except OSError as error:
            if not self._failing:
                why = error.strerror or error
                _log.warning(
                    "the key table cannot be kept at %s, and is served meanwhile: %s", self._path, why
                )
            self._failing = True
        except Exception:
            _log.exception("keeping the key table failed and goes on")
        else:
            self._failing = False

    async def _write_or_stamp(self) -> None:
        if self._replica.sync(self._place.boot) is None:
            return
        file = self._file
        if file is not None and (file.version, file.secret) == (self._replica.table.version, self._secret()):
            await self._stamp()
        elif (began := self._place.clock()) >= self._due_at:
            await self._write()
            now = self._place.clock()
            longest_s = self._place.freshness.bound_s / WRITES_A_BOUND
            self._due_at = now + min((now - began) / SHARE, longest_s)

    async def _stamp(self) -> None:
        """Date the file anew, if it holds the table as it is now."""
        file, sync = self._file, self._replica.sync(self._place.boot)
        if file is None or sync is None or file.version != self._replica.table.version:
            return
        if sync.synced_at <= file.synced_at:
            return
        if await self._in_thread(file_id, self._path) != file.id:
            self._file = None  # somebody has taken it away: the next turn writes it again
            return
        await self._in_thread(write_stamp, self._path, file.id, file.secret, encode_sync(sync))
        file.synced_at = sync.synced_at

    def _secret(self) -> bytes:
        """Return what a file is sealed with: a key of the newest pepper in use that is here.

        Never of one that was retired: the next start may do without that.
        """
        digester = self._place.digester
        here = [id for id, _ in self._replica.peppers if id in digester.pepper_ids]
        return digester.derived_key(LABEL, here[-1] if here else None)

    async def _write(self) -> None:
        """Write the whole table, unless all keys are being read again."""
        replica, secret = self._replica, self._secret()
        draft, touched, load = Draft(self._path, secret), Touched(), replica.loads
        replica.note(touched)
        try:
            await self._in_thread(draft.begin)
            encoder = Encoder(replica.table)
            async for frame in self._streamed(encoder):
                if replica.loads != load or not replica.whole:
                    return
                await self._in_thread(draft.add, frame)
            # What follows is of one instant: nobody else runs until the first of these frames is written.
            sync, version = replica.sync(self._place.boot), replica.table.version
            if replica.loads != load or sync is None:
                return
            rest, facts = _rest(encoder, replica.table, touched), replica.facts(sync)
            replica.note(None)
            for frame in rest:
                await self._in_thread(draft.add, frame)
            await self._in_thread(draft.finish, facts)
            self._file = _File(draft.id, secret, version, sync.synced_at)
        finally:
            replica.note(None)
            # Behind what the thread may still be at; should it fail, the next draft takes its place.
            self._thread.submit(draft.drop)

    async def _streamed(self, encoder: Encoder) -> AsyncIterator[bytes]:
        """Yield the frames of everything that is large, with pauses."""
        table = self._replica.table
        for frames in (
            map(encoder.keys, _slices(list(table.by_digest))),
            map(encoder.cold, _slices(list(table.cold))),
            map(encoder.users, _slices(list(table.users))),
        ):
            began = time.perf_counter()
            for frame in frames:
                took_s = time.perf_counter() - began
                yield frame
                await asyncio.sleep(took_s / LOOP_SHARE - took_s)
                began = time.perf_counter()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        call = functools.partial(work, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _rest(encoder: Encoder, table: KeyTable, touched: Touched) -> list[bytes]:
    """Return the frames of what was changed while others were made, and of all that is small."""
    frames = [
        *map(encoder.keys, _slices(list(touched.digests))),
        *map(encoder.cold, _slices(list(touched.locators))),
        *map(encoder.users, _slices(list(touched.users))),
        encoder.gone(touched.digests, touched.locators, touched.users),
    ]
    frames += map(encode_tenants, _slices(list(table.tenants.items())))
    frames += map(encode_ended, _slices(list(table.ended_tokens.items())))
    return frames


def _slices(items: list[T]) -> Iterator[list[T]]:
    """Yield the items in slices, and let go of them: at once it would take a million's milliseconds."""
    while items:
        part = items[-SLICE:]
        del items[-SLICE:]
        yield part
