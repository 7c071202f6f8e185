"""Rows become live keys: shared parts once, and nothing raw in an identity line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import KeyTable, LiveKey, Permission, TenantState
from gateway.keys.table import EntryBuilder, TableWriter
from gateway.store.base import LiveRow, Scopes, Users
from tests.store.samples import a_tenant


def a_row(**fields: object) -> LiveRow:
    values: dict[str, object] = {
        "digest": b"d" * 32,
        "id": "apk_1",
        "subject_id": "subject_1",
        "tenant_id": "acme",
        "environment_id": None,
        "role": "viewer",
        "permission": "viewer",
        "expires_at": 10,
        "revoked_at": None,
    }
    return LiveRow(**(values | fields))  # type: ignore[arg-type]


def test_the_identity_lines_are_those_of_the_key() -> None:
    digest, key = EntryBuilder()(a_row(environment_id="prod", role="MediaEditor", permission="editor"))
    assert digest == b"d" * 32
    assert key == LiveKey(
        who=b"X-Gateway-Key-Id: apk_1\r\nX-Gateway-Subject: subject_1\r\n",
        scope=b"X-Gateway-Tenant: acme\r\nX-Gateway-Environment: prod\r\nX-Gateway-Role: MediaEditor\r\n",
        tenant_id="acme",
        environment_id="prod",
        role="MediaEditor",
        permission=Permission.EDITOR,
        expires_at=10,
        revoked_at=None,
    )
    assert key.key_id == "apk_1"


def test_a_key_that_acts_for_a_user_names_her() -> None:
    assert EntryBuilder()(a_row(sub_type="user"))[1].user_id == "subject_1"
    assert EntryBuilder()(a_row(sub_type="apiKey"))[1].user_id is None
    assert EntryBuilder()(a_row(sub_type="externalClient"))[1].user_id is None


def test_users_are_replaced_one_by_one_or_all_at_once() -> None:
    table = KeyTable()
    writer = TableWriter(table)
    writer.apply_users(Users(None, [("a", "t", "admin"), ("a", "u", "viewer"), ("b", "t", "nonsense")]))
    assert table.users == {
        "a": {"t": Permission.ADMIN, "u": Permission.VIEWER},
        "b": {"t": Permission.VIEWER},
    }
    version = table.version
    writer.apply_users(Users(frozenset({"a", "c"}), [("c", "t", "editor")]))
    assert table.users == {"b": {"t": Permission.VIEWER}, "c": {"t": Permission.EDITOR}}
    assert table.version > version
    writer.apply_users(Users(None, []))
    assert table.users == {}


def test_keys_of_one_scope_share_its_objects() -> None:
    build = EntryBuilder()
    rows = [a_row(tenant_id="-".join(["a", "b"]), environment_id="-".join(["c", "d"])) for _ in range(2)]
    assert rows[0].tenant_id is not rows[1].tenant_id
    (_, one), (_, two) = map(build, rows)
    assert one.scope is two.scope
    assert one.tenant_id is two.tenant_id
    assert one.environment_id is two.environment_id
    assert one.role is two.role


def test_a_permission_that_is_not_known_grants_the_least() -> None:
    _, key = EntryBuilder()(a_row(permission="superuser"))
    assert key.permission is Permission.VIEWER


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.none() | st.text(max_size=20))
def test_whatever_the_store_holds_stays_inside_its_line(
    key: str, tenant: str, role: str, env: str | None
) -> None:
    _, live = EntryBuilder()(a_row(id=key, subject_id=key, tenant_id=tenant, role=role, environment_id=env))
    lines = (live.who + live.scope).split(b"\r\n")
    assert len(lines) == (6 if env is not None else 5)
    for line in lines[:-1]:
        name, _, value = line.partition(b": ")
        assert name.startswith(b"X-Gateway-")
        assert all(0x21 <= byte <= 0x7E for byte in value)


async def test_a_sweep_drops_only_what_a_load_did_not_see() -> None:
    table = KeyTable()
    build, writer = EntryBuilder(), TableWriter(table)
    build.load = 1
    writer.apply_keys([build(a_row(digest=b"old")), build(a_row(digest=b"both"))])
    build.load = 2
    writer.apply_keys([build(a_row(digest=b"both")), build(a_row(digest=b"new"))])
    assert await writer.sweep_unseen(2) == 1
    assert set(table.by_digest) == {b"both", b"new"}


async def test_a_sweep_drops_what_ended_before() -> None:
    table = KeyTable()
    build, writer = EntryBuilder(), TableWriter(table)
    writer.apply_keys(
        [
            build(a_row(digest=b"expired", expires_at=10)),
            build(a_row(digest=b"revoked", expires_at=99, revoked_at=5)),
            build(a_row(digest=b"live", expires_at=99)),
        ]
    )
    version = table.version
    assert await writer.sweep_ended(10) == 2
    assert set(table.by_digest) == {b"live"}
    assert table.version > version


def test_scopes_are_replaced_and_the_default_prefix_stays() -> None:
    table = KeyTable()
    TableWriter(table).apply_scopes(
        Scopes((a_tenant("on"), a_tenant("off", api_keys_enabled=False)), ("qs_live_", "ünsafe_"))
    )
    assert table.tenants == {"on": TenantState(True), "off": TenantState(False)}
    assert table.prefixes == (b"gw_live_", b"qs_live_")
    assert table.version == 1
