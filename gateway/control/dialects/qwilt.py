"""The dialect of ``000`` and ``001``: ``/api/1/api-keys``, keys that belong to an organisation.

The organisation is the one that the caller's token was made for. Imports its own plane.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from gateway.control.domain import DomainService, KeyWanted, KeyWish
from gateway.control.errors import Invalid, NotFound
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.members import Cursor, Days, Instant, Limit, Name, RoleName, Text
from gateway.control.lifetime import rfc3339
from gateway.store.base import DAY_MS, KeyRecord, KeyStatus
from gateway.store.listing import Place

DEFAULT_LIMIT = 100
# The number of a key as it is shown, and no other spelling of it; the store counts in 64 bits.
_KEY_ID = re.compile(r"[1-9][0-9]{0,17}")


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``000``: what a key is made of. ``ttl`` is in whole days."""

    name: Name
    ttl: Days
    permission: RoleName
    description: Text = ""


class Key(msgspec.Struct, frozen=True, rename="camel"):
    """``000``: a key as it is shown, without its token.

    ``createdBy`` is the address of whoever made it; of a key that a key made, of the user at the root.
    ``lastUsedAt`` may be some minutes old; null: never used.
    """

    name: str
    description: str
    ttl: int
    permission: str
    key_id: str
    owner_id: str
    created_by: str
    created_at: Instant
    expire_at: Instant
    last_used_at: Instant | None
    status: KeyStatus


class NewKeyShown(Key, frozen=True, rename="camel"):
    """``000``: a key with its token, which is shown this once."""

    api_token: str


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the list: at most ``limit`` keys, those that follow the key ``after``."""

    limit: Limit = DEFAULT_LIMIT
    after: Cursor | None = None


class QwiltDialect:
    """The four operations of ``/api/1/api-keys``."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        keys, key = "/api/1/api-keys", "/api/1/api-keys/{keyId}"
        return [
            Endpoint(
                method="POST",
                path=keys,
                operation="createOrganisationKey",
                summary="Make a key of the organisation; its token is shown this once",
                handler=self.create,
                body=NewKey,
                answers={201: NewKeyShown},
            ),
            Endpoint(
                method="GET",
                path=keys,
                operation="listOrganisationKeys",
                summary="List the keys of the organisation",
                handler=self.list_keys,
                query=Page,
                answers={200: list[Key]},
            ),
            Endpoint(
                method="GET",
                path=key,
                operation="getOrganisationKey",
                summary="Show one key",
                handler=self.show,
                answers={200: Key},
            ),
            Endpoint(
                method="DELETE",
                path=key,
                operation="revokeOrganisationKey",
                summary="Revoke a key for good",
                handler=self.revoke,
                answers={200: Key},
            ),
        ]

    async def create(self, call: Call[NewKey, Nothing]) -> Answer:
        """Make a key with a subject of its own."""
        wanted = call.body
        wish = KeyWish(
            name=wanted.name,
            description=wanted.description,
            permission=wanted.permission,
            ttl=f"{wanted.ttl}d",
        )
        made = await self._service.create_key_as(call.principal, call.actor, wish)
        (shown,) = await self._shown([made.record])
        # The permission as it was asked for, in whichever case: clients compare.
        told = msgspec.structs.asdict(shown) | {"permission": wanted.permission}
        return Answer(201, NewKeyShown(**told, api_token=made.token))

    async def list_keys(self, call: Call[None, Page]) -> Answer:
        """Return the organisation's keys, oldest first."""
        after = None
        if call.query.after is not None:
            after = await self._cursor(call, call.query.after)
        page = await self._service.list_keys_as(
            call.principal,
            KeyWanted(),
            Place(sort="number", descending=False, after=after),
            limit=call.query.limit,
        )
        return Answer(content=await self._shown(page.records))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show one key."""
        return Answer(content=(await self._shown([await self._asked_for(call)]))[0])

    async def revoke(self, call: Call[None, Nothing]) -> Answer:
        """Revoke one key; a second time changes nothing."""
        record = await self._asked_for(call)
        revoked = await self._service.revoke_key_as(call.principal, call.actor, record.id)
        return Answer(content=(await self._shown([revoked.record]))[0])

    async def _asked_for(self, call: Call[None, Nothing]) -> KeyRecord:
        """Return the key that the path names. Raises NotFound."""
        shown = call.path("keyId")
        if not _KEY_ID.fullmatch(shown):
            raise NotFound("key", shown)
        return await self._service.show_numbered_key_as(call.principal, int(shown))

    async def _cursor(self, call: Call[None, Page], shown: str) -> str:
        """Return the key after which a page begins; one that was removed meanwhile keeps its place."""
        if _KEY_ID.fullmatch(shown):
            found = await self._service.find_numbered_key(call.principal.tenant_id, int(shown))
            if found is not None:
                return found.id
        raise Invalid("after", "is not the keyId of a key of this list")

    async def _shown(self, records: Sequence[KeyRecord]) -> list[Key]:
        now, makers = self._service.now_ms(), await self._service.makers_of(records)
        return [
            Key(
                name=record.name,
                description=record.description,
                ttl=-(-(record.expires_at - record.created_at) // DAY_MS),
                permission=record.role,
                key_id=str(record.number),
                owner_id=record.tenant_id,
                created_by=makers[record.id],
                created_at=rfc3339(record.created_at),
                expire_at=rfc3339(record.expires_at),
                last_used_at=None if record.last_used_at is None else rfc3339(record.last_used_at),
                status=record.status(now),
            )
            for record in records
        ]
