"""The domain service as the wire dialects call it: each operation in the name of a principal.

What the operator does by the command line, ``KeyService`` does without asking; here the rules of
``grants`` come first. Imports ``core``, ``store`` and its own plane.

Promise: a key of another tenant is not found, exactly as one that never was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.control import grants
from gateway.control.cold import ColdKeys
from gateway.control.errors import Forbidden, Invalid, NotFound, Unauthenticated
from gateway.control.grants import Principal
from gateway.control.making import CreatedKey
from gateway.control.minting import KeyFormat
from gateway.control.names import checked_description
from gateway.control.organisations import OrganisationService
from gateway.control.service import RevokedKey, RotatedKey
from gateway.core.model import Permission
from gateway.core.refusals import Reason
from gateway.store import people
from gateway.store.base import Actor, KeyRecord, KeyStatus, Person, UnknownEntityError
from gateway.store.lineage import makers
from gateway.store.listing import SORTS, KeyFilter, KeyPage, Place, key_page
from gateway.store.operations import change_key, key_by_digest, key_by_number

LARGEST_PAGE = 100


class KeyWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants of a new key; what is None is left to the rules.

    ``as_subject``: it acts as the caller does, instead of having a subject of its own; or, where an
    admin names the user ``subject``, as that user. ``form``: what its token is.
    """

    name: str
    description: str = ""
    permission: str | None = None
    ttl: str | None = None
    expires_at: str | None = None
    environment: str | None = None
    intended_use: str | None = None
    as_subject: bool = False
    subject: str | None = None
    external: bool = False
    form: KeyFormat = "opaque"


class KeyWanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys a caller wants to see; ``own``: only hers, where the dialect shows no others."""

    created_by: str | None = None
    subject_id: str | None = None
    status: KeyStatus | None = None
    own: bool = False


class DomainService(OrganisationService):
    """Keys in the name of a principal, besides her organisation; the actor says from where, for the audit.

    Attributes:
        cold: finds and proves keys whose digest is not known; None: nobody does.
    """

    cold: ColdKeys | None = None

    async def principal_of_key(self, token: bytes) -> Principal:
        """Return whom a key proves, as things stand now. Raises Unauthenticated, Forbidden, Busy."""
        record = await self._key_of(token)
        if record is None:
            raise Unauthenticated(Reason.KEY_UNKNOWN)
        status = record.status(self.now_ms())
        if status != "active":
            raise Unauthenticated(Reason.KEY_REVOKED if status == "revoked" else Reason.KEY_EXPIRED)
        tenant = await self.show_tenant(record.tenant_id)
        role = self._roles.get(record.role)
        if role is None or not self.policy_of(tenant).api_keys_enabled:
            raise Forbidden("keys of this holder are switched off at present")
        permission = min(record.permission, role.permission, Permission.EDITOR)
        user_id = None
        if record.sub_type == grants.ACTS_AS_USER:
            user_id = record.subject_id
            permission = min(permission, await self._standing(user_id, record.tenant_id))
        return Principal(
            subject_id=record.subject_id,
            name=record.id,
            tenant_id=record.tenant_id,
            permission=permission,
            role=role.name,
            routes=role.routes,
            key_id=record.id,
            user_id=user_id,
            root_id=record.root_id or record.subject_id,
            environment_id=record.environment_id,
        )

    def principal_of_user(self, person: Person, tenant_id: str) -> Principal:
        """Return a user as she is in a tenant now. Raises Forbidden when she is nothing there."""
        role = person.role_in(tenant_id)
        if role is None or person.user.disabled_at is not None:
            raise Forbidden("the user is not active in this organisation")
        return Principal(
            subject_id=person.user.id,
            name=person.user.email,
            tenant_id=tenant_id,
            permission=role,
            role=role.word,
            user_id=person.user.id,
            root_id=person.user.id,
        )

    async def create_key_as(self, principal: Principal, actor: Actor, wish: KeyWish) -> CreatedKey:
        """Make a key of the principal's tenant, with no more than she has.

        Raises Forbidden (a viewer asks, more than she has, over the cap, keys switched off),
        Invalid, NotFound (environment).
        """
        acting = await self._acting(principal, wish.subject)
        maker = grants.maker(principal, as_subject=wish.as_subject, external=wish.external, acting=acting)
        role = self._role(self._default_role(acting, wish))
        grants.check_grant(principal, role)
        return await self.create_key(
            actor,
            tenant=principal.tenant_id,
            name=wish.name,
            permission=role.name,
            ttl=wish.ttl,
            expires_at=wish.expires_at,
            environment=grants.environment(principal, wish.environment),
            description=wish.description,
            intended_use=wish.intended_use,
            form=wish.form,
            maker=maker,
        )

    async def show_key_as(self, principal: Principal, key_id: str) -> KeyRecord:
        """Return a key of the principal's tenant. Raises NotFound."""
        record = await self._store.key(key_id)
        if record is None or not grants.sees(principal, record):
            raise NotFound("key", key_id)
        return record

    async def show_numbered_key_as(self, principal: Principal, number: int) -> KeyRecord:
        """Return the key with a number in the principal's tenant. Raises NotFound."""
        record = await self.find_numbered_key(principal.tenant_id, number)
        if record is None or not grants.sees(principal, record):
            raise NotFound("key", str(number))
        return record

    async def find_numbered_key(self, tenant_id: str, number: int) -> KeyRecord | None:
        """Return the key with a number in a tenant, even a removed one."""
        return await self._store.read(key_by_number(tenant_id, number))

    async def makers_of(self, records: Sequence[KeyRecord]) -> dict[str, str]:
        """Return for each key of one tenant who made it, in words that say something to people.

        That is the address of the user; of a key that a key made, of the user at the root, or else
        that key's id; ``cli:…`` for the operator.
        """
        if not records:
            return {}
        numbers = [record.number for record in records]
        addresses = await self._store.read(makers(records[0].tenant_id, min(numbers), max(numbers)))
        return {record.id: _maker_of(record, addresses) for record in records}

    async def list_keys_as(
        self, principal: Principal, wanted: KeyWanted, place: Place, *, limit: int = 20
    ) -> KeyPage:
        """Return one page of the tenant's keys; with ``own`` only hers, unless she is an admin.

        Pages are stable while keys are added. Raises Invalid (limit, sort, a cursor of no page).
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise Invalid("limit", f"must be a whole number from 1 to {LARGEST_PAGE}")
        if place.sort not in SORTS:
            raise Invalid("sort", f"must be one of {', '.join(SORTS)}, with + or - in front")
        if place.after is not None and place.before is not None:
            raise Invalid("startingAfter", "and endingBefore exclude one another: give one of them")
        narrowed = KeyFilter(
            tenant_id=principal.tenant_id,
            created_by=wanted.created_by,
            subject_id=wanted.subject_id,
            status=wanted.status,
            own=principal.subject_id if wanted.own and not principal.is_admin else None,
        )
        try:
            return await self._store.read(key_page(narrowed, place, limit, self.now_ms()))
        except UnknownEntityError:
            raise Invalid("cursor", "is not a key of this list") from None

    async def describe_key_as(
        self, principal: Principal, actor: Actor, key_id: str, description: str
    ) -> KeyRecord:
        """Change a key's description. Raises NotFound, Forbidden, Invalid."""
        await self._managed(principal, key_id)
        changed = checked_description(description)
        audit = self._audit(actor, "key.update", "key", key_id, principal.tenant_id)
        try:
            return await self._store.write(change_key(key_id, changed, self.now_ms(), audit))
        except UnknownEntityError:
            raise NotFound("key", key_id) from None

    async def revoke_key_as(
        self, principal: Principal, actor: Actor, key_id: str, *, descendants: bool = False
    ) -> RevokedKey:
        """Revoke a key of one's own, or any as an admin. Raises NotFound, Forbidden."""
        await self._managed(principal, key_id)
        return await self.revoke_key(actor, key_id, descendants=descendants)

    async def remove_key_as(self, principal: Principal, actor: Actor, key_id: str) -> bool:
        """Remove a key as its owner, or revoke somebody else's as an admin; tell whether it is removed.

        A removed key is refused for ever and no longer shown; one that she made for another user is
        that user's, and revoked. Raises NotFound, Forbidden.
        """
        record = await self._managed(principal, key_id)
        if grants.removes(principal, record):
            await self.remove_key(actor, key_id)
            return True
        await self.revoke_key(actor, key_id)
        return False

    async def rotate_key_as(
        self, principal: Principal, actor: Actor, key_id: str, *, overlap: str | None = None
    ) -> RotatedKey:
        """Make a successor of a key, no stronger than the principal. Raises NotFound, Forbidden, Invalid."""
        record = await self._managed(principal, key_id)
        role = self._roles.get(record.role)
        if role is None:
            raise Forbidden(f"the role {record.role!r} is no longer configured")
        grants.check_grant(principal, role)
        grants.check_environment(principal, record)
        wanted = {} if overlap is None else {"overlap": overlap}
        return await self.rotate_key(actor, key_id, maker=grants.maker(principal), **wanted)

    async def _key_of(self, token: bytes) -> KeyRecord | None:
        """Return the key that a token is, by its digest under any pepper that is here. Raises Busy."""
        for digest in self._digester.digests(token).values():
            record = await self._store.read(key_by_digest(digest))
            if record is not None:
                return record
        return await self.cold.key_of(token) if self.cold is not None else None

    async def _managed(self, principal: Principal, key_id: str) -> KeyRecord:
        record = await self.show_key_as(principal, key_id)
        grants.check_manages(principal, record)
        return record

    async def _acting(self, principal: Principal, subject: str | None) -> Principal:
        """Return as whom a key is to act: as ``principal`` unless another user is named.

        Raises Forbidden (she is no admin), Invalid (nobody who is active in the tenant).
        """
        if subject in (None, principal.subject_id):
            return principal
        grants.check_makes_for_others(principal)
        person = await self._store.read(people.person(subject))
        try:
            if person is not None:
                return self.principal_of_user(person, principal.tenant_id)
        except Forbidden:
            pass  # told in the same words: another tenant's users are nobody here
        raise Invalid("sub", "is no active user of this tenant")

    async def _standing(self, user_id: str, tenant_id: str) -> Permission:
        """Return what a user is in a tenant now. Raises Forbidden when nothing."""
        person = await self._store.read(people.person(user_id))
        role = person.role_in(tenant_id) if person is not None else None
        if person is None or role is None or person.user.disabled_at is not None:
            raise Forbidden("the user for whom this key acts is not active here")
        return role

    def _default_role(self, principal: Principal, wish: KeyWish) -> str:
        if wish.permission is not None:
            if wish.as_subject:
                raise Invalid("permission", "is the subject's own for a key that acts as its subject")
            return wish.permission
        if not wish.as_subject:
            return Permission.VIEWER.word
        return principal.role if principal.key_id else min(principal.permission, Permission.EDITOR).word


def _maker_of(record: KeyRecord, addresses: Mapping[str, str]) -> str:
    if record.created_by in addresses:
        return addresses[record.created_by]
    if record.created_by_key is None:
        return record.created_by
    return addresses.get(record.root_id or "", record.created_by_key)
