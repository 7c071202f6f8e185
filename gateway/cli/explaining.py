"""The words of ``gateway explain``, a step each; those of a refusal come from the one table."""

from __future__ import annotations

import datetime

from gateway.config.settings import Settings
from gateway.core.credentials import read_credential
from gateway.core.decision import Forward, Snapshot
from gateway.core.envelope import Envelope
from gateway.core.http1 import RequestHead
from gateway.core.model import LiveKey, Reject
from gateway.core.refusals import REFUSALS, Reason
from gateway.core.routes import Route
from gateway.core.sessions import Sessions

Step = tuple[str, str]
_ANY = ("x-api-key", "authorization")


def route_step(head: RequestHead, snapshot: Snapshot, settings: Settings) -> Step:
    """Tell which route the request takes, and whom that lets in."""
    return "route", _route(head, snapshot, settings)


def credential_step(
    head: RequestHead, snapshot: Snapshot, decision: Forward | Reject, now: float
) -> list[Step]:
    """Tell what was presented, and how old is what it is held against."""
    if isinstance(decision, Forward) and decision.route.anonymous:
        return [("credential", "none is judged on this route")]
    if isinstance(decision, Reject) and decision.reason is Reason.BAD_REQUEST:
        return []  # judged before any credential
    route = snapshot.router.match(head.fields.host, head.view)
    token = read_credential(head.fields, route.credentials if route else _ANY)
    if not isinstance(token, bytes):
        return [("credential", f"none that can be judged ({token})")]
    steps = [("credential", f"a token of {len(token)} characters, in {_field(head)}")]
    if snapshot.keys.synced_at is not None:
        age = max(now - snapshot.keys.synced_at, 0)
        count = len(snapshot.keys.by_digest) + len(snapshot.keys.cold)
        steps.append(("table", f"{_count(count)}, read {age:.1f} s ago"))
    return steps if decision.key is not None else [*steps, ("key", "none is proven")]


def token_step(envelope: Envelope | None, sessions: Sessions) -> Step:
    """Tell what a signed token says of itself, none of which is proven by that."""
    if envelope is None:
        return "token", "of three parts, but not in the strict form of a signed token"
    issuer = sessions.issuers.get(envelope.issuer or "")
    if issuer is None:
        return "token", "signed, by an issuer that is not trusted here"
    whose = "this gateway's own logins" if issuer.is_own else f"issuer {issuer.issuer}"
    faults = []
    if envelope.algorithm not in issuer.algorithms:
        faults.append("an algorithm that it does not use")
    if envelope.kid not in issuer.keys:
        faults.append("a key id that is not known")
    if issuer.audience not in envelope.audiences:
        faults.append(f"not meant for {issuer.audience}")
    return "token", ", ".join([f"signed, of {whose}", *faults])


def holder_steps(key: LiveKey | None, snapshot: Snapshot, now: float) -> list[Step]:
    """Tell whose key or login it is, whether it lives, and what it may do."""
    if key is None:
        return []
    tenant = snapshot.keys.tenants.get(key.tenant_id)
    is_login = key.key_id is None
    if tenant is None:
        allowed = "not known here"
    elif is_login:
        allowed = "known here"
    else:
        allowed = "keys enabled" if tenant.api_keys_enabled else "keys switched off"
    if key.user_id is not None:
        standing = snapshot.keys.users.get(key.user_id, {}).get(key.tenant_id)
        allowed += f", acts for a user who is {standing.word if standing else 'not active'} there"
    role = snapshot.roles.get(key.role)
    reach = "unknown to the configuration" if role is None else ", ".join(role.routes) or "everywhere"
    granted = min(key.permission, role.permission) if role is not None else key.permission
    named = f"{'of ' if is_login else ''}{key.key_id or _subject(key)}"
    return [
        ("login" if is_login else "key", f"{named}, {_status(key, snapshot, now)}"),
        ("holder", f"tenant {key.tenant_id or '-'} ({allowed}), environment {key.environment_id or '-'}"),
        ("permission", f"{granted.word}, by role {key.role or '-'} ({reach})"),
    ]


def outcome_step(head: RequestHead, decision: Forward | Reject, settings: Settings) -> Step:
    """Tell what becomes of the request."""
    if isinstance(decision, Reject):
        return "outcome", refused(decision.reason)
    targets = settings.upstreams[decision.route.upstream].targets
    asked = f"{head.method.decode()} {decision.target.decode('ascii')}"
    return "outcome", f"forwarded to {targets[0]} as {asked}"


def refused(reason: Reason) -> str:
    """Return a refusal in words."""
    refusal = REFUSALS[reason]
    return f"refused with {refusal.status} {reason}: {refusal.detail}"


def _route(head: RequestHead, snapshot: Snapshot, settings: Settings) -> str:
    route = snapshot.router.match(head.fields.host, head.view)
    if route is False:
        return "none: the path can be read in more than one way, or has what the route refuses"
    if route is None:
        return "none matches this host and path"
    targets = ", ".join(str(target) for target in settings.upstreams[route.upstream].targets)
    access = "anonymous" if route.anonymous else f"needs a key{_narrowed(route)}"
    return f"`{route.name}` to upstream {route.upstream} ({targets}), {access}"


def _narrowed(route: Route) -> str:
    """Return whose keys alone the route lets in, as words that follow \"needs a key\"."""
    kinds = (("tenant", route.tenants), ("environment", route.environments), ("role", route.roles))
    return "".join(f" of {kind} {' or '.join(sorted(names))}" for kind, names in kinds if names is not None)


def _count(keys: int) -> str:
    return "1 key" if keys == 1 else f"{keys} keys"


def _field(head: RequestHead) -> str:
    return "X-API-KEY" if head.fields.api_keys else "Authorization"


def _status(key: LiveKey, snapshot: Snapshot, now: float) -> str:
    if key.revoked_at is not None:
        return f"revoked {_instant(key.revoked_at)}"
    ended = key.expires_at <= (snapshot.keys.store_offset_s + now) * 1000
    return f"{'expired' if ended else 'active until'} {_instant(key.expires_at)}"


def _subject(key: LiveKey) -> str:
    """Return the subject of a login as its identity line names it."""
    return key.who.partition(b": ")[2].rstrip().decode("ascii")


def _instant(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
