"""Attempts to log in, counted for all replicas: what happens inside one transaction.

An attempt is admitted before its password is looked at, and stands in the count while it is under
way: so of many at once no more are looked at than would be one after another. Each piece of work
begins by taking the turn, and so need not be ``alone``: strangers who try passwords hold up one
another, and nobody who revokes a key. Imports ``store`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from gateway.store.base import AuditRow
from gateway.store.operations import values_of
from gateway.store.steps import Query, Steps

Bucket = Literal["pair", "address"]


class Attempt(msgspec.Struct, frozen=True):
    """One attempt; ``pair`` stands for a name and an address, ``address`` for the address alone."""

    id: str
    pair: str
    address: str


class AttemptLimits(msgspec.Struct, frozen=True):
    """How many failures there may be within ``window_ms``.

    ``lease_ms``: after so long an attempt whose end was never told no longer counts. ``audited``: so
    many failures within the window are written to the audit, at most.
    """

    per_pair: int
    per_address: int
    window_ms: int
    lease_ms: int
    audited: int


class Admitted(msgspec.Struct, frozen=True):
    """The attempt may be made, and its end must be told."""


class Crowded(msgspec.Struct, frozen=True):
    """Those under way may still use up what is left: wait for one of them to end."""

    bucket: Bucket


class Exhausted(msgspec.Struct, frozen=True):
    """There were too many failures; the next attempt may be made at ``until``, epoch milliseconds."""

    bucket: Bucket
    until: int


Admission = Admitted | Crowded | Exhausted
FailureAudit = Callable[[str | None], AuditRow]
"""Makes the audit row of a failure: (the user's id, None for a stranger) → row."""


def admit_attempt(attempt: Attempt, limits: AttemptLimits, now: int) -> Steps[Admission]:
    """Let an attempt be made unless failures, or failures and attempts under way, are too many."""
    yield Query("take_login_turn")
    yield Query("prune_login_attempts", (now,))
    counts: list[tuple[Bucket, int, int, int | None]] = []
    for bucket, key, most in _buckets(attempt, limits):
        ((all_, failed, until),) = yield Query(f"login_attempts_of_{bucket}", (key,))
        counts.append((bucket, most - all_, most - failed, until))
    exhausted = [Exhausted(bucket, until) for bucket, _, left, until in counts if left <= 0 and until]
    if exhausted:
        return max(exhausted, key=lambda found: found.until)
    crowded = [Crowded(bucket) for bucket, room, _, _ in counts if room <= 0]
    if crowded:
        return crowded[0]
    yield Query("insert_login_attempt", (*values_of(attempt), None, False, now + limits.lease_ms))
    return Admitted()


def fail_attempt(
    attempt: Attempt, limits: AttemptLimits, now: int, email: str, audit_of: FailureAudit
) -> Steps[bool]:
    """Count an attempt as failed; tell whether that was written to the audit.

    Of each pair's failures the first is, and no more than ``limits.audited`` in all: the audit is
    for people, and nobody may fill it by guessing.
    """
    yield Query("take_login_turn")
    ((_, failed, _),) = yield Query("login_attempts_of_pair", (attempt.pair,))
    ((told,),) = yield Query("audited_login_attempts", (now,))
    # Looked up for every failure alike, known or not.
    users = yield Query("user_by_email", (email,))
    audited = bool(failed == 0 and told < limits.audited)
    if audited:
        yield Query("insert_audit", values_of(audit_of(users[0][0] if users else None)))
    yield Query("insert_login_attempt", (*values_of(attempt), now, audited, now + limits.window_ms))
    return audited


def pass_attempt(attempt: Attempt, audit: AuditRow) -> Steps[None]:
    """Forget an attempt that succeeded, and with it the failures of its pair.

    NIST SP 800-63B §3.2.2: earlier failures should be disregarded. The audit's row is no change:
    no decision depends on it.
    """
    yield Query("take_login_turn")
    yield Query("delete_login_attempt", (attempt.id,))
    yield Query("forgive_login_attempts", (attempt.pair,))
    yield Query("insert_audit", values_of(audit))


def withdraw_attempt(attempt: Attempt) -> Steps[None]:
    """Forget an attempt whose password was never looked at."""
    yield Query("take_login_turn")
    yield Query("delete_login_attempt", (attempt.id,))


def _buckets(attempt: Attempt, limits: AttemptLimits) -> tuple[tuple[Bucket, str, int], ...]:
    return (
        ("pair", attempt.pair, limits.per_pair),
        ("address", attempt.address, limits.per_address),
    )
