"""Operations in the name of a principal: what she makes, what she may not, and that caps hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from gateway.control.domain import DomainService, KeyWanted, KeyWish
from gateway.control.errors import Forbidden, Invalid, NotFound, Unauthenticated
from gateway.control.grants import Maker, Principal
from gateway.control.making import CreatedKey
from gateway.core.model import Permission
from gateway.store.base import DAY_MS, Actor, Store
from gateway.store.listing import Place
from gateway.store.urls import open_store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher
from tests.store.samples import audited

PASSWORD = "correct horse battery staple"
HERE = Actor(name="ann@example.com", source="192.0.2.1", request_id="r1")


@pytest.fixture
def service(store: Store, clock: list[float]) -> DomainService:
    return DomainService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0])


async def user(service: DomainService, name: str = "ann", role: str = "editor") -> Principal:
    person = await service.add_user(
        ANN, f"{name}@example.com", tenant="default", role=role, password=PASSWORD
    )
    return service.principal_of_user(person, "default")


async def made(service: DomainService, principal: Principal, **wish: object) -> CreatedKey:
    return await service.create_key_as(principal, HERE, KeyWish(**({"name": "k"} | wish)))  # type: ignore[arg-type]


async def shown(service: DomainService, key: CreatedKey) -> Principal:
    return await service.principal_of_key(key.token.encode())


async def test_a_key_of_a_user_is_hers_and_has_a_subject_of_its_own(
    service: DomainService, store: Store
) -> None:
    ann = await user(service)
    record = (await made(service, ann, permission="EDITOR")).record
    assert (record.created_by, record.root_id) == (ann.subject_id, ann.subject_id)
    assert record.subject_id != ann.subject_id
    assert (record.role, record.sub_type, record.created_by_key) == ("editor", "apiKey", None)
    row = next(row for row in await audited(store) if row.entity == record.id)
    assert (row.actor, row.source, row.request_id) == ("ann@example.com", "192.0.2.1", "r1")
    assert (await made(service, ann)).record.role == "viewer"


async def test_a_key_that_acts_as_a_user_has_what_she_has(service: DomainService) -> None:
    admin = await user(service, role="admin")
    key = await made(service, admin, as_subject=True)
    assert (key.record.subject_id, key.record.sub_type) == (admin.subject_id, "user")
    assert key.record.permission is Permission.EDITOR
    principal = await shown(service, key)
    assert (principal.permission, principal.user_id) == (Permission.EDITOR, admin.subject_id)
    await service.set_role(ANN, "ann@example.com", tenant="default", role="viewer")
    assert (await shown(service, key)).permission is Permission.VIEWER
    await service.enable_user(ANN, "ann@example.com", enabled=False)
    with pytest.raises(Forbidden):
        await shown(service, key)
    with pytest.raises(Invalid, match=r"^permission "):
        await made(service, admin, as_subject=True, permission="viewer")


async def test_keys_make_keys_of_their_own_line_and_no_stronger(service: DomainService) -> None:
    ann = await user(service)
    limited = await made(service, ann, permission="MediaEditor")
    by_key = await shown(service, limited)
    child = await made(service, by_key, permission="MediaEditor")
    assert (child.record.created_by, child.record.created_by_key) == (by_key.subject_id, limited.record.id)
    assert child.record.root_id == ann.subject_id
    for permission in ("editor", "viewer"):
        with pytest.raises(Forbidden, match="reaches further"):
            await made(service, by_key, permission=permission)
    viewer = await shown(service, await made(service, ann, permission="viewer"))
    with pytest.raises(Forbidden, match="viewer"):
        await made(service, viewer)
    done = await service.revoke_key_as(ann, HERE, limited.record.id, descendants=True)
    assert [record.id for record in done.descendants] == [child.record.id]


async def test_a_key_of_an_environment_makes_keys_of_it_alone(service: DomainService) -> None:
    """A route may let one environment in: no key opens it to itself by making another."""
    for environment in ("staging", "prod"):
        await service.add_environment(ANN, environment, tenant="default")
    ann = await user(service)
    staging = await shown(service, await made(service, ann, permission="editor", environment="staging"))
    for environment in (None, "staging"):
        assert (await made(service, staging, environment=environment)).record.environment_id == "staging"
    acting = await made(service, staging, as_subject=True, form="jwt")
    assert acting.record.environment_id == "staging"
    with pytest.raises(Forbidden, match="environment"):
        await made(service, staging, environment="prod")
    # Of its own from before this held, or given by the operator: no successor of it either.
    whose = Maker(created_by=staging.subject_id)
    theirs = await service.create_key(ANN, tenant="default", name="k", permission="viewer", maker=whose)
    with pytest.raises(Forbidden, match="environment"):
        await service.rotate_key_as(staging, HERE, theirs.record.id)
    assert (await made(service, ann)).record.environment_id is None


async def test_the_cap_counts_the_whole_lineage_of_a_user(service: DomainService, clock: list[float]) -> None:
    await service.set_tenant(ANN, "default", max_keys_per_user=3)
    ann, bob = await user(service), await user(service, "bob")
    first = await made(service, ann, permission="editor")
    by_key = await shown(service, first)
    await made(service, by_key)
    third = await made(service, by_key, ttl="1h")
    for principal in (ann, by_key):
        with pytest.raises(Forbidden, match="no more than 3 active keys"):
            await made(service, principal)
    with pytest.raises(Forbidden, match="no more than 3"):
        await service.rotate_key_as(ann, HERE, first.record.id)
    await service.rotate_key_as(ann, HERE, first.record.id, overlap="0s")
    await made(service, bob)
    await service.create_key(ANN, tenant="default", name="the operator's", permission="viewer")
    clock[0] += 3600
    assert third.record.status(service.now_ms()) == "expired"
    await made(service, ann)


async def test_an_operators_key_has_a_lineage_of_its_own_that_is_capped(service: DomainService) -> None:
    await service.set_tenant(ANN, "default", max_keys_per_user=2)
    operators = await service.create_key(ANN, tenant="default", name="top", permission="editor")
    top = await shown(service, operators)
    for _ in range(2):
        await made(service, top)
    with pytest.raises(Forbidden):
        await made(service, top)


async def test_the_cap_holds_when_a_hundred_ask_at_once(tmp_path: Path, store: Store) -> None:
    """Four processes' worth of stores on one file; exactly as many are made as may be."""
    stores = [open_store(f"sqlite://{tmp_path}/gateway.db") for _ in range(4)]
    services = [DomainService(each, DIGESTER, FastHasher(), ROLES) for each in stores]
    await services[0].set_tenant(ANN, "default", max_keys_per_user=5)
    ann = await user(services[0])
    results = await asyncio.gather(*(made(services[i % 4], ann) for i in range(100)), return_exceptions=True)
    assert sum(isinstance(result, CreatedKey) for result in results) == 5
    assert {type(r) for r in results} == {CreatedKey, Forbidden}
    assert len(await services[0].list_keys()) == 5
    for each in stores:
        await each.close()


