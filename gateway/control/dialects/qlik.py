"""The dialect of ``003``: ``/v1/api-keys`` and ``/api/v1/api-keys``, keys that act as their users.

A key has no name there: it is called by the beginning of its description. Imports its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.control.dialects.qlik_configs import QlikConfigs, checked_iso8601, patched
from gateway.control.dialects.qlik_links import AFTER, BEFORE, links_of, place_of
from gateway.control.dialects.qlik_shapes import (
    ApiKey,
    ApiKeyBody,
    ApiKeyConfigPatches,
    ApiKeyPage,
    ApiKeyPatch,
    ApiKeyPatches,
    ApiKeysConfig,
    ApiKeysQuery,
    ApiKeyWithToken,
)
from gateway.control.domain import DomainService, KeyWanted, KeyWish
from gateway.control.errors import Forbidden, Invalid
from gateway.control.grants import EXTERNAL_CLIENT, Principal, check_manages, owns
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.lifetime import rfc3339
from gateway.control.names import LONGEST_NAME, checked_description
from gateway.store.base import KeyRecord

NAMELESS = "api-key"
_OPERATIONS = {"/v1": "", "/api/v1": "Api"}
"""Both paths that ``003`` writes → what tells the names of their operations apart."""


class QlikDialect:
    """The seven operations of ``003``, at both of its paths."""

    def __init__(self, service: DomainService, origin: str | None) -> None:
        """``origin`` is what links begin with; None: with the origin that was asked."""
        self._service = service
        self._configs = QlikConfigs(service)
        self._origin = origin

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [each for base, mark in _OPERATIONS.items() for each in self._endpoints_at(base, mark)]

    def _endpoints_at(self, base: str, mark: str) -> Sequence[AnyEndpoint]:
        keys, key, config = (f"{base}/api-keys{rest}" for rest in ("", "/{id}", "/configs/{tenantId}"))

        def endpoint(method: str, path: str, operation: str, **more: Any) -> AnyEndpoint:
            return Endpoint(
                method=method, path=path, operation=operation + mark, shape="errors", tag="user keys", **more
            )

        return [
            endpoint(
                "GET",
                keys,
                "listUserKeys",
                summary="List one's own keys; an admin's list holds all of the tenant's",
                handler=self.list_keys,
                query=ApiKeysQuery,
                answers={200: ApiKeyPage},
            ),
            endpoint(
                "POST",
                keys,
                "createUserKey",
                summary="Make a key that acts as its user; its token is shown this once",
                handler=self.create,
                body=ApiKeyBody,
                answers={201: ApiKeyWithToken},
            ),
            endpoint(
                "GET", key, "getUserKey", summary="Show one key", handler=self.show, answers={200: ApiKey}
            ),
            endpoint(
                "PATCH",
                key,
                "patchUserKey",
                summary="Change a key's description by a JSON Patch",
                handler=self.change,
                body=ApiKeyPatches,
                answers={204: None},
            ),
            endpoint(
                "DELETE",
                key,
                "deleteUserKey",
                summary="Remove a key of one's own; an admin revokes somebody else's",
                handler=self.delete,
                answers={204: None},
            ),
            endpoint(
                "GET",
                config,
                "getKeySettings",
                summary="Show the settings of the tenant's keys",
                handler=self._configs.show,
                answers={200: ApiKeysConfig},
            ),
            endpoint(
                "PATCH",
                config,
                "patchKeySettings",
                summary="Change the settings of the tenant's keys by a JSON Patch",
                handler=self._configs.change,
                body=ApiKeyConfigPatches,
                answers={204: None},
            ),
        ]

    async def list_keys(self, call: Call[None, ApiKeysQuery]) -> Answer:
        """Return one page of the keys that the caller may see."""
        query, place = call.query, place_of(call.query)
        wanted = KeyWanted(
            created_by=query.created_by_user or None,
            subject_id=query.sub or None,
            status=query.status or None,
            own=True,
        )
        try:
            page = await self._service.list_keys_as(call.principal, wanted, place, limit=query.limit)
        except Invalid as error:
            raise _renamed(error, "cursor", AFTER if place.before is None else BEFORE) from None
        data = [self._shown(record) for record in page.records]
        return Answer(content=ApiKeyPage(data, links_of(call.request, self._origin, page)))

    async def create(self, call: Call[ApiKeyBody, Nothing]) -> Answer:
        """Make a key that acts as the caller does; by admins also as another user, or an external client."""
        body, external = call.body, call.body.sub_type == EXTERNAL_CLIENT
        if external and body.sub is not UNSET:
            raise Invalid("sub", "is given by the gateway to an external client: leave it out")
        description = checked_description(body.description)
        wish = KeyWish(
            name=description[:LONGEST_NAME].strip() or NAMELESS,
            description=description,
            ttl=checked_iso8601(body.expiry, member="expiry") if body.expiry is not UNSET else None,
            as_subject=True,
            subject=body.sub or None,
            external=external,
            form="jwt",
        )
        try:
            made = await self._service.create_key_as(call.principal, call.actor, wish)
        except Invalid as error:
            raise _renamed(error, "ttl", "expiry") from None
        shown = msgspec.structs.asdict(self._shown(made.record))
        return Answer(201, ApiKeyWithToken(**shown, token=made.token))

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show one key to its owner, or to an admin."""
        return Answer(content=self._shown(await self._seen(call.principal, call.path("id"))))

    async def change(self, call: Call[list[ApiKeyPatch], Nothing]) -> Answer:
        """Change the description: the whole patch or nothing."""
        record = await self._service.show_key_as(call.principal, call.path("id"))
        check_manages(call.principal, record)
        for at, operation in enumerate(call.body):
            checked_description(operation.value, member=f"[{at}].value")
        after = patched({"description": record.description}, call.body)["description"]
        if call.body:
            await self._service.describe_key_as(call.principal, call.actor, record.id, after)
        return Answer(204)

    async def delete(self, call: Call[None, Nothing]) -> Answer:
        """Remove the key for its owner, or revoke it for an admin."""
        await self._service.remove_key_as(call.principal, call.actor, call.path("id"))
        return Answer(204)

    async def _seen(self, principal: Principal, key_id: str) -> KeyRecord:
        record = await self._service.show_key_as(principal, key_id)
        if not principal.is_admin and not owns(principal, record):
            raise Forbidden("the key is somebody else's: its owner or an admin may see it")
        return record

    def _shown(self, record: KeyRecord) -> ApiKey:
        return ApiKey(
            id=record.id,
            sub=record.subject_id,
            expiry=rfc3339(record.expires_at),
            status=record.status(self._service.now_ms()),
            created=rfc3339(record.created_at),
            # The document knows two kinds; what a key with a subject of its own acts as is a user to it.
            sub_type="externalClient" if record.sub_type == EXTERNAL_CLIENT else "user",
            tenant_id=record.tenant_id,
            description=record.description,
            last_updated=rfc3339(record.updated_at),
            last_used_at=None if record.last_used_at is None else rfc3339(record.last_used_at),
            created_by_user=record.created_by,
        )


def _renamed(error: Invalid, member: str, name: str) -> Invalid:
    """Return what was refused under the name that ``003`` has for the member."""
    return Invalid(name, error.reason) if error.member == member else error
