"""The audit is read in pages that nothing moves, by whom and what is asked for."""

from __future__ import annotations

import pytest

from gateway.control.errors import Invalid
from gateway.control.lifetime import since_when
from gateway.control.service import KeyService
from gateway.store.audit import AuditFilter
from gateway.store.base import Actor
from tests.control.samples import NOW_MS

ANN, BOB = Actor(name="ann"), Actor(name="bob", source="10.0.0.1", request_id="r1")


async def entities(service: KeyService, limit: int = 100, **wanted: object) -> list[str]:
    page = await service.read_audit(AuditFilter(**wanted), limit=limit)  # type: ignore[arg-type]
    return [row.entity for row in page.rows]


@pytest.fixture
async def told(service: KeyService, clock: list[float]) -> KeyService:
    """A service with a history: two tenants, three authors, ten minutes."""
    for minute, (actor, tenant) in enumerate([(ANN, "a"), (BOB, "b"), (ANN, "c")]):
        clock[0] = NOW_MS / 1000 + 60 * minute
        await service.add_tenant(actor, tenant)
    clock[0] += 60
    await service.set_tenant(BOB, "a", api_keys_enabled=False)
    return service


async def test_rows_are_narrowed_by_each_filter_and_all_together(told: KeyService) -> None:
    assert (await entities(told, actor="ann")) == ["c", "a"]
    assert (await entities(told, action="tenant.update")) == ["a"]
    assert (await entities(told, action="tenant", actor="bob")) == ["a", "b"]
    assert (await entities(told, action="ten")) == []
    assert (await entities(told, action="%")) == []
    assert (await entities(told, tenant_id="a")) == ["a", "a"]
    assert (await entities(told, entity="b")) == ["b"]
    assert (await entities(told, since=NOW_MS + 60_000, actor="ann")) == ["c"]
    assert (await entities(told, tenant_id="a", actor="bob", action="tenant.create")) == []


async def test_a_row_says_who_what_when_and_where(told: KeyService) -> None:
    (row,) = (await told.read_audit(AuditFilter(action="tenant.update"))).rows
    assert (row.actor, row.source, row.request_id, row.tenant_id) == ("bob", "10.0.0.1", "r1", "a")
    assert row.at == NOW_MS + 180_000
    assert row.detail == '{"api_keys_enabled":false}'


async def test_pages_join_without_gap_while_rows_are_added(told: KeyService, clock: list[float]) -> None:
    whole = [row.id for row in (await told.read_audit(AuditFilter())).rows]
    seen: list[str] = []
    cursor = None
    while True:
        page = await told.read_audit(AuditFilter(after=cursor), limit=2)
        seen += [row.id for row in page.rows]
        clock[0] += 1
        await told.add_tenant(ANN, f"more-{len(seen)}")
        cursor = page.next
        if cursor is None:
            break
    assert seen == whole


@pytest.mark.parametrize("cursor", ["", "x", "audit_01990000-0000-7000-8000-000000000000", "' OR 1=1 --"])
async def test_a_cursor_that_no_page_named_is_refused(told: KeyService, cursor: str) -> None:
    with pytest.raises(Invalid, match=r"^after is not a cursor"):
        await told.read_audit(AuditFilter(after=cursor))


async def test_a_cursor_into_another_tenants_rows_is_refused(told: KeyService) -> None:
    (row,) = (await told.read_audit(AuditFilter(tenant_id="b"))).rows
    with pytest.raises(Invalid, match=r"^after "):
        await told.read_audit(AuditFilter(tenant_id="a", after=row.id))


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_a_bounded_size(told: KeyService, limit: int) -> None:
    with pytest.raises(Invalid, match=r"^limit "):
        await told.read_audit(AuditFilter(), limit=limit)


@pytest.mark.parametrize(
    ("text", "at"),
    [("24h", NOW_MS - 86_400_000), ("PT1S", NOW_MS - 1000), ("2026-03-01T12:30:45.678Z", NOW_MS)],
)
def test_since_is_a_duration_ago_or_an_instant(text: str, at: int) -> None:
    assert since_when(text, NOW_MS) == at


@pytest.mark.parametrize("text", ["yesterday", "2026-03-01", "P1M", "-5m", "2026-13-01T00:00:00Z"])
def test_since_is_nothing_else(text: str) -> None:
    with pytest.raises(Invalid, match=r"^since "):
        since_when(text, NOW_MS)
