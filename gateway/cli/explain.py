"""``gateway explain``: judge one request as the data path would, and tell each step.

It runs the very parser, key table, verifier and ``decide`` that serve.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.common import CliError, option, setting_flags, settings_of

if TYPE_CHECKING:
    from gateway.config.settings import Settings
    from gateway.core.decision import Snapshot
    from gateway.core.http1 import RequestHead
    from gateway.core.limits import Limits
    from gateway.core.refusals import Reason
    from gateway.core.routes import Router
    from gateway.keys.cold import ColdProver
    from gateway.keys.issuers import IssuerSource
    from gateway.keys.verifier import Verifier

MAXIMUM_KEY_BYTES = 65536
Step = tuple[str, str]


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


async def _judge(settings: Settings, lines: bytes, key: bytes | None) -> tuple[list[Step], bool]:
    """Return the steps of a judgement, and whether it lets the request through."""
    from gateway.cli.explaining import credential_step, holder_steps, outcome_step, refused, route_step
    from gateway.cli.proofs import decided
    from gateway.core.decision import Forward
    from gateway.core.http1 import RequestHead
    from gateway.core.routes import Router
    from gateway.keys.clock import boot_clock

    router = Router(settings.routes)
    head = _parse(lines, key, router, settings.limits)
    if not isinstance(head, RequestHead):
        return [("outcome", refused(head))], False
    if head.is_asterisk:
        return [("outcome", "answered by the gateway itself: OPTIONS * asks the server, not a backend")], True
    snapshot, verifier, prover = await _load(settings, router)
    token_steps = await _trust(settings, key, verifier)
    decision, checked = await decided(head, snapshot, verifier, prover)
    verifier.close()
    prover.close()
    now = boot_clock()
    steps = [
        route_step(head, snapshot, settings),
        *credential_step(head, snapshot, decision, now),
        *([] if isinstance(decision, Forward) and decision.key is None else token_steps),
        *checked,
        *holder_steps(decision.key, snapshot, now),
    ]
    return [*steps, outcome_step(head, decision, settings)], isinstance(decision, Forward)


async def _trust(settings: Settings, key: bytes | None, verifier: Verifier) -> list[Step]:
    """Have the verifier know the issuer that a signed token names; return what the token says of itself."""
    from gateway.app.issuers import issuer_sources
    from gateway.cli.explaining import token_step
    from gateway.core.envelope import has_token_shape, read_unverified

    if key is None or not has_token_shape(key):
        return []
    envelope = read_unverified(key)
    if envelope is None:
        return [token_step(None, verifier.sessions)]
    named = [issuer for issuer in settings.issuers if issuer.issuer == envelope.issuer]
    failures = [await _fetch_keys(source, verifier) for source in issuer_sources(named)]
    name, text = token_step(envelope, verifier.sessions)
    return [(name, text + "".join(failures))]


async def _fetch_keys(source: IssuerSource, verifier: Verifier) -> str:
    """Have the verifier trust an external issuer with the keys that it has now; return what went wrong."""
    import aiohttp
    import msgspec

    from gateway.keys.issuers import FetchError, Timing, fetched
    from gateway.keys.jwks import JwksError, read_jwks

    issuer = source.issuer
    try:
        async with aiohttp.ClientSession(headers={"Accept-Encoding": "identity"}) as session:
            content, _ = await fetched(session, source.jwks_url, Timing())
        issuer = msgspec.structs.replace(issuer, keys=read_jwks(content, issuer.algorithms).keys)
    except (FetchError, JwksError) as error:
        return f"; its keys cannot be had: {source.jwks_url} {error}"
    finally:
        verifier.trust([issuer])
    return ""


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


async def _load(settings: Settings, router: Router) -> tuple[Snapshot, Verifier, ColdProver]:
    """Return what a gateway with these settings would know now: the table is read whole."""
    from gateway.app.building import built_verifier
    from gateway.cli.service import opened_digester
    from gateway.core.decision import Snapshot
    from gateway.core.model import KeyTable
    from gateway.keys.clock import boot_clock
    from gateway.keys.cold import ColdProver
    from gateway.keys.feed import Feed

    table = KeyTable()
    verifier, prover = built_verifier(settings, table), ColdProver(clock=boot_clock)
    async with opened_digester(settings) as (store, digester):
        feed = Feed(store, table, digester, policy=settings.key_policy, rekeyed=verifier.rekey)
        try:
            await feed.sync()
        finally:
            await feed.stop()
    snapshot = Snapshot(
        router,
        settings.roles,
        table,
        digester,
        settings.freshness,
        sessions=verifier.sessions,
        cold=prover.proofs,
    )
    return snapshot, verifier, prover