async def test_lifetimes_beyond_the_maximum_are_refused_not_shortened(service: DomainService) -> None:
    await service.set_tenant(ANN, "default", max_api_key_expiry="P7D", scim_client_expiry="P30D")
    admin = await user(service, role="admin")
    with pytest.raises(Invalid, match=r"^ttl must be no later"):
        await made(service, admin, ttl="P8D")
    assert (await made(service, admin)).record.expires_at == NOW_MS + 7 * DAY_MS
    assert (await made(service, admin, external=True)).record.expires_at == NOW_MS + 30 * DAY_MS


async def test_a_key_that_has_ended_proves_nobody(service: DomainService, clock: list[float]) -> None:
    ann = await user(service)
    revoked, expired = await made(service, ann), await made(service, ann, ttl="1s")
    await service.revoke_key_as(ann, HERE, revoked.record.id)
    clock[0] += 1
    for token, reason in (
        (revoked.token.encode(), "key_revoked"),
        (expired.token.encode(), "key_expired"),
        (b"gw_live_nonsense", "key_unknown"),
    ):
        with pytest.raises(Unauthenticated) as refused:
            await service.principal_of_key(token)
        assert refused.value.reason == reason
        assert token.decode() not in str(refused.value)


async def test_a_key_is_refused_while_its_tenants_keys_are_off(service: DomainService) -> None:
    key = await made(service, await user(service))
    await service.set_tenant(ANN, "default", api_keys_enabled=False)
    with pytest.raises(Forbidden):
        await shown(service, key)


async def test_a_maker_that_ended_meanwhile_makes_nothing(service: DomainService) -> None:
    ann = await user(service)
    key = await made(service, ann, permission="editor")
    principal = await shown(service, key)
    await service.revoke_key_as(ann, HERE, key.record.id, descendants=True)
    with pytest.raises(Forbidden, match="meanwhile"):
        await made(service, principal)
    await service.remove_user(ANN, "ann@example.com")
    with pytest.raises(Forbidden, match="meanwhile"):
        await made(service, ann, as_subject=True)


@pytest.mark.parametrize("loss", ["disabled", "viewer", "removed"])
async def test_who_lost_the_right_while_her_key_is_made_gets_none(service: DomainService, loss: str) -> None:
    """An organisation's key outlives its maker: what waited for its hash would be hers to keep."""
    ann = await user(service)
    mine = (await made(service, ann, permission="editor")).record
    acting = await shown(service, await made(service, ann, as_subject=True))
    if loss == "disabled":
        await service.enable_user(ANN, "ann@example.com", enabled=False)
    elif loss == "viewer":
        await service.set_role(ANN, "ann@example.com", tenant="default", role="viewer")
    else:
        await service.remove_user(ANN, "ann@example.com")
    for principal in (ann, acting):
        with pytest.raises(Forbidden, match="meanwhile"):
            await made(service, principal, permission="editor")
        with pytest.raises(Forbidden, match="meanwhile"):
            await service.rotate_key_as(principal, HERE, mine.id)


