"""``gateway explain``: judge one request as the data path would, and tell each step.

It runs the very parser, key table and ``decide`` that serve; only the words are its own, and those
of a refusal come from the one table.
"""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CliError, option, setting_flags, settings_of

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.core.decision import Decision, Snapshot
    from gateway.core.http1 import RequestHead
    from gateway.core.limits import Limits
    from gateway.core.model import LiveKey
    from gateway.core.refusals import Reason
    from gateway.core.routes import Route, Router

MAXIMUM_KEY_BYTES = 65536


@click.command(short_help="Judge one request as the data path would, and tell each step.")
@setting_flags("--upstream")
@option("--key-file", metavar="F", help="The file that holds the key, `-` for stdin; without it: no key.")
@option("--host", metavar="H", default="localhost", show_default=True, help="The Host of the request.")
@click.argument("method", metavar="METHOD")
@click.argument("target", metavar="/PATH")
def explain(method: str, target: str, key_file: str | None, host: str, **flags: Any) -> None:
    """Tell what would become of a request, and why: exit 0 when it is forwarded, 1 when refused."""
    for name, text in (("METHOD", method), ("/PATH", target), ("--host", host)):
        if not text or not text.isprintable():
            raise CliError(f"{name} must not be empty or hold a control character", 2)
    import asyncio

    settings = settings_of(flags)
    lines = f"{method} {target} HTTP/1.1\r\nHost: {host}".encode()
    key = _read_key(key_file) if key_file is not None else None
    steps, forwarded = asyncio.run(_judge(settings, lines, key))
    for name, text in [("request", f"{method} {target}, host {host}"), *steps]:
        click.echo(f"{name:<11} {text}")
    sys.exit(0 if forwarded else 1)


def _read_key(path: str) -> bytes:
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MAXIMUM_KEY_BYTES)
        else:
            with Path(path).open("rb") as file:
                content = file.read(MAXIMUM_KEY_BYTES)
    except OSError as error:
        raise CliError(f"the key file {path} cannot be read: {error.strerror or error}") from None
    key = content.strip()
    if b"\n" in key or b"\r" in key:
        raise CliError(f"the key file {path} must hold one line, the key", 2)
    return key


async def _judge(settings: Settings, lines: bytes, key: bytes | None) -> tuple[list[tuple[str, str]], bool]:
    """Return the steps of a judgement, and whether it lets the request through."""
    from gateway.core.decision import Forward, decide
    from gateway.core.http1 import RequestHead
    from gateway.core.routes import Router
    from gateway.keys.clock import boot_clock

    router = Router(settings.routes)
    head = _parse(lines, key, router, settings.limits)
    if not isinstance(head, RequestHead):
        return [("outcome", _refused(head))], False
    if head.is_asterisk:
        return [("outcome", "answered by the gateway itself: OPTIONS * asks the server, not a backend")], True
    snapshot = await _load(settings, router)
    now = boot_clock()
    decision = decide(head, snapshot, now)
    steps = [("route", _route(head, snapshot, settings)), *_credential(head, snapshot, decision, now)]
    if isinstance(decision, Forward):
        targets = settings.upstreams[decision.route.upstream].targets
        asked = f"{head.method.decode()} {decision.target.decode('ascii')}"
        return [*steps, ("outcome", f"forwarded to {targets[0]} as {asked}")], True
    return [*steps, ("outcome", _refused(decision.reason))], False


def _parse(lines: bytes, key: bytes | None, router: Router, limits: Limits) -> RequestHead | Reason:
    """Read the request, with the key in a field that the route reads: X-API-KEY where it may be."""
    from gateway.core.http1 import RequestHead, parse_request_head

    if key is None:
        return parse_request_head(lines, limits)
    head = parse_request_head(lines + b"\r\nX-API-KEY: " + key, limits)
    route = router.match(head.fields.host, head.view) if isinstance(head, RequestHead) else None
    if route and "x-api-key" not in route.credentials:
        return parse_request_head(lines + b"\r\nAuthorization: Bearer " + key, limits)
    return head


async def _load(settings: Settings, router: Router) -> Snapshot:
    """Return what a gateway with these settings would know now: the table is read whole."""
    from gateway.cli.service import opened_digester
    from gateway.core.decision import Snapshot
    from gateway.core.model import KeyTable
    from gateway.keys.feed import Feed

    table = KeyTable()
    async with opened_digester(settings) as (store, digester):
        feed = Feed(store, table, digester, policy=settings.key_policy)
        try:
            await feed.sync()
        finally:
            await feed.stop()
    return Snapshot(router, settings.roles, table, digester, settings.freshness)


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


def _credential(
    head: RequestHead, snapshot: Snapshot, decision: Decision, now: float
) -> list[tuple[str, str]]:
    """Return the steps between the route and the outcome: what was presented, and whom it proves."""
    from gateway.core.credentials import read_credential
    from gateway.core.decision import Forward
    from gateway.core.model import Reject
    from gateway.core.refusals import Reason

    if isinstance(decision, Forward) and decision.route.anonymous:
        return [("credential", "none is judged on this route")]
    if isinstance(decision, Reject) and decision.reason is Reason.BAD_REQUEST:
        return []  # judged before any credential
    route = snapshot.router.match(head.fields.host, head.view)
    token = read_credential(head.fields, route.credentials if route else _ANY)
    if not isinstance(token, bytes):
        return [("credential", f"none that can be judged ({token})")]
    steps = [("credential", f"a token of {len(token)} characters, in {_field(head)}")]
    age = now - snapshot.keys.synced_at if snapshot.keys.synced_at is not None else None
    if age is not None:
        steps.append(("table", f"{_count(len(snapshot.keys.by_digest))}, read {max(age, 0):.1f} s ago"))
    if decision.key is None:
        return [*steps, ("key", "none is proven")]
    return [*steps, *_holder(decision.key, snapshot, now)]


def _count(keys: int) -> str:
    return "1 key" if keys == 1 else f"{keys} keys"


def _field(head: RequestHead) -> str:
    return "X-API-KEY" if head.fields.api_keys else "Authorization"


_ANY = ("x-api-key", "authorization")


def _holder(key: LiveKey, snapshot: Snapshot, now: float) -> list[tuple[str, str]]:
    """Return the steps that tell whose key it is, whether it lives, and what it may do."""
    ended = key.expires_at <= (snapshot.keys.store_offset_s + now) * 1000
    if key.revoked_at is not None:
        status = f"revoked {_instant(key.revoked_at)}"
    else:
        status = f"{'expired' if ended else 'active until'} {_instant(key.expires_at)}"
    tenant = snapshot.keys.tenants.get(key.tenant_id)
    allowed = "keys enabled" if tenant is not None and tenant.api_keys_enabled else "keys switched off"
    if key.user_id is not None:
        standing = snapshot.keys.users.get(key.user_id, {}).get(key.tenant_id)
        allowed += f", acts for a user who is {standing.word if standing else 'not active'} there"
    role = snapshot.roles.get(key.role)
    reach = "unknown to the configuration" if role is None else ", ".join(role.routes) or "everywhere"
    return [
        ("key", f"{key.key_id}, {status}"),
        ("holder", f"tenant {key.tenant_id} ({allowed}), environment {key.environment_id or '-'}"),
        ("permission", f"{key.permission.word}, by role {key.role} ({reach})"),
    ]


def _instant(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refused(reason: Reason) -> str:
    from gateway.core.refusals import REFUSALS

    refusal = REFUSALS[reason]
    return f"refused with {refusal.status} {reason}: {refusal.detail}"
