"""The settings of a tenant's keys as ``003`` shows and changes them. Imports its own plane and ``core``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonpatch
import msgspec

from gateway.control.dialects.qlik_shapes import (
    ApiKeyConfigPatches,
    ApiKeysConfig,
    ConfigPatch,
)
from gateway.control.domain import DomainService
from gateway.control.errors import Forbidden, Invalid, NotFound
from gateway.control.grants import Principal
from gateway.control.http.endpoints import Answer, Call, Nothing
from gateway.control.lifetime import checked_maximum
from gateway.core.durations import iso8601
from gateway.core.policy import KeyPolicy

_SETTING_OF = {"scim_externalClient_expiry": "scim_client_expiry"}
"""The settings that ``003`` calls otherwise than the domain service does."""


class QlikConfigs:
    """``GET`` and ``PATCH`` of ``configs/{tenantId}``."""

    def __init__(self, service: DomainService) -> None:
        self._service = service

    async def show(self, call: Call[None, Nothing]) -> Answer:
        """Show what is in effect, to every member of the tenant."""
        return Answer(content=config_of(await self._policy(call.principal, call.path("tenantId"))))

    async def change(self, call: Call[list[ConfigPatch], Nothing]) -> Answer:
        """Change settings, by admins: the whole patch or nothing. New keys alone are bound."""
        before = await self._policy(call.principal, call.path("tenantId"))
        if not call.principal.is_admin:
            raise Forbidden("the settings of a tenant are changed by its admins alone")
        _check_durations(call.body)
        after = patched(msgspec.to_builtins(config_of(before)), call.body)
        # What the patch does not name is left to the gateway's own policy where it was.
        named = {operation["path"].removeprefix("/") for operation in msgspec.to_builtins(call.body)}
        changes = {_SETTING_OF.get(name, name): after[name] for name in sorted(named)}
        if changes:
            await self._service.set_tenant(call.actor, call.principal.tenant_id, **changes)
        return Answer(204)

    async def _policy(self, principal: Principal, tenant_id: str) -> KeyPolicy:
        if tenant_id != principal.tenant_id:
            raise NotFound("tenant", tenant_id)
        return self._service.policy_of(await self._service.show_tenant(tenant_id))


def config_of(policy: KeyPolicy) -> ApiKeysConfig:
    """Return settings as ``003`` shows them: durations in ISO 8601, however they were written."""
    return ApiKeysConfig(
        api_keys_enabled=policy.api_keys_enabled,
        max_keys_per_user=policy.max_keys_per_user,
        max_api_key_expiry=iso8601(policy.max_api_key_expiry),
        scim_external_client_expiry=iso8601(policy.scim_client_expiry),
    )


def patched(document: dict[str, Any], operations: Sequence[msgspec.Struct]) -> dict[str, Any]:
    """Return a document after a JSON Patch (RFC 6902) whose operations and paths are known to be allowed."""
    changed: Any = jsonpatch.JsonPatch(msgspec.to_builtins(operations)).apply(document)
    return dict(changed)


def checked_iso8601(text: str, *, member: str) -> str:
    """Return a duration if it is in the form that ``003`` reads, whatever it amounts to. Raises Invalid."""
    if not text.startswith("P"):
        raise Invalid(member, "must be an ISO 8601 duration, such as PT24H, P30D or P1Y")
    return text


def _check_durations(operations: ApiKeyConfigPatches) -> None:
    """Raise Invalid that names the operation whose value is no lifetime; also one that a later one undoes."""
    for at, operation in enumerate(msgspec.to_builtins(operations)):
        if operation["path"].endswith("_expiry"):
            member, aim = f"[{at}].value", operation["path"]
            try:
                checked_maximum(checked_iso8601(operation["value"], member=member), member=member)
            except Invalid as error:
                raise Invalid(member, f"for {aim} {error.reason}") from None
