"""Bring keys in from elsewhere, as they are: by their tokens, or by the argon2id strings of these.

A token is digested as its line is read, and kept nowhere. What proves a key when its digest is lost
(a lost pepper; a rotation that finished before the key was seen) is its argon2id string, and that
needs a locator to be found by, which stands in the store as it is. So of a token that is our own, or
whose line states a locator, the string is made, which costs a core some 20 ms; of any other none is
made, since nothing could find it: such a key lives as long as its digest does. Imports ``core``,
``store`` and its own plane.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import msgspec

from gateway.control.errors import Conflict, Invalid
from gateway.control.import_lines import LineError
from gateway.control.import_reading import Candidate, Reading, no_locator
from gateway.control.making import KeyMaker
from gateway.control.minting import ARGON2ID
from gateway.core.tokens import DEFAULT_PREFIX, kept_digests
from gateway.core.uuid7 import uuid7
from gateway.store.base import Actor, DuplicateError, KeyRecord
from gateway.store.importing import Present, keys_present, locator_lengths
from gateway.store.peppers import peppers_in_use

CHUNK = 2000
"""Lines that are looked at together; they are written in transactions of well under a second."""
DIGEST_ONLY = "hmac-sha256"
"""How a key is kept that has no argon2id string."""


class BadLine(msgspec.Struct, frozen=True):
    """A line that was not imported, and why, without a word of it."""

    line: int
    reason: str


class Imported(msgspec.Struct):
    """What came of an import: how many keys are new, how many were there, how many have no verifier."""

    imported: int = 0
    present: int = 0
    without_verifier: int = 0
    refused: list[BadLine] = msgspec.field(default_factory=list)


class KeyImport(KeyMaker):
    """Imports keys from lines, as the operator; two passes over the same lines want two of these."""

    async def run(
        self,
        actor: Actor,
        lines: Iterable[bytes],
        *,
        write: bool,
        weak: bool = False,
        verifiers: bool = True,
        progress: Callable[[bytes], None] = lambda _: None,
    ) -> Imported:
        """Read lines and, with ``write``, keep their keys; without it, only say what would be refused.

        ``weak``: tokens may be short enough to be guessed. ``verifiers``: argon2id strings are made of
        tokens that have a locator. ``progress`` is told each line that is done with. Keys that are there
        already are passed over. Raises StoreError, and Conflict where another import has come before.
        """
        reading = await self._begin(weak=weak)
        outcome = Imported()
        numbered = enumerate(lines, 1)
        while chunk := list(islice(numbered, CHUNK)):
            candidates = self._read(reading, chunk, outcome)
            fresh = await self._unknown(candidates, outcome)
            if write:
                await self._keep(actor, fresh, outcome, verifiers=verifiers)
            else:
                outcome.imported += len(fresh)
            for _, content in chunk:
                progress(content)
        outcome.refused.sort(key=lambda bad: bad.line)
        return outcome

    async def _begin(self, *, weak: bool) -> Reading:
        """Read once what every line is held against."""
        tenants = await self._store.tenants()
        environments = await self._store.environments()
        in_use = await self._store.read(peppers_in_use())
        self._in_use = tuple(in_use) or self._digester.pepper_ids[:1]
        return Reading(
            policies={tenant.id: self.policy_of(tenant) for tenant in tenants},
            environments={(each.tenant_id, each.id) for each in environments},
            prefixes=sorted({DEFAULT_PREFIX, *(each.prefix for each in environments)}),
            role=self._role,
            digests=self._digester.digests,
            lengths=await self._store.read(locator_lengths()),
            weak=weak,
        )

    def _read(
        self, reading: Reading, chunk: Sequence[tuple[int, bytes]], outcome: Imported
    ) -> list[Candidate]:
        candidates = []
        for number, content in chunk:
            if not content.strip():
                continue
            try:
                candidates.append(reading.candidate(number, content, self.now_ms()))
            except (LineError, Invalid) as error:
                outcome.refused.append(BadLine(number, str(error)))
        return candidates

    async def _unknown(self, candidates: Sequence[Candidate], outcome: Imported) -> list[Candidate]:
        """Return those that are not there; count those that are, and note what stands in their way."""
        digests = [digest for each in candidates for digest in each.digests.values()]
        locators = [each.line.locator for each in candidates if each.line.locator is not None]
        by_digest, by_locator = await self._store.read(keys_present(digests, locators))
        fresh = []
        for candidate in candidates:
            found = next((by_digest[d] for d in candidate.digests.values() if d in by_digest), None)
            at_locator = by_locator.get(candidate.line.locator or "")
            if found is None and at_locator is None:
                fresh.append(candidate)
            elif (reason := _in_the_way(candidate, found, at_locator)) is not None:
                outcome.refused.append(BadLine(candidate.number, reason))
            else:
                outcome.present += 1
        return fresh

    async def _keep(
        self, actor: Actor, candidates: Sequence[Candidate], outcome: Imported, *, verifiers: bool
    ) -> None:
        records = await self._records(actor, candidates, verifiers=verifiers)
        try:
            outcome.imported += await self._store.bulk_insert(records, actor)
        except DuplicateError:
            raise Conflict("some of these keys are being imported by somebody else: run it again") from None
        outcome.without_verifier += sum(not record.verifier for record in records)

    async def _records(
        self, actor: Actor, candidates: Sequence[Candidate], *, verifiers: bool
    ) -> list[KeyRecord]:
        """Return the records of new keys, with the verifiers that are to be made."""
        made: dict[int, str] = {}

        async def hash_one(candidate: Candidate) -> None:
            async with turns:
                made[candidate.number] = await self._hasher.hash(candidate.line.token or "")

        if verifiers:
            turns = asyncio.Semaphore(2 * (os.cpu_count() or 1))
            wanted = [each for each in candidates if each.line.token is not None and each.line.locator]
            await asyncio.gather(*(hash_one(each) for each in wanted))
        return [self._record(actor, each, made.get(each.number)) for each in candidates]

    def _record(self, actor: Actor, candidate: Candidate, made: str | None) -> KeyRecord:
        now, line = self.now_ms(), candidate.line
        verifier = line.verifier or made or ""
        key_id = f"apk_{uuid7(now, os.urandom(10))}"
        kept = kept_digests(candidate.digests, self._in_use)
        return KeyRecord(
            id=key_id,
            tenant_id=line.said["tenantId"],
            environment_id=line.said.get("environmentId"),
            subject_id=f"subject_{uuid7(now, os.urandom(10))}",
            created_by=actor.name,
            name=candidate.name,
            description=candidate.description,
            role=candidate.role.name,
            permission=candidate.role.permission,
            intended_use=candidate.intended_use,
            prefix=line.prefix,
            last_four=line.last_four,
            hash_algo=ARGON2ID if verifier else DIGEST_ONLY,
            created_at=now,
            updated_at=now,
            expires_at=candidate.expires_at,
            **(kept._asdict() if kept is not None else {"digest": None, "pepper_id": None}),
            locator=line.locator or no_locator(key_id),
            verifier=verifier,
        )


def _in_the_way(candidate: Candidate, found: Present | None, at_locator: Present | None) -> str | None:
    """Return why a key cannot be imported beside what is there; None: it is what is there."""
    if candidate.line.token is not None and found is None:
        return "locator is that of another key"
    there = found or at_locator
    assert there is not None
    if candidate.line.verifier is not None and candidate.line.verifier != there.verifier:
        return f"locator is that of the key {there.id}, whose argon2id string is another"
    said = {
        "tenantId": (candidate.line.said["tenantId"], there.tenant_id),
        "name": (candidate.name, there.name),
        "permission": (candidate.role.name, there.role),
        "expiresAt": (candidate.expires_at, there.expires_at),
    }
    differing = [member for member, (wanted, known) in said.items() if wanted != known]
    return f"is the key {there.id}, which differs in {', '.join(differing)}" if differing else None
