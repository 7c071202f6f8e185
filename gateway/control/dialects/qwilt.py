"""The dialect of ``000`` and ``001``: ``/api/1/api-keys``, keys that belong to an organisation.

The organisation is the one that the caller's token was made for. Imports its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.control.domain import DomainService, KeyWanted, KeyWish
from gateway.control.errors import Invalid, NotFound
from gateway.control.grants import Principal
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.lifetime import rfc3339
from gateway.store.base import DAY_MS, KeyRecord, KeyStatus
from gateway.store.listing import Place

LONGEST_TTL_DAYS = 365
DEFAULT_LIMIT = 100


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``000``: what a key is made of. ``ttl`` is in whole days."""

    name: str
    ttl: int
    permission: str
    description: str = ""


class Key(msgspec.Struct, frozen=True, rename="camel"):
    """``000``: a key as it is shown, without its token."""

    name: str
    description: str
    ttl: int
    permission: str
    key_id: str
    owner_id: str
    created_by: str
    created_at: str
    expire_at: str
    status: KeyStatus


class NewKeyShown(Key, frozen=True, rename="camel"):
    """``000``: a key with its token, which is shown this once."""

    api_token: str


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of the list: at most ``limit`` keys, those that follow the key ``after``."""

    limit: int = DEFAULT_LIMIT
    after: str | None = None


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
        if not 1 <= wanted.ttl <= LONGEST_TTL_DAYS:
            raise Invalid("ttl", f"must be a whole number of days from 1 to {LONGEST_TTL_DAYS}")
        wish = KeyWish(
            name=wanted.name,
            description=wanted.description,
            permission=wanted.permission,
            ttl=f"{wanted.ttl}d",
        )
        made = await self._service.create_key_as(call.principal, call.actor, wish)
        shown = await self._shown([made.record])
        return Answer(201, NewKeyShown(**msgspec.structs.asdict(shown[0]), api_token=made.token))

    async def list_keys(self, call: Call[None, Page]) -> Answer:
        """Return the organisation's keys, oldest first."""
        after = None
        if call.query.after is not None:
            after = (await self._record(call.principal, call.query.after)).id
        page = await self._service.list_keys_as(
            call.principal,
            KeyWanted(),
            Place(sort="number", descending=False, after=after),
            limit=call.query.limit,
        )
        return Answer(content=await self._shown(page.records))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show one key."""
        record = await self._record(call.principal, call.path("keyId"))
        return Answer(content=(await self._shown([record]))[0])

    async def revoke(self, call: Call[None, Nothing]) -> Answer:
        """Revoke one key; a second time changes nothing."""
        record = await self._record(call.principal, call.path("keyId"))
        revoked = await self._service.revoke_key_as(call.principal, call.actor, record.id)
        return Answer(content=(await self._shown([revoked.record]))[0])

    async def _record(self, principal: Principal, number: str) -> KeyRecord:
        raise NotFound("key", number)

    async def _shown(self, records: Sequence[KeyRecord]) -> list[Key]:
        now = self._service.now_ms()
        return [
            Key(
                name=record.name,
                description=record.description,
                ttl=-(-(record.expires_at - record.created_at) // DAY_MS),
                permission=record.role,
                key_id=str(record.number),
                owner_id=record.tenant_id,
                created_by=record.created_by,
                created_at=rfc3339(record.created_at),
                expire_at=rfc3339(record.expires_at),
                status=record.status(now),
            )
            for record in records
        ]
