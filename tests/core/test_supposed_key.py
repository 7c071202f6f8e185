"""A decision about a key that nobody shows is the decision about the request that shows it."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.decision import Reject, decide, decide_for
from gateway.core.http1 import RequestHead, parse_request_head
from gateway.core.limits import Limits
from gateway.core.model import TenantState
from tests.core.test_decision import DIGESTER, EPOCH_S, NOW, ROWS, TOKENS, a_snapshot, a_table, put

LINES = sorted({line for _, line, _, _ in ROWS})


def head_of(line: str, *fields: str) -> RequestHead:
    head = parse_request_head("\r\n".join([f"{line} HTTP/1.1", "Host: a", *fields]).encode(), Limits())
    assert isinstance(head, RequestHead)
    return head


@given(
    line=st.sampled_from(LINES),
    name=st.sampled_from(("viewer", "editor", "scoped", "other")),
    age=st.sampled_from((0.0, 5.1, 61.0, 301.0)),
    revoked=st.booleans(),
    enabled=st.sampled_from((True, False, None)),
    synced=st.booleans(),
)
def test_what_is_supposed_of_a_key_is_what_happens_to_who_shows_it(
    line: str, name: str, age: float, revoked: bool, enabled: bool | None, synced: bool
) -> None:
    table = a_table()
    key = table.by_digest[DIGESTER.digest(TOKENS[name].encode())]
    if revoked:
        key = msgspec.structs.replace(key, revoked_at=int(EPOCH_S * 1000))
        put(table, name, key)
    table.tenants = {} if enabled is None else {"default": TenantState(enabled)}
    if not synced:
        table.synced_at = None
    snapshot = a_snapshot(table)
    shown = head_of(line, f"X-API-KEY: {TOKENS[name]}", f"Authorization: Bearer {TOKENS[name]}")
    supposed = decide_for(head_of(line), key, snapshot, NOW + age)
    happens = decide(shown, snapshot, NOW + age)
    if isinstance(happens, Reject):
        assert isinstance(supposed, Reject)
        assert supposed.reason is happens.reason
    else:
        assert supposed == happens