async def test_a_key_whose_role_was_lowered_meanwhile_makes_nothing(service: DomainService) -> None:
    boss = await user(service, role="admin")
    key = await made(service, boss, permission="editor")
    principal = await shown(service, key)
    await service.give_role_as(boss, HERE, key.record.subject_id, "viewer")
    with pytest.raises(Forbidden, match="meanwhile"):
        await made(service, principal, permission="editor")


async def test_a_key_rotates_itself_with_no_overlap(service: DomainService) -> None:
    """What ends in the same moment may still do that."""
    key = await made(service, await user(service), permission="editor")
    rotated = await service.rotate_key_as(await shown(service, key), HERE, key.record.id, overlap="0s")
    assert rotated.old.status(service.now_ms()) == "expired"
    assert (await shown(service, rotated.successor)).subject_id == key.record.subject_id


async def test_owners_remove_and_admins_revoke(service: DomainService) -> None:
    ann, boss = await user(service), await user(service, "boss", "admin")
    one, two = (await made(service, ann)).record, (await made(service, ann)).record
    assert await service.remove_key_as(ann, HERE, one.id) is True
    assert await service.remove_key_as(boss, HERE, two.id) is False
    for principal in (ann, boss):
        with pytest.raises(NotFound):
            await service.show_key_as(principal, one.id)
    gone = await service.show_key(one.id)
    assert (gone.revoked_at, gone.removed_at) == (NOW_MS, NOW_MS)
    left = await service.show_key_as(ann, two.id)
    assert (left.revoked_by, left.removed_at) == (HERE.name, None)


async def test_another_tenants_key_is_not_found_whatever_is_asked(service: DomainService) -> None:
    await service.add_tenant(ANN, "acme")
    boss = await user(service, role="admin")
    theirs = await service.create_key(ANN, tenant="acme", name="k", permission="viewer")
    for work in (
        service.show_key_as(boss, theirs.record.id),
        service.describe_key_as(boss, HERE, theirs.record.id, "x"),
        service.revoke_key_as(boss, HERE, theirs.record.id),
        service.remove_key_as(boss, HERE, theirs.record.id),
        service.rotate_key_as(boss, HERE, theirs.record.id),
    ):
        with pytest.raises(NotFound, match=theirs.record.id):
            await work
    assert await service.show_key(theirs.record.id) == theirs.record


async def test_somebody_elses_key_is_forbidden_and_unchanged(service: DomainService) -> None:
    ann, bob = await user(service), await user(service, "bob")
    theirs = (await made(service, bob)).record
    for work in (
        service.describe_key_as(ann, HERE, theirs.id, "x"),
        service.revoke_key_as(ann, HERE, theirs.id),
        service.remove_key_as(ann, HERE, theirs.id),
        service.rotate_key_as(ann, HERE, theirs.id),
    ):
        with pytest.raises(Forbidden):
            await work
    assert await service.show_key_as(ann, theirs.id) == theirs


async def test_a_description_changes_and_nothing_else(service: DomainService, clock: list[float]) -> None:
    ann = await user(service)
    record = (await made(service, ann, description="old")).record
    clock[0] += 1
    changed = await service.describe_key_as(ann, HERE, record.id, "new")
    assert changed == msgspec.structs.replace(record, description="new", updated_at=NOW_MS + 1000)
    with pytest.raises(Invalid, match=r"^description "):
        await service.describe_key_as(ann, HERE, record.id, "a\x00b")


async def test_members_list_the_organisations_keys_or_their_own(service: DomainService) -> None:
    await service.add_tenant(ANN, "acme")
    ann, bob = await user(service, "ann", "viewer"), await user(service, "bob")
    boss = await user(service, "boss", "admin")
    hers = [(await made(service, bob, name=name)).record.id for name in ("a", "b")]
    other = (await made(service, boss)).record.id
    await service.create_key(ANN, tenant="acme", name="k", permission="viewer")

    async def ids(principal: Principal, **wanted: object) -> set[str]:
        page = await service.list_keys_as(principal, KeyWanted(**wanted), Place())  # type: ignore[arg-type]
        return {record.id for record in page.records}

    assert await ids(ann) == {*hers, other}
    assert await ids(ann, own=True) == set()
    assert await ids(bob, own=True) == set(hers)
    assert await ids(boss, own=True) == {*hers, other}
    assert await ids(boss, created_by=bob.subject_id) == set(hers)
    assert await ids(bob, own=True, created_by=boss.subject_id) == set()
    await service.remove_key_as(bob, HERE, hers[0])
    assert await ids(boss) == {hers[1], other}


@pytest.mark.parametrize(
    ("place", "limit", "member"),
    [
        (Place(), 0, "limit"),
        (Place(), 101, "limit"),
        (Place(sort="verifier"), 20, "sort"),
        (Place(after="x", before="y"), 20, "startingAfter"),
        (Place(after="apk_none"), 20, "cursor"),
    ],
)
async def test_what_is_no_page_is_refused(
    service: DomainService, place: Place, limit: int, member: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await service.list_keys_as(await user(service), KeyWanted(), place, limit=limit)
    assert refused.value.member == member
