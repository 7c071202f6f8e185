"""JSON Patch as ``003`` has it, on keys and on the settings of a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.store.base import Store
from tests.control.dialects.qlik_api import CONFIG, KEYS, QlikApi
from tests.control.dialects.tenancy import ELSEWHERE, NOW, TENANT, later
from tests.control.samples import ANN
from tests.store.samples import audited

BOTH_CONFIGS = (CONFIG, f"/api{CONFIG}")
SHIPPED = {
    "api_keys_enabled": True,
    "max_keys_per_user": 100,
    "max_api_key_expiry": "P1Y",
    "scim_externalClient_expiry": "P365D",
}


def replace(path: Any, value: Any, **more: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value} | more


@pytest.fixture
async def api(store: Store, clock: list[float]) -> AsyncIterator[QlikApi]:
    async with QlikApi(store, clock).serving() as api:
        yield api


@pytest.fixture
async def ann(api: QlikApi) -> str:
    return await api.user("editor", "ann")


@pytest.fixture
async def boss(api: QlikApi) -> str:
    return await api.user("admin", "boss")


@pytest.mark.parametrize("base", ["/v1/api-keys", "/api/v1/api-keys"])
async def test_a_description_is_replaced(api: QlikApi, ann: str, boss: str, base: str) -> None:
    made = await api.made(ann)
    api.wait(minutes=1)
    told = await api.ask(
        "PATCH", f"{base}/{made['id']}", ann, [replace("/description", "my new description")]
    )
    assert (told.status, told.json) == (204, None)
    shown = (await api.ask("GET", f"{base}/{made['id']}", ann)).json
    assert (shown["description"], shown["created"]) == ("my new description", NOW)
    assert shown["lastUpdated"] == later(minutes=1)
    for who, value in ((made["token"], "by itself"), (boss, "by an admin"), (ann, "")):
        patch = [replace("/description", "before"), replace("/description", value)]
        assert (await api.ask("PATCH", f"{base}/{made['id']}", who, patch)).status == 204
        assert (await api.ask("GET", f"{base}/{made['id']}", ann)).json["description"] == value
    rows = [
        row for row in await audited(api.store) if row.entity == made["id"] and row.action == "key.update"
    ]
    assert {row.actor for row in rows} == {"ann@example.com", "boss@example.com", made["id"]}
    assert len(rows) == 4


GOOD = replace("/description", "changed")
ENABLED = replace("/api_keys_enabled", False)


@pytest.mark.parametrize(
    ("patch", "member"),
    [
        ({}, "content"),
        (GOOD, "content"),
        ([GOOD] * 21, "content"),
        ([GOOD, replace("/status", "active")], "[1].path"),
        ([GOOD, replace("/expiry", "P1Y")], "[1].path"),
        ([GOOD, replace("/sub", "x")], "[1].path"),
        ([GOOD, replace("/description/", "x")], "[1].path"),
        ([GOOD, replace("//description", "x")], "[1].path"),
        ([GOOD, replace("/~1description", "x")], "[1].path"),
        ([GOOD, replace("/descriptio~6e", "x")], "[1].path"),
        ([GOOD, replace("description", "x")], "[1].path"),
        ([GOOD, replace("/Description", "x")], "[1].path"),
        ([GOOD, replace("", {"description": "x"})], "[1].path"),
        ([GOOD, {"op": "add", "path": "/description", "value": "x"}], "[1].op"),
        ([GOOD, {"op": "remove", "path": "/description"}], "[1].op"),
        ([GOOD, {"op": "test", "path": "/description", "value": "changed"}], "[1].op"),
        ([GOOD, {"op": "copy", "from": "/description", "path": "/description"}], "[1].op"),
        ([GOOD, {"op": "move", "from": "/description", "path": "/description"}], "[1].op"),
        ([GOOD, {"op": "Replace", "path": "/description", "value": "x"}], "[1].op"),
        ([GOOD, {"path": "/description", "value": "x"}], "[1].op"),
        ([GOOD, {"op": "replace", "value": "x"}], "[1].path"),
        ([GOOD, {"op": "replace", "path": "/description"}], "[1].value"),
        ([GOOD, replace("/description", "x", extra=1)], "[1].extra"),
        ([GOOD, replace("/description", None)], "[1].value"),
        ([GOOD, replace("/description", 7)], "[1].value"),
        ([GOOD, replace("/description", ["x"])], "[1].value"),
        ([GOOD, replace("/description", "x" * 1001)], "[1].value"),
        ([GOOD, replace("/description", "a\u202eb"), GOOD], "[1].value"),
        ([GOOD, "replace"], "[1]"),
        ([GOOD, None], "[1]"),
    ],
)
async def test_a_patch_of_a_key_is_done_whole_or_not_at_all(
    api: QlikApi, ann: str, patch: Any, member: str
) -> None:
    made = await api.made(ann)
    told = await api.ask("PATCH", f"{KEYS}/{made['id']}", ann, patch)
    assert (told.status, told.json["source"]) == (400, {"parameter": member})
    assert (await api.ask("GET", f"{KEYS}/{made['id']}", ann)).json["description"] == "a key"
    assert not [row for row in await audited(api.store) if row.action == "key.update"]


async def test_twenty_operations_are_done_and_none_changes_nothing(api: QlikApi, ann: str) -> None:
    made = await api.made(ann)
    target = f"{KEYS}/{made['id']}"
    api.wait(minutes=1)
    assert (await api.ask("PATCH", target, ann, [])).status == 204
    assert (await api.ask("PATCH", target, ann, b"")).status == 400
    assert (await api.ask("GET", target, ann)).json["lastUpdated"] == NOW
    patch = [replace("/description", str(at)) for at in range(20)]
    assert (await api.ask("PATCH", target, ann, patch)).status == 204
    assert (await api.ask("GET", target, ann)).json["description"] == "19"
    bob = await api.user("editor", "bob")
    assert (await api.ask("PATCH", target, bob, [])).status == 403
    assert (await api.ask("PATCH", f"{KEYS}/apk_none", ann, [])).status == 404


@pytest.mark.parametrize(
    ("operation", "detail"),
    [
        (replace("/max_keys_per_user", 1001), "[1].value for /max_keys_per_user must be at most 1000."),
        (
            replace("/api_keys_enabled", "s3cr3t"),
            "[1].value for /api_keys_enabled is wrong: expected bool, got str.",
        ),
        (
            replace("/max_api_key_expiry", "s3cr3t"),
            "[1].value for /max_api_key_expiry must be an ISO 8601 duration,",
        ),
        (
            replace("/scim_externalClient_expiry", "P2Y"),
            "[1].value for /scim_externalClient_expiry is longer than",
        ),
        (
            replace("/tenantId", "s3cr3t"),
            "[1].path for /tenantId must be one of /api_keys_enabled, /max_keys_per",
        ),
        (replace("/\u202e" + "x" * 99, "s3cr3t"), "[1].path for /?" + "x" * 58 + "… must be one of"),
        (replace("", "s3cr3t"), '[1].path for "" must be one of'),
        (replace(7, "s3cr3t"), "[1].path is wrong: expected str, got int."),
    ],
)
async def test_what_is_wrong_is_said_of_which_setting_and_without_the_value(
    api: QlikApi, boss: str, operation: dict[str, Any], detail: str
) -> None:
    told = await api.ask("PATCH", CONFIG, boss, [ENABLED, operation])
    assert told.status == 400
    assert told.json["detail"].startswith(detail)
    assert "s3cr3t" not in str(told.json)


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
async def test_every_member_sees_what_is_in_effect(api: QlikApi, role: str) -> None:
    member = await api.user(role)
    for config in BOTH_CONFIGS:
        told = await api.ask("GET", config, member)
        assert (told.status, told.json) == (200, SHIPPED)
    key = await api.service.create_key(ANN, tenant=TENANT, name="robot", permission="viewer")
    assert (await api.ask("GET", CONFIG, key.token)).json == SHIPPED


async def test_durations_are_shown_in_iso_8601_however_they_were_written(api: QlikApi, ann: str) -> None:
    for written, shown in (
        ("24h", "PT24H"),
        ("30d", "P30D"),
        ("2w", "P2W"),
        ("1.5h", "PT5400S"),
        ("PT36H", "PT36H"),
    ):
        await api.service.set_tenant(ANN, TENANT, max_api_key_expiry=written, scim_client_expiry=written)
        told = (await api.ask("GET", CONFIG, ann)).json
        assert (told["max_api_key_expiry"], told["scim_externalClient_expiry"]) == (shown, shown)


async def test_an_admin_changes_settings_and_what_is_not_named_stays_the_gateways(
    api: QlikApi, boss: str
) -> None:
    assert (await api.ask("PATCH", CONFIG, boss, [])).status == 204
    assert (await api.ask("PATCH", CONFIG, boss, b"")).status == 400
    changes = {"max_keys_per_user": 5, "max_api_key_expiry": "PT24H"}
    patch = [
        replace("/max_keys_per_user", 7),
        *(replace(f"/{name}", value) for name, value in changes.items()),
    ]
    assert (await api.ask("PATCH", CONFIG, boss, patch)).status == 204
    assert (await api.ask("GET", CONFIG, boss)).json == SHIPPED | changes
    tenant = await api.service.show_tenant(TENANT)
    assert (tenant.api_keys_enabled, tenant.scim_client_expiry) == (None, None)
    patch = [replace("/scim_externalClient_expiry", "P30D"), replace("/api_keys_enabled", False)]
    assert (await api.ask("PATCH", BOTH_CONFIGS[1], boss, patch)).status == 204
    changes |= {"api_keys_enabled": False, "scim_externalClient_expiry": "P30D"}
    assert (await api.ask("GET", CONFIG, boss)).json == changes
    rows = [row for row in await audited(api.store) if row.action == "tenant.update"]
    assert [row.actor for row in rows] == ["boss@example.com"] * 2


@pytest.mark.parametrize("value", [0, 1000])
async def test_the_documented_range_of_the_cap_is_whole(api: QlikApi, boss: str, value: int) -> None:
    assert (await api.ask("PATCH", CONFIG, boss, [replace("/max_keys_per_user", value)])).status == 204
    assert (await api.ask("GET", CONFIG, boss)).json["max_keys_per_user"] == value
    expected = 403 if value == 0 else 201
    assert (await api.ask("POST", KEYS, boss, {"description": "d"})).status == expected


@pytest.mark.parametrize(
    "operation",
    [
        replace("/api_keys_enabled", 1),
        replace("/api_keys_enabled", "true"),
        replace("/api_keys_enabled", None),
        replace("/max_keys_per_user", -1),
        replace("/max_keys_per_user", 1001),
        replace("/max_keys_per_user", True),
        replace("/max_keys_per_user", "5"),
        replace("/max_keys_per_user", 5.5),
        replace("/max_keys_per_user", None),
        replace("/max_api_key_expiry", ""),
        replace("/max_api_key_expiry", "P0D"),
        replace("/max_api_key_expiry", "PT"),
        replace("/max_api_key_expiry", "P1M2M"),
        replace("/max_api_key_expiry", "P2Y"),
        replace("/max_api_key_expiry", "P367D"),
        replace("/max_api_key_expiry", "P99999999999D"),
        replace("/max_api_key_expiry", "-P1D"),
        replace("/max_api_key_expiry", "30d"),
        replace("/max_api_key_expiry", 30),
        replace("/max_api_key_expiry", None),
        replace("/scim_externalClient_expiry", "P2Y"),
        replace("/scim_externalClient_expiry", "x"),
        replace("/scim_client_expiry", "P1D"),
        replace("/api_keys_enabled/", True),
        replace("/~1api_keys_enabled", True),
        replace("/max~0keys_per_user", 1),
        replace("/name", "x"),
        replace("", {}),
        {"op": "add", "path": "/api_keys_enabled", "value": True},
        {"op": "remove", "path": "/api_keys_enabled"},
        {"op": "test", "path": "/api_keys_enabled", "value": True},
        {"op": "replace", "path": "/api_keys_enabled"},
        replace("/api_keys_enabled", True, by="me"),
    ],
)
async def test_a_patch_of_settings_is_done_whole_or_not_at_all(
    api: QlikApi, boss: str, operation: dict[str, Any]
) -> None:
    told = await api.ask("PATCH", CONFIG, boss, [ENABLED, operation])
    assert told.status == 400
    assert told.json["source"]["parameter"].startswith("[1].")
    assert (await api.ask("GET", CONFIG, boss)).json == SHIPPED


async def test_a_value_that_a_later_operation_undoes_must_be_one_all_the_same(
    api: QlikApi, boss: str
) -> None:
    patch = [replace("/max_api_key_expiry", "P2Y"), replace("/max_api_key_expiry", "P1D")]
    told = await api.ask("PATCH", CONFIG, boss, patch)
    assert (told.status, told.json["source"]) == (400, {"parameter": "[0].value"})
    assert (await api.ask("PATCH", CONFIG, boss, [ENABLED] * 21)).status == 400
    assert (await api.ask("GET", CONFIG, boss)).json == SHIPPED


async def test_settings_are_changed_by_admins_alone_and_anothers_are_absent(
    api: QlikApi, ann: str, boss: str
) -> None:
    by_key = (await api.made(boss))["token"]
    viewer = await api.user("viewer", "vic")
    for who in (ann, viewer, by_key):
        assert (await api.ask("PATCH", CONFIG, who, [ENABLED])).status == 403
        assert (await api.ask("PATCH", CONFIG, who, [])).status == 403
    for who in (ann, viewer, by_key, boss):
        answers = [
            await api.ask(method, f"{KEYS}/configs/{tenant}", who, *more)
            for method, more in (("GET", ()), ("PATCH", ([ENABLED],)))
            for tenant in (ELSEWHERE, "tenant_never_was")
        ]
        assert {told.status for told in answers} == {404}
        assert len({str(told.json) for told in answers}) == 1
    assert (await api.ask("GET", CONFIG, boss)).json == SHIPPED
    assert (await api.service.show_tenant(ELSEWHERE)).api_keys_enabled is None


async def test_a_new_maximum_binds_new_keys_and_leaves_old_ones(api: QlikApi, ann: str, boss: str) -> None:
    made = await api.made(ann, expiry="P30D")
    patch = [replace("/max_api_key_expiry", "PT1H")]
    assert (await api.ask("PATCH", CONFIG, boss, patch)).status == 204
    assert (await api.ask("GET", f"{KEYS}/{made['id']}", ann)).json["expiry"] == made["expiry"]
    assert (await api.made(ann))["expiry"] == later(hours=1)
