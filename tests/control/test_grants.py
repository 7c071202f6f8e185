"""Who may do what to which key: the rules alone, over every role and every key."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.errors import Forbidden
from gateway.control.grants import Principal, check_grant, check_manages, maker, owns, reaches, sees
from gateway.core.model import Permission, Role
from tests.store.samples import a_key, now_ms

PATHS = st.lists(st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab", "/b"]), max_size=3)


def a_principal(permission: Permission = Permission.EDITOR, **fields: object) -> Principal:
    values: dict[str, object] = {
        "subject_id": "subject_ann",
        "name": "ann@example.com",
        "tenant_id": "default",
        "permission": permission,
        "role": permission.word,
        "user_id": "subject_ann",
        "root_id": "subject_ann",
    }
    return Principal(**(values | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(("has", "grants"), list(itertools.product(Permission, Permission)))
def test_nobody_grants_more_than_she_has_and_nobody_grants_admin(has: Permission, grants: Permission) -> None:
    allowed = grants <= has and grants is not Permission.ADMIN
    try:
        check_grant(a_principal(has), Role("r", grants))
    except Forbidden:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("outer", "inner", "allowed"),
    [
        ((), (), True),
        ((), ("/a",), True),
        (("/a",), (), False),
        (("/a",), ("/a",), True),
        (("/a",), ("/a/b",), True),
        (("/a/b",), ("/a",), False),
        (("/a",), ("/ab",), False),
        (("/a", "/b"), ("/b/c", "/a"), True),
        (("/a", "/b"), ("/b", "/c"), False),
    ],
)
def test_a_role_reaches_no_further_than_its_giver(
    outer: tuple[str, ...], inner: tuple[str, ...], allowed: bool
) -> None:
    assert reaches(outer, inner) is allowed


@given(PATHS, PATHS, PATHS)
def test_reach_is_transitive(one: list[str], two: list[str], three: list[str]) -> None:
    if reaches(one, two) and reaches(two, three):
        assert reaches(one, three)
    assert reaches(one, one)


def test_a_viewer_makes_and_changes_nothing() -> None:
    viewer = a_principal(Permission.VIEWER)
    with pytest.raises(Forbidden):
        maker(viewer)
    with pytest.raises(Forbidden):
        check_manages(viewer, a_key(created_by="subject_ann"))


def test_makers_stand_in_the_record_with_their_root() -> None:
    user, key = a_principal(), a_principal(key_id="apk_1", user_id=None, root_id="subject_root")
    made = maker(user, as_subject=True)
    assert (made.acts_as, made.sub_type, made.created_by_key) == ("subject_ann", "user", None)
    made = maker(key, as_subject=True)
    assert (made.acts_as, made.sub_type, made.created_by_key) == ("subject_ann", "apiKey", "apk_1")
    assert made.root_id == "subject_root"
    assert maker(user).acts_as is None
    with pytest.raises(Forbidden):
        maker(user, external=True)
    made = maker(a_principal(Permission.ADMIN), external=True)
    assert (made.acts_as, made.sub_type) == (None, "externalClient")


@pytest.mark.parametrize(
    ("fields", "hers"),
    [
        ({"created_by": "subject_ann"}, True),
        ({"subject_id": "subject_ann"}, True),
        ({"created_by": "subject_bob"}, False),
    ],
)
def test_owners_and_admins_manage_a_key(fields: dict[str, str], hers: bool) -> None:
    record = a_key(**fields)
    assert owns(a_principal(), record) is hers
    check_manages(a_principal(Permission.ADMIN), record)
    if hers:
        check_manages(a_principal(), record)
    else:
        with pytest.raises(Forbidden):
            check_manages(a_principal(), record)


def test_other_tenants_keys_and_removed_ones_are_not_seen() -> None:
    assert sees(a_principal(), a_key())
    assert not sees(a_principal(Permission.ADMIN), a_key(tenant_id="acme"))
    assert not sees(a_principal(Permission.ADMIN), a_key(removed_at=now_ms()))
