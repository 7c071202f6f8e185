"""What ``gateway explain`` has proven, by those who prove it for the data path."""

from __future__ import annotations

import asyncio

from gateway.cli.explaining import Step
from gateway.core.cold import VerifyKey
from gateway.core.decision import Forward, Snapshot, decide
from gateway.core.http1 import RequestHead
from gateway.core.model import Reject, Verify
from gateway.core.refusals import Reason
from gateway.core.sessions import VerifySignature
from gateway.keys.clock import boot_clock
from gateway.keys.cold import ColdProver
from gateway.keys.verifier import Verifier

PROOFS_MAX = 16
"""Keys whose locators begin one another: more than anybody has."""


async def decided(
    head: RequestHead, snapshot: Snapshot, verifier: Verifier, prover: ColdProver
) -> tuple[Forward | Reject, list[Step]]:
    """Return the decision, and what had to be proven for it."""
    steps: list[Step] = []
    decision = decide(head, snapshot, boot_clock())
    while isinstance(decision, Verify) and len(steps) < PROOFS_MAX:
        steps.append(await _proof(decision, snapshot, verifier, prover))
        decision = decide(head, snapshot, boot_clock())
    return (Reject(Reason.OVERLOADED) if isinstance(decision, Verify) else decision), steps


async def _proof(wanted: Verify, snapshot: Snapshot, verifier: Verifier, prover: ColdProver) -> Step:
    told: asyncio.Future[Reason | None] = asyncio.get_running_loop().create_future()
    if isinstance(wanted, VerifySignature):
        verifier.verify(wanted, told.set_result)
        await told
        holds = wanted.digest in snapshot.sessions.proven
        return "signature", f"{'made' if holds else 'not made'} by key {wanted.claims.kid}"
    assert isinstance(wanted, VerifyKey)
    prover.verify(wanted, told.set_result, "")
    await told
    holds = wanted.digest in snapshot.cold.proven
    named = wanted.cold.key.key_id if holds else "a key that begins alike"
    return "argon2id", f"{'the token' if holds else 'not the token'} of {named}"
