"""Who may do what to which key: rules over values, and nothing else.

Pure: imports ``core`` and the store's records. Each rule raises ``Forbidden`` with a sentence (or
``NotFound`` for what must look absent), or returns what was asked for.

Promise: nobody grants more than she has, neither in permission nor in reach.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.control.errors import Forbidden, NotFound
from gateway.core.model import Permission, Role
from gateway.core.routes import within
from gateway.store.base import Actor, KeyRecord

OWN_SUBJECT = "apiKey"
ACTS_AS_USER = "user"
EXTERNAL_CLIENT = "externalClient"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a credential proved, in one tenant, with what she may do there now.

    Attributes:
        subject_id: the user's id, or the subject of the key.
        name: how the audit calls her: a user's address, a key's id.
        routes: the path prefixes that she is limited to; empty: everywhere.
        role: the name of the role that she has.
        key_id: the key that she showed; None: she logged in.
        user_id: the user that she is or acts as; None: a key with a subject of its own.
        root_id: against whom the keys count that she makes.
        environment_id: the environment of the key that she showed; None: it has none, or she logged in.
    """

    subject_id: str
    name: str
    tenant_id: str
    permission: Permission
    role: str
    root_id: str
    routes: tuple[str, ...] = ()
    key_id: str | None = None
    user_id: str | None = None
    environment_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Tell whether she may do to any key of the tenant what its owner may."""
        return self.permission is Permission.ADMIN

    def actor(self, source: str, request_id: str | None = None) -> Actor:
        """Return who the audit says it was."""
        return Actor(name=self.name, source=source, request_id=request_id)


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a key, as its record keeps it, and for whom the key is to act.

    ``acts_as`` None gives the key a subject of its own. ``root_id`` None is the operator, who knows
    no cap. ``user_id`` is the user who makes it, herself or by a key that acts as her; not in the record.
    """

    created_by: str
    created_by_key: str | None = None
    root_id: str | None = None
    acts_as: str | None = None
    sub_type: str = OWN_SUBJECT
    user_id: str | None = None


def maker(
    principal: Principal,
    *,
    as_subject: bool = False,
    external: bool = False,
    acting: Principal | None = None,
) -> Maker:
    """Return who makes a key when ``principal`` asks. Raises Forbidden.

    ``as_subject``: the key acts as she does, or as ``acting`` does where that is somebody else, by
    admins alone; it counts against her all the same. ``external``: it is an external client's, by
    admins alone.
    """
    acting = acting or principal
    if principal.permission < Permission.EDITOR:
        raise Forbidden("a viewer makes no keys: ask an editor or an admin")
    if external and not principal.is_admin:
        raise Forbidden("keys of external clients are made by admins alone")
    acts_as_user = as_subject and not external and acting.user_id is not None
    own = EXTERNAL_CLIENT if external else OWN_SUBJECT
    return Maker(
        created_by=principal.subject_id,
        created_by_key=principal.key_id,
        root_id=principal.root_id,
        acts_as=acting.subject_id if as_subject and not external else None,
        sub_type=ACTS_AS_USER if acts_as_user else own,
        user_id=principal.user_id,
    )


def check_makes_for_others(principal: Principal) -> None:
    """Raise Forbidden unless she may make keys that act as another user."""
    if not principal.is_admin:
        raise Forbidden("keys for somebody else are made by admins alone")


def check_grant(principal: Principal, role: Role) -> None:
    """Raise Forbidden unless ``principal`` may give a key this role."""
    if role.permission > min(principal.permission, Permission.EDITOR):
        raise Forbidden(f"a key with permission {principal.permission.word} cannot grant {role.name}")
    if not reaches(principal.routes, role.routes):
        raise Forbidden(f"the role {role.name} reaches further than the one that asks for it")


def environment(principal: Principal, wanted: str | None) -> str | None:
    """Return the environment of a key that ``principal`` makes: her own key's, or else what she wants.

    Raises Forbidden.
    """
    # A route may let one environment in, so that another one's key is more than she has.
    own = principal.environment_id
    if None not in (own, wanted) and own != wanted:
        raise Forbidden("a key of an environment makes keys of that environment alone")
    return own or wanted


def check_environment(principal: Principal, record: KeyRecord) -> None:
    """Raise Forbidden unless ``principal`` could have made this key where it is."""
    if principal.environment_id not in (None, record.environment_id):
        raise Forbidden("a key of an environment makes successors of keys of that environment alone")


def reaches(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Tell whether every path of ``inner`` is one of ``outer``; empty means everywhere."""
    if not outer:
        return True
    if not inner:
        return False
    return all(any(within(path.encode(), prefix.encode()) for prefix in outer) for path in inner)


def owns(principal: Principal, record: KeyRecord) -> bool:
    """Tell whether a key is hers: she made it, it acts as her, or it is the key that she showed."""
    return principal.subject_id in (record.created_by, record.subject_id)


def removes(principal: Principal, record: KeyRecord) -> bool:
    """Tell whether a key is gone when she deletes it: hers, and acting as no other user."""
    return owns(principal, record) and (
        record.sub_type != ACTS_AS_USER or record.subject_id == principal.subject_id
    )


def sees(principal: Principal, record: KeyRecord) -> bool:
    """Tell whether a key exists for her; another tenant's, and a removed one, do not."""
    return record.tenant_id == principal.tenant_id and record.removed_at is None


def check_tenant(principal: Principal, tenant_id: str) -> None:
    """Raise NotFound unless this is the tenant that she is in; whether there is another is not told."""
    if tenant_id != principal.tenant_id:
        raise NotFound("tenant", tenant_id)


def check_admin(principal: Principal) -> None:
    """Raise Forbidden unless she is an admin of her tenant, which only users are."""
    if not principal.is_admin:
        raise Forbidden("this is for admins of the organisation alone")


def check_manages(principal: Principal, record: KeyRecord) -> None:
    """Raise Forbidden unless she may change, rotate or end this key of her tenant."""
    if principal.is_admin:
        return
    if principal.permission < Permission.EDITOR:
        raise Forbidden("a viewer changes no keys: ask an editor or an admin")
    if not owns(principal, record):
        raise Forbidden("the key is somebody else's: its owner or an admin may change it")
