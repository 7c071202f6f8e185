"""Ways around what a role or a route says, closed: dot segments, and tokens under another prefix."""

from __future__ import annotations

import random

import pytest

from gateway.core.decision import Forward, Snapshot, decide
from gateway.core.headers import upstream_head
from gateway.core.http1 import RequestHead, parse_request_head
from gateway.core.limits import Limits
from gateway.core.model import KeyTable, LiveKey, Permission, Reject, Role, TenantState
from gateway.core.refusals import Reason
from gateway.core.routes import PathCheck, Route, Router
from gateway.core.tokens import Digester, make_token

DIGESTER = Digester([b"p" * 32])
TOKEN = make_token("acme_eu_", random.Random(3).choice).encode()


def head_of(target: bytes, *lines: bytes) -> RequestHead:
    head = parse_request_head(b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: a", *lines)), Limits())
    assert isinstance(head, RequestHead)
    return head


def snapshot(path_check: PathCheck) -> Snapshot:
    table = KeyTable()
    table.by_digest[DIGESTER.digest(TOKEN)] = LiveKey(
        b"", b"", "t", None, "Sites", Permission.EDITOR, expires_at=1 << 60, revoked_at=None
    )
    table.tenants = {"t": TenantState()}
    table.synced_at = 0.0
    roles = {"Sites": Role("Sites", Permission.EDITOR, ("/sites",))}
    return Snapshot(Router([Route("all", "u", path_check=path_check)]), roles, table, DIGESTER)


@pytest.mark.parametrize(
    "target", [b"/sites/../admin", b"/sites/%2e%2e/admin", b"/sites/..%2fadmin", b"/sites/..;/admin"]
)
def test_a_role_ends_at_its_prefixes_even_where_the_route_checks_no_paths(target: bytes) -> None:
    decision = decide(head_of(target, b"X-API-KEY: " + TOKEN), snapshot("off"), 1.0)
    assert isinstance(decision, Reject)
    assert decision.reason is Reason.ROUTE_DENIED


def test_a_role_lets_in_what_lies_within_its_prefixes() -> None:
    decision = decide(head_of(b"/sites/%41//b", b"X-API-KEY: " + TOKEN), snapshot("off"), 1.0)
    assert isinstance(decision, Forward)


def sent_on_anonymously(line: bytes) -> bytes:
    forward = Forward(Route("open", "u", anonymous=True), None, None, b"/")
    return upstream_head(
        head_of(b"/", line),
        forward,
        request_id=b"r",
        via=b"v",
        forwarded=b"X-Forwarded-For: b",
        authority=b"a",
    )


@pytest.mark.parametrize("scheme", [b"Bearer ", b"BEARER   ", b"X-API-KEY "])
def test_an_anonymous_route_takes_out_our_tokens_whatever_their_prefix(scheme: bytes) -> None:
    assert TOKEN not in sent_on_anonymously(b"Authorization: " + scheme + TOKEN + b" ")


def test_an_anonymous_route_leaves_the_tokens_of_others_alone() -> None:
    mistyped = TOKEN[:-1] + (b"0" if TOKEN[-1:] != b"0" else b"1")
    line = b"Authorization: Bearer " + mistyped
    assert line in sent_on_anonymously(line)
