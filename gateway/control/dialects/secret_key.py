"""The dialect of ``004``: ``/api-keys``, keys of a tenant whose identities can be given roles and checked.

Every key has a subject of its own, and may be rotated: a successor lives beside it for a while.
Imports its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.control import grants
from gateway.control.dialects.secret_key_shapes import (
    Key,
    KeyPage,
    KeyRevoked,
    NewKey,
    NewKeyShown,
    Rotation,
    shown,
    shown_once,
    shown_revoked,
)
from gateway.control.domain import LARGEST_PAGE, DomainService, KeyWanted, KeyWish
from gateway.control.errors import Invalid, NotFound
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.members import Cursor, Limit
from gateway.control.making import CreatedKey
from gateway.store.listing import Place

KEYS, KEY = "/api-keys", "/api-keys/{id}"


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the list: at most ``limit`` keys, those that follow the key ``after``."""

    limit: Limit = LARGEST_PAGE
    after: Cursor | None = None


class Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the keys that the key made, those that they made, and their successors end with it."""

    descendants: Literal["true", "false"] = "false"


class SecretKeyDialect:
    """The operations of ``/api-keys`` that make, show and end keys."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [*self._of_all(), *self._of_one()]

    def _of_all(self) -> Sequence[AnyEndpoint]:
        return [
            Endpoint(
                method="POST",
                path=KEYS,
                operation="createKey",
                summary="Make a key of the tenant; its secret is shown this once",
                handler=self.create,
                body=NewKey,
                answers={201: NewKeyShown},
            ),
            Endpoint(
                method="GET",
                path=KEYS,
                operation="listKeys",
                summary="List the keys of the tenant, oldest first",
                handler=self.list_keys,
                query=Page,
                answers={200: KeyPage},
            ),
        ]

    def _of_one(self) -> Sequence[AnyEndpoint]:
        return [
            Endpoint(
                method="GET",
                path=KEY,
                operation="getKey",
                summary="Show one key",
                handler=self.show,
                answers={200: Key},
            ),
            Endpoint(
                method="DELETE",
                path=KEY,
                operation="revokeKey",
                summary="Revoke a key for good; a second time changes nothing",
                handler=self.revoke,
                query=Revocation,
                answers={200: KeyRevoked},
            ),
            Endpoint(
                method="POST",
                path=f"{KEY}/rotate",
                operation="rotateKey",
                summary="Make a successor of a key, whose secret is shown this once; the old key ends",
                handler=self.rotate,
                body=Rotation,
                body_optional=True,
                answers={201: NewKeyShown},
                faults=(400, 401, 403, 404, 409, 429),
            ),
        ]

    async def create(self, call: Call[NewKey, Nothing]) -> Answer:
        """Make a key with a subject of its own."""
        wanted = call.body
        if wanted.tenant_id is not None:
            grants.check_tenant(call.principal, wanted.tenant_id)
        wish = KeyWish(
            name=wanted.name,
            description=wanted.description or "",
            permission=wanted.permission,
            expires_at=wanted.expires_at,
            environment=wanted.environment_id,
            intended_use=wanted.intended_use,
        )
        try:
            made = await self._service.create_key_as(call.principal, call.actor, wish)
        except NotFound as error:
            if error.kind != "environment":
                raise
            raise Invalid("environmentId", "is not an environment of this tenant") from None
        return self._made(made, permission=wanted.permission)

    async def list_keys(self, call: Call[None, Page]) -> Answer:
        """Return the tenant's keys, whoever made them; keys that are made meanwhile come at the end."""
        place = Place(sort="number", descending=False, after=call.query.after)
        try:
            page = await self._service.list_keys_as(
                call.principal, KeyWanted(), place, limit=call.query.limit
            )
        except Invalid as error:
            if error.member != "cursor":
                raise
            raise Invalid("after", error.reason) from None
        now = self._service.now_ms()
        following = page.records[-1].id if page.more_after else None
        return Answer(content=KeyPage([shown(record, now) for record in page.records], following))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show one key."""
        record = await self._service.show_key_as(call.principal, call.path("id"))
        return Answer(content=shown(record, self._service.now_ms()))

    async def revoke(self, call: Call[None, Revocation]) -> Answer:
        """Revoke one key, with what descends from it if that is wanted, and show it as it is now."""
        with_descendants = call.query.descendants == "true"
        revoked = await self._service.revoke_key_as(
            call.principal, call.actor, call.path("id"), descendants=with_descendants
        )
        return Answer(content=shown_revoked(revoked, self._service.now_ms()))

    async def rotate(self, call: Call[Rotation, Nothing]) -> Answer:
        """Make a successor with the same subject, role and limits."""
        rotated = await self._service.rotate_key_as(
            call.principal, call.actor, call.path("id"), overlap=call.body.overlap
        )
        return self._made(rotated.successor)

    def _made(self, made: CreatedKey, *, permission: str | None = None) -> Answer:
        return Answer(201, shown_once(made, self._service.now_ms(), permission=permission))
