"""Read a kept table back, if it may be served from: whole, ours, and provably young enough.

Its age is counted on the boot clock from the read that dates it, so that an old copy is only older.
Imports ``core`` and its own plane.

Promise: what is not provably within the age rule is refused, and left where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.model import Freshness
from gateway.core.policy import DEFAULT_POLICY, KeyPolicy
from gateway.core.tokens import Digester
from gateway.keys.clock import boot_clock, boot_id
from gateway.keys.kept import KeptTable, Sync, decode_sync, encode_sync
from gateway.keys.kept_file import KeptFile, KeptFileError, read_stamp, write_stamp

LABEL = b"gateway kept table"
_log = logging.getLogger("gateway.keys")


class Dated(NamedTuple):
    """When a kept table was read from the store, on the boot clock of now, and that clock's offset.

    ``guessed``: the machine has been started since, so that the offset rests on its own wall clock.
    """

    synced_at: float
    offset_s: float
    guessed: bool


class Kept(NamedTuple):
    """A kept table that may be served from."""

    table: KeptTable
    dated: Dated


class KeptPlace(msgspec.Struct, frozen=True):
    """Where a table is kept, and what it is judged by when it is read back.

    Attributes:
        path: the file.
        digester: the peppers at hand; a file is sealed under a key of one of them.
        freshness: the age rule.
        policy: holds for tenants that set nothing of their own.
        clock: the boot clock.
        boot: names its run; None where the platform does not tell.
        wall: seconds of the epoch, on this machine's own clock.
    """

    path: Path
    digester: Digester
    freshness: Freshness
    policy: KeyPolicy = DEFAULT_POLICY
    clock: Callable[[], float] = boot_clock
    boot: str | None = msgspec.field(default_factory=boot_id)
    wall: Callable[[], float] = time.time

    def secrets(self) -> list[bytes]:
        """Return the keys that a file may have been sealed with."""
        return [self.digester.derived_key(LABEL, pepper_id) for pepper_id in self.digester.pepper_ids]

    async def read(self) -> Kept:
        """Return the table, off the event loop. Raises KeptFileError with one sentence."""
        try:
            return await asyncio.to_thread(self._read)
        except OSError as error:
            raise KeptFileError(f"the kept table {self.path} cannot be read: {error.strerror}") from None

    async def usable(self) -> Kept | None:
        """Return the table; where it cannot be used, log why."""
        try:
            return await self.read()
        except KeptFileError as error:
            _log.warning("%s: it is not used", error)
            return None

    def _read(self) -> Kept:
        with contextlib.closing(KeptFile(self.path, self.secrets())) as file:
            kept = KeptTable()
            for frame in file.frames():
                kept.take(frame)
        kept.end()
        self._check(kept)
        stamp = read_stamp(self.path, file.id, file.secret)
        # It was written later than the file that it names, perhaps after another start of the machine.
        sync = kept.facts.sync if stamp is None else decode_sync(stamp)
        dated = self._dated(sync)
        if dated.guessed:
            sync = self._dated_anew(sync, dated, file)
        kept.date(sync)
        return Kept(kept, dated)

    def _check(self, kept: KeptTable) -> None:
        at_hand = self.digester.check_values()
        missing = [id for id, check in kept.facts.peppers if at_hand.get(id) != check]
        if missing:
            raise KeptFileError(f"the kept table {self.path} needs pepper {missing[0]}, which is not here")
        if kept.facts.enabled != self.policy.api_keys_enabled:
            raise KeptFileError(
                f"the kept table {self.path} was made while key_policy.api_keys_enabled said otherwise"
            )

    def _dated(self, sync: Sync) -> Dated:
        """Judge the age. Raises KeptFileError."""
        now, oldest_s = self.clock(), self.freshness.bound_s + self.freshness.grace_s
        if self.boot is not None and sync.boot == self.boot:
            age_s = now - sync.synced_at
            if age_s < 0:
                raise KeptFileError(f"the kept table {self.path} is dated in the future")
            self._check_age(age_s, oldest_s)
            return Dated(sync.synced_at, sync.offset_s, guessed=False)
        if self.freshness.grace_s <= 0:
            raise KeptFileError(
                f"nothing proves the age of the kept table {self.path}, since it is of another start of the"
                " machine (propagation.outage_grace would let it be used)"
            )
        # The store's clock cannot have gone back behind what was read of it. A wall clock proves nothing
        # young, but what is old by it is not believed.
        read_at_s, wall_s = sync.offset_s + sync.synced_at, self.wall()
        age_s = max(self.freshness.bound_s, wall_s - read_at_s)
        self._check_age(age_s, oldest_s)
        return Dated(now - age_s, max(wall_s, read_at_s) - now, guessed=True)

    def _check_age(self, age_s: float, oldest_s: float) -> None:
        if age_s > oldest_s:
            raise KeptFileError(f"the kept table {self.path} is {age_s:.0f} s old, more than {oldest_s:g} s")

    def _dated_anew(self, sync: Sync, dated: Dated, file: KeptFile) -> Sync:
        """Write down that the grace has begun, so that the next start does not begin it again."""
        sync = msgspec.structs.replace(
            sync, synced_at=dated.synced_at, offset_s=dated.offset_s, boot=self.boot
        )
        if self.boot is None:
            return sync
        try:
            write_stamp(self.path, file.id, file.secret, encode_sync(sync))
        except OSError as error:
            raise KeptFileError(
                f"the kept table {self.path} cannot be dated anew: {error.strerror}"
            ) from None
        return sync
