"""What ``003`` says and is told: the structs of its requests and answers, member by member.

Imports its own plane.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.control.http.members import Instant, IsoLifetime, Limit, Text, Url
from gateway.core.policy import MOST_KEYS_PER_USER
from gateway.store.base import KeyStatus

MOST_OPERATIONS = 20
DEFAULT_LIMIT = 20
SORTED_BY = ("createdByUser", "sub", "status", "description", "created")

Id = Annotated[str, Meta(min_length=1, max_length=200)]
SubType = Literal["user", "externalClient"]
Sort = Annotated[
    str,
    Meta(
        description="What to sort by; + or - in front, or none, which is +.",
        extra_json_schema={"enum": [f"{sign}{name}" for name in SORTED_BY for sign in ("", "+", "-")]},
    ),
]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``003``: a key as it is shown, without its token.

    ``lastUsedAt`` may be some minutes old; null: never used.
    """

    id: str
    sub: str
    expiry: Instant
    status: KeyStatus
    created: Instant
    sub_type: SubType
    tenant_id: str
    description: str
    last_updated: Instant
    last_used_at: Instant | None
    created_by_user: str


class ApiKeyWithToken(ApiKey, frozen=True, kw_only=True, rename="camel"):
    """``003``: a key with its token, a signed JWT, which is shown this once."""

    token: str


class ApiKeyBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """``003``: what a key is made of. Without ``expiry`` it lives as long as the tenant's keys may."""

    description: Text
    sub: Id | UnsetType = UNSET
    expiry: IsoLifetime | UnsetType = UNSET
    sub_type: SubType = "user"


class ApiKeysQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """``003``: which keys are wanted, in which order; at most one of the two cursors."""

    created_by_user: Id | UnsetType = UNSET
    ending_before: Id | UnsetType = UNSET
    limit: Limit = DEFAULT_LIMIT
    sort: Sort = "-created"
    starting_after: Id | UnsetType = UNSET
    status: KeyStatus | UnsetType = UNSET
    sub: Id | UnsetType = UNSET


class Link(msgspec.Struct, frozen=True):
    """Where a page is."""

    href: Url


class Links(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a page and its neighbours are; a neighbour is named where it has keys."""

    self: Link
    next: Link | UnsetType = UNSET
    prev: Link | UnsetType = UNSET


class ApiKeyPage(msgspec.Struct, frozen=True):
    """``003``: some keys, and the way to the others."""

    data: list[ApiKey]
    links: Links


class ApiKeyPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``003``: one operation of a JSON Patch on a key."""

    op: Literal["replace"]
    path: Literal["/description"]
    value: Text


ApiKeyPatches = Annotated[list[ApiKeyPatch], Meta(max_length=MOST_OPERATIONS)]


class ApiKeysConfig(msgspec.Struct, frozen=True):
    """``003``: the settings of a tenant's keys that are in effect."""

    api_keys_enabled: bool
    max_keys_per_user: int
    max_api_key_expiry: IsoLifetime
    scim_external_client_expiry: IsoLifetime = msgspec.field(name="scim_externalClient_expiry")


class _Replace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="path"):
    """What every operation of a JSON Patch on a tenant's settings has; its path says which."""

    op: Literal["replace"]


class PatchEnabled(_Replace, frozen=True, tag="/api_keys_enabled"):
    """Switch a tenant's keys on or off."""

    value: bool


class PatchCap(_Replace, frozen=True, tag="/max_keys_per_user"):
    """Set how many active keys each user may have made."""

    value: Annotated[int, Meta(ge=0, le=MOST_KEYS_PER_USER)]


class PatchLongest(_Replace, frozen=True, tag="/max_api_key_expiry"):
    """Set the longest that a key may live."""

    value: IsoLifetime


class PatchExternal(_Replace, frozen=True, tag="/scim_externalClient_expiry"):
    """Set the longest that the key of an external client may live."""

    value: IsoLifetime


ConfigPatch = PatchEnabled | PatchCap | PatchLongest | PatchExternal
ApiKeyConfigPatches = Annotated[list[ConfigPatch], Meta(max_length=MOST_OPERATIONS)]
