"""Keys as ``003`` has them, at the wire: made, shown, removed and revoked, by whom and for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest

from gateway.store.base import Store
from gateway.store.signing import signing_keys
from tests.control.dialects.qlik_api import CONFIG, KEYS, QlikApi
from tests.control.dialects.tenancy import ELSEWHERE, NOW, TENANT, later
from tests.control.samples import ANN
from tests.store.samples import audited

MEMBERS = {
    "id", "sub", "expiry", "status", "created", "subType", "tenantId", "description", "lastUpdated",
    "lastUsedAt", "createdByUser",
}  # fmt: skip


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
async def test_a_key_is_made_and_shown_as_documented(api: QlikApi, ann: str, base: str) -> None:
    ann_id = await api.subject_of("ann")
    body = {"sub": ann_id, "expiry": "P30D", "subType": "user", "description": "nightly\u0020jobs"}
    told = await api.ask("POST", base, ann, body)
    assert (told.status, told.headers["Cache-Control"]) == (201, "no-store")
    made = dict(told.json)
    token = made.pop("token")
    assert made == {
        "id": made["id"],
        "sub": ann_id,
        "expiry": later(days=30),
        "status": "active",
        "created": NOW,
        "subType": "user",
        "tenantId": TENANT,
        "description": "nightly jobs",
        "lastUpdated": NOW,
        "lastUsedAt": None,
        "createdByUser": ann_id,
    }
    assert set(made) == MEMBERS
    assert (await api.ask("GET", f"{base}/{made['id']}", ann)).json == made
    listed = (await api.ask("GET", base, ann)).json
    assert listed == {"data": [made], "links": {"self": {"href": f"{api.origin}{base}"}}}
    assert token not in str(await audited(api.store))
    record = await api.service.show_key(made["id"])
    assert (record.name, record.created_by_key) == ("nightly jobs", None)


async def test_the_token_is_a_signed_jwt_whose_jti_is_the_keys_id(api: QlikApi, ann: str) -> None:
    made = await api.made(ann, expiry="PT24H")
    header = jwt.get_unverified_header(made["token"])
    claims = jwt.decode(made["token"], options={"verify_signature": False})
    assert (header["alg"], claims["jti"], claims["sub"]) == ("RS256", made["id"], made["sub"])
    assert claims["exp"] - claims["iat"] == 86400
    (signing,) = await api.store.read(signing_keys())
    assert header["kid"] == signing.kid
    options: Any = {"verify_exp": False, "verify_iat": False}
    jwt.decode(
        made["token"], signing.public_pem, algorithms=["RS256"], audience="gateway:key", options=options
    )
    assert (await api.ask("GET", KEYS, made["token"])).status == 200


@pytest.mark.parametrize(
    ("expiry", "ends"),
    [
        (None, "2027-03-01T12:30:45.678Z"),
        ("P1Y", "2027-03-01T12:30:45.678Z"),
        ("P1M", "2026-04-01T12:30:45.678Z"),
        ("PT24H", "2026-03-02T12:30:45.678Z"),
        ("P1DT1H1M1.5S", "2026-03-02T13:31:47.178Z"),
        ("P2W", "2026-03-15T12:30:45.678Z"),
    ],
)
async def test_an_expiry_counts_from_the_creation(
    api: QlikApi, ann: str, expiry: str | None, ends: str
) -> None:
    made = await api.made(ann, **({} if expiry is None else {"expiry": expiry}))
    assert made["expiry"] == ends


async def test_a_month_from_the_last_of_january_ends_with_february(api: QlikApi, ann: str) -> None:
    api.clock[0] = 1801396800.0  # 2027-01-31T12:00:00Z
    assert (await api.made(ann, expiry="P1M"))["expiry"] == "2027-02-28T12:00:00.000Z"


@pytest.mark.parametrize(
    "expiry",
    [
        "", "P", "PT", "P1M2M", "P1S", "PT1D", "-P1D", "+P1D", "P0D", "PT0S", "P-1D", "30d", "24h", "1",
        "p1d", " P1D", "P1D ", "P366D", "P1Y1D", "P13M", "PT8785H", "P99999999999D", "P1E9D", "P1.5D",
        "P9999Y", "P99999Y", "P1D\n", "P\uff11D", "PT0.0001S", "P" + "9" * 60 + "D", "2027-01-01T00:00:00Z",
    ],
)  # fmt: skip
async def test_an_expiry_that_is_none_or_too_long_is_refused(api: QlikApi, ann: str, expiry: str) -> None:
    told = await api.ask("POST", KEYS, ann, {"description": "d", "expiry": expiry})
    assert (told.status, told.json["source"]) == (400, {"parameter": "expiry"})
    assert await api.ids(ann) == []


async def test_a_wish_beyond_the_tenants_maximum_is_refused_and_silence_means_the_maximum(
    api: QlikApi, ann: str, boss: str
) -> None:
    await api.service.set_tenant(ANN, TENANT, max_api_key_expiry="PT24H", scim_client_expiry="P10D")
    assert (await api.ask("POST", KEYS, ann, {"description": "d", "expiry": "PT24H1S"})).status == 400
    assert (await api.made(ann))["expiry"] == later(hours=24)
    assert (await api.made(boss, subType="externalClient"))["expiry"] == later(days=10)
    told = await api.ask(
        "POST", KEYS, boss, {"description": "d", "subType": "externalClient", "expiry": "P11D"}
    )
    assert told.status == 400


@pytest.mark.parametrize(
    ("body", "member"),
    [
        ({}, "description"),
        ({"description": None}, "description"),
        ({"description": 7}, "description"),
        ({"description": "x" * 1001}, "description"),
        ({"description": "a\u202eb"}, "description"),
        ({"description": "a\tb"}, "description"),
        ({"description": "d", "sub": None}, "sub"),
        ({"description": "d", "sub": ["x"]}, "sub"),
        ({"description": "d", "sub": ""}, "sub"),
        ({"description": "d", "expiry": 3600}, "expiry"),
        ({"description": "d", "expiry": None}, "expiry"),
        ({"description": "d", "subType": "robot"}, "subType"),
        ({"description": "d", "subType": None}, "subType"),
        ({"description": "d", "id": "apk_1"}, "id"),
        ({"description": "d", "status": "active"}, "status"),
        ({"description": "d", "tenantId": ELSEWHERE}, "tenantId"),
        ({"description": "d", "createdByUser": "x"}, "createdByUser"),
        ({"description": "d", "token": "x"}, "token"),
        ({"description": "d", "permission": "editor"}, "permission"),
    ],
)
async def test_a_member_that_is_wrong_or_not_known_is_named(
    api: QlikApi, ann: str, body: dict[str, Any], member: str
) -> None:
    told = await api.ask("POST", KEYS, ann, body)
    assert (told.status, told.json["source"]) == (400, {"parameter": member})
    assert await api.ids(ann) == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"description":"a","description":"b"}', 400),
        (b'{"description":"\\ud800"}', 400),
        (b'{"description":"\\u0000"}', 400),
        (b'{"description":"a","expiry":NaN}', 400),
        (b'{"description":1e999}', 400),
        (b'{"description":' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (b'{"description":' + b"9" * 5000 + b"}", 400),
        (b'{"description":"\xff"}', 400),
        (b'["description"]', 400),
        (b"", 400),
        (b'{"description":"' + b"x" * 70_000 + b'"}', 413),
    ],
)
async def test_content_that_two_readers_could_differ_on_is_refused(
    api: QlikApi, ann: str, content: bytes, status: int
) -> None:
    assert (await api.ask("POST", KEYS, ann, content)).status == status


@pytest.mark.parametrize(
    ("description", "name"),
    [("", "api-key"), (" ", "api-key"), ("x" * 1000, "x" * 100), ("\u0958" * 500, "\u0915\u093c" * 50)],
)
async def test_a_key_is_called_by_the_beginning_of_its_description(
    api: QlikApi, ann: str, description: str, name: str
) -> None:
    made = await api.made(ann, description=description)
    assert (await api.service.show_key(made["id"])).name == name


async def test_a_viewer_makes_nothing(api: QlikApi) -> None:
    viewer = await api.user("viewer", "vic")
    assert (await api.ask("POST", KEYS, viewer, {"description": "d"})).status == 403
    assert await api.ids(viewer) == []


async def test_only_admins_make_keys_for_others_or_for_external_clients(api: QlikApi, ann: str) -> None:
    await api.user("editor", "bob")
    for members in (
        {"sub": await api.subject_of("bob")},
        {"sub": "subject_nobody"},
        {"subType": "externalClient"},
    ):
        told = await api.ask("POST", KEYS, ann, {"description": "d"} | members)
        assert told.status == 403, members
    by_key = (await api.made(ann))["token"]
    told = await api.ask("POST", KEYS, by_key, {"description": "d", "sub": await api.subject_of("bob")})
    assert told.status == 403


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
async def test_a_key_that_an_admin_makes_for_a_user_has_what_that_user_has(
    api: QlikApi, boss: str, role: str
) -> None:
    user = await api.user(role, "una")
    una, boss_id = await api.subject_of("una"), await api.subject_of("boss")
    made = await api.made(boss, sub=una)
    assert (made["sub"], made["createdByUser"], made["subType"]) == (una, boss_id, "user")
    record = await api.service.show_key(made["id"])
    assert (record.role, record.sub_type) == ("viewer" if role == "viewer" else "editor", "user")
    assert await api.ids(user) == [made["id"]]
    # As her key it reads as she does, and never as the admin who made it.
    assert (await api.ask("GET", CONFIG, made["token"])).status == 200
    patch = [{"op": "replace", "path": "/max_keys_per_user", "value": 1}]
    assert (await api.ask("PATCH", CONFIG, made["token"], patch)).status == 403
    await api.service.enable_user(ANN, "una@example.com", enabled=False)
    assert (await api.ask("GET", KEYS, made["token"])).status == 403


async def test_a_key_for_a_user_counts_against_the_admin_who_made_it(api: QlikApi, boss: str) -> None:
    await api.service.set_tenant(ANN, TENANT, max_keys_per_user=2)
    bob = await api.user("editor", "bob")
    bob_id = await api.subject_of("bob")
    await api.made(boss, sub=bob_id)
    await api.made(boss)
    told = await api.ask("POST", KEYS, boss, {"description": "d", "sub": bob_id})
    assert told.status == 403
    await api.made(bob)
    await api.made(bob)
    assert (await api.ask("POST", KEYS, bob, {"description": "d"})).status == 403


async def test_a_subject_that_is_no_active_user_here_is_told_in_one_way(api: QlikApi, boss: str) -> None:
    await api.user("editor", "foreigner", ELSEWHERE)
    for name in ("off", "left"):
        await api.user("editor", name)
    foreigner, off, left = [await api.subject_of(name) for name in ("foreigner", "off", "left")]
    await api.service.enable_user(ANN, "off@example.com", enabled=False)
    await api.service.remove_user(ANN, "left@example.com")
    answers = [
        await api.ask("POST", KEYS, boss, {"description": "d", "sub": sub})
        for sub in (foreigner, off, left, "subject_nobody")
    ]
    assert {told.status for told in answers} == {400}
    assert len({str(told.json) for told in answers}) == 1
    assert answers[0].json["source"] == {"parameter": "sub"}


async def test_an_external_client_has_a_subject_of_its_own(api: QlikApi, boss: str) -> None:
    made = await api.made(boss, subType="externalClient")
    assert (made["subType"], made["expiry"]) == ("externalClient", later(days=365))
    assert made["sub"] not in (await api.subject_of("boss"), "")
    record = await api.service.show_key(made["id"])
    assert (record.sub_type, record.role) == ("externalClient", "editor")
    told = await api.ask(
        "POST", KEYS, boss, {"description": "d", "subType": "externalClient", "sub": made["sub"]}
    )
    assert (told.status, told.json["source"]) == (400, {"parameter": "sub"})


async def test_a_key_with_a_subject_of_its_own_sees_and_makes_keys_as_that_subject(
    api: QlikApi, ann: str
) -> None:
    await api.made(ann)
    own = await api.service.create_key(ANN, tenant=TENANT, name="robot", permission="editor")
    api.wait(seconds=1)
    made = await api.made(own.token, expiry="P1D")
    assert (made["sub"], made["createdByUser"]) == (own.record.subject_id, own.record.subject_id)
    assert await api.ids(own.token, "sort=created") == [own.record.id, made["id"]]
    assert await api.ids(made["token"], "sort=created") == [own.record.id, made["id"]]
    limited = await api.service.create_key(ANN, tenant=TENANT, name="limited", permission="MediaEditor")
    child = await api.service.show_key((await api.made(limited.token))["id"])
    assert (child.role, child.created_by_key) == ("MediaEditor", limited.record.id)


async def test_the_cap_holds_when_fifty_ask_at_once(api: QlikApi, ann: str) -> None:
    await api.service.set_tenant(ANN, TENANT, max_keys_per_user=6)
    await api.made(ann)
    statuses = await api.statuses(*(api.ask("POST", KEYS, ann, {"description": "d"}) for _ in range(50)))
    assert (statuses.count(201), statuses.count(403)) == (5, 45)
    assert len(await api.ids(ann)) == 6


async def test_an_owner_removes_and_an_admin_revokes(api: QlikApi, ann: str, boss: str) -> None:
    first, second, third = [await api.made(ann) for _ in range(3)]
    gone = await api.ask("DELETE", f"{KEYS}/{first['id']}", ann)
    assert (gone.status, gone.json) == (204, None)
    assert (await api.ask("DELETE", f"{KEYS}/{second['id']}", boss)).status == 204
    assert (await api.ask("DELETE", f"{KEYS}/{third['id']}", third["token"])).status == 204
    for who in (ann, boss):
        for key in (first, third):
            assert (await api.ask("GET", f"{KEYS}/{key['id']}", who)).status == 404
            assert (await api.ask("DELETE", f"{KEYS}/{key['id']}", who)).status == 404
        assert (await api.ask("GET", f"{KEYS}/{second['id']}", who)).json["status"] == "revoked"
    for key in (first, second, third):
        told = await api.ask("GET", KEYS, key["token"])
        assert (told.status, told.json["code"]) == (401, "key_revoked")
    assert await api.ids(ann) == [second["id"]]
    # Once revoked it stays so: an admin's second word changes nothing, the owner may still clear it away.
    assert (await api.ask("DELETE", f"{KEYS}/{second['id']}", boss)).status == 204
    assert (await api.ask("DELETE", f"{KEYS}/{second['id']}", ann)).status == 204
    assert await api.ids(boss) == []
    actions = [(row.action, row.actor) for row in await audited(api.store) if row.entity == second["id"]]
    assert sorted(actions) == [
        ("key.create", "ann@example.com"),
        ("key.remove", "ann@example.com"),
        ("key.revoke", "boss@example.com"),
    ]


async def test_an_admin_revokes_what_she_made_for_another_user(api: QlikApi, ann: str, boss: str) -> None:
    made = await api.made(boss, sub=await api.subject_of("ann"))
    assert (await api.ask("DELETE", f"{KEYS}/{made['id']}", boss)).status == 204
    assert (await api.ask("GET", f"{KEYS}/{made['id']}", ann)).json["status"] == "revoked"


PATCH = [{"op": "replace", "path": "/description", "value": "mine now"}]


async def test_somebody_elses_key_is_forbidden_and_another_tenants_is_absent(
    api: QlikApi, ann: str, boss: str
) -> None:
    bob, viewer = await api.user("editor", "bob"), await api.user("viewer", "vic")
    foreigner = await api.user("admin", "foreigner", ELSEWHERE)
    made = await api.made(ann)
    absent = {}
    for method, body in (("GET", None), ("PATCH", PATCH), ("DELETE", None)):
        more = () if body is None else (body,)
        for who in (bob, viewer):
            assert (await api.ask(method, f"{KEYS}/{made['id']}", who, *more)).status == 403
        absent[method] = await api.ask(method, f"{KEYS}/apk_nowhere", foreigner, *more)
        told = await api.ask(method, f"{KEYS}/{made['id']}", foreigner, *more)
        assert (told.status, told.json) == (404, absent[method].json)
    assert (await api.ask("GET", f"{KEYS}/{made['id']}", boss)).json["description"] == "a key"


@pytest.mark.parametrize("key_id", ["%00", "%ff", "%2e%2e", "%20", "x" * 5000, "configs", "apk_%F0%9F%98%80"])
async def test_what_cannot_be_an_id_is_absent(api: QlikApi, ann: str, key_id: str) -> None:
    for method in ("GET", "DELETE"):
        told = await api.ask(method, f"{KEYS}/{key_id}", ann)
        assert (told.status, told.json["code"]) == (404, "not_found")


async def test_switched_off_keys_are_refused_until_they_are_on_again(
    api: QlikApi, ann: str, boss: str
) -> None:
    made = await api.made(ann)
    off = [{"op": "replace", "path": "/api_keys_enabled", "value": False}]
    assert (await api.ask("PATCH", CONFIG, boss, off)).status == 204
    for who in (ann, boss):
        told = await api.ask("POST", KEYS, who, {"description": "d"})
        assert (told.status, told.json["code"]) == (403, "forbidden")
        assert (await api.ask("GET", KEYS, who)).status == 200
    for method, path in (("GET", KEYS), ("GET", CONFIG), ("DELETE", f"{KEYS}/{made['id']}")):
        assert (await api.ask(method, path, made["token"])).status == 403
    assert (await api.ask("GET", CONFIG, boss)).json["api_keys_enabled"] is False
    on = [{"op": "replace", "path": "/api_keys_enabled", "value": True}]
    assert (await api.ask("PATCH", CONFIG, boss, on)).status == 204
    assert (await api.ask("GET", KEYS, made["token"])).status == 200


async def test_an_expired_key_is_shown_so_and_proves_nobody(api: QlikApi, ann: str) -> None:
    made = await api.made(ann, expiry="PT1H")
    api.wait(hours=1)
    assert (await api.ask("GET", f"{KEYS}/{made['id']}", ann)).json["status"] == "expired"
    told = await api.ask("GET", KEYS, made["token"])
    assert (told.status, told.json["code"]) == (401, "key_expired")


@pytest.mark.parametrize("who", [None, "nonsense", "a.b.c", "gw_live_" + "x" * 50])
async def test_who_proves_nobody_is_told_so_in_the_dialects_shape(api: QlikApi, who: str | None) -> None:
    for method, path in (
        ("GET", KEYS), ("POST", KEYS), ("GET", f"{KEYS}/x"), ("PATCH", f"{KEYS}/x"), ("DELETE", f"{KEYS}/x"),
        ("GET", CONFIG), ("PATCH", CONFIG), ("GET", "/api/v1/api-keys"),
    ):  # fmt: skip
        told = await api.ask(method, path, who)
        assert told.status == 401
        assert told.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_other_methods_and_paths_are_told_in_the_dialects_shape(api: QlikApi, ann: str) -> None:
    for path, allowed in ((KEYS, "GET, HEAD, POST"), (f"{KEYS}/x", "DELETE, GET, HEAD, PATCH")):
        told = await api.ask("PUT", path, ann)
        assert (told.status, told.headers["Allow"]) == (405, allowed)
    for path in (f"{KEYS}/", f"{KEYS}/a/b", "/api/v1/nothing", f"{CONFIG}/"):
        assert (await api.ask("GET", path, ann)).status == 404


async def test_a_caller_writes_a_hundred_times_a_minute_across_both_paths(api: QlikApi, ann: str) -> None:
    told = None
    for at in range(101):
        base = (KEYS, "/api/v1/api-keys")[at % 2]
        told = await api.ask("DELETE", f"{base}/apk_none", ann)
        assert told.status == (404 if at < 100 else 429), at
    assert told is not None
    assert (told.json["code"], told.headers["Retry-After"]) == ("rate_limited", "1")
    assert (await api.ask("GET", KEYS, ann)).status == 200
    assert (await api.ask("DELETE", f"{KEYS}/apk_none", await api.user("editor", "bob"))).status == 404
