"""Read what a key table needs: everything at first, then what followed a position in the change log.

Imports ``store`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gateway.store.history import (
    Change,
    Delta,
    LiveRow,
    LoadStart,
    Position,
    Reload,
    Scopes,
    TokenFacts,
    Users,
)
from gateway.store.operations import tenant_of
from gateway.store.peppers import peppers
from gateway.store.steps import Query, Steps

CHANGES_A_READ = 1000

T = TypeVar("T")


def begin_load(offset_s: float) -> Steps[LoadStart]:
    """Read the head of a full load: where the history stands, and the small tables.

    Of login tokens that were logged out all are read that the store still has: should its clock be ahead
    and be set right later, those that seem to have ended now would be let in again then.
    """
    ((number, change_id),) = yield Query("change_head")
    known = yield from peppers()
    scopes = yield from _scopes()
    standings = yield Query("standings")
    signing_keys = yield Query("verifying_keys")
    ended = yield Query("ended_tokens")
    ((canary_at,),) = yield Query("canary")
    return LoadStart(
        # A head without its row is a history that cannot be followed: no id will ever match "".
        position=Position(number, change_id or ""),
        scopes=scopes,
        users=Users(None, standings),
        tokens=TokenFacts(tuple(signing_keys), ended, whole=True),
        peppers=tuple((pepper.id, pepper.check) for pepper in known if pepper.retired_at is None),
        canary_at=canary_at,
        offset_s=offset_s,
    )


def look_and_follow(
    position: Position, build: Callable[[LiveRow], T], offset_s: float
) -> Steps[Delta[T] | Reload]:
    """Look where the history stands, and return what followed a position."""
    ((head, known_id),) = yield Query("change_head_and_id", (position.number,))
    return (yield from changes_after(position, head, known_id, build, offset_s))


def changes_after(
    position: Position, head: int, known_id: str | None, build: Callable[[LiveRow], T], offset_s: float
) -> Steps[Delta[T] | Reload]:
    """Return what followed a position, or that its history is not this store's.

    The same snapshot has shown that the history stands at ``head``, and ``known_id`` at the position.
    """
    if head < position.number:
        return Reload(f"the change log stands at {head}, before {position.number}")
    if known_id is None:
        return Reload(f"change {position.number} is no longer in the log, or never was")
    if known_id != position.id:
        return Reload(f"change {position.number} is not the one that was read before")
    last = min(head, position.number + CHANGES_A_READ)
    changes = [Change(*row) for row in (yield Query("changes_between", (position.number, last)))]
    if len(changes) != last - position.number:
        return Reload(f"changes are missing between {position.number} and {last}")
    if not changes:
        return Delta(position, [], None, None, None, False, [], None, offset_s)
    kinds = {change.kind for change in changes}
    if "pepper" in kinds and (yield Query("retired_peppers_changed", (position.number, last))):
        return Reload("a pepper was retired, and with it the digests under it")
    changed = yield Query("live_keys_changed", (position.number, last))
    scopes = None
    if not kinds.isdisjoint(("tenant", "environment")):
        scopes = yield from _scopes()
    users = None
    if ids := frozenset(change.entity for change in changes if change.kind == "user"):
        users = Users(ids, (yield Query("standings_changed", (position.number, last))))
    tokens = None
    if not kinds.isdisjoint(("signing_key", "ended_token")):
        tokens = yield from _tokens_changed(position.number, last, signing_keys="signing_key" in kinds)
    return Delta(
        position=Position(last, changes[-1].id),
        keys=[build(LiveRow(*row)) for row in changed],
        scopes=scopes,
        users=users,
        tokens=tokens,
        more=last < head,
        committed_at=[change.at for change in changes],
        canary_at=max((change.at for change in changes if change.kind == "canary"), default=None),
        offset_s=offset_s,
    )


def _tokens_changed(after: int, last: int, *, signing_keys: bool) -> Steps[TokenFacts]:
    found = tuple((yield Query("verifying_keys"))) if signing_keys else None
    return TokenFacts(found, (yield Query("ended_tokens_changed", (after, last))))


def _scopes() -> Steps[Scopes]:
    tenants = yield Query("tenants")
    prefixes = yield Query("prefixes")
    return Scopes(tuple(map(tenant_of, tenants)), tuple(row[0] for row in prefixes))
