"""``004``: ``/api-keys/{id}/permissions``, what a key may do at the proxy.

Imports its own plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.control.domain import DomainService
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint
from gateway.control.http.faults import Fault, FaultError
from gateway.control.permissions import DataPath, read_request
from gateway.core.http1 import METHODS

_METHODS = sorted(method.decode() for method in METHODS)
# Visible ASCII less "#<> throughout, and less the backslash before the query.
_TARGET = {"pattern": r"^/[!$-;=@-\[\]-~]*(\?[!$-;=?-~]*)?$"}


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The request that is asked about: its method and path as in a request line, and its Host."""

    method: Annotated[str, Meta(description="As in a request line.", extra_json_schema={"enum": _METHODS})]
    path: Annotated[
        str, Meta(description="With its query, escaped as in a request line.", extra_json_schema=_TARGET)
    ]
    host: Annotated[str, Meta(description="The Host that chooses the route.")] = "localhost"


class Judged(msgspec.Struct, frozen=True):
    """Whether a key may do it.

    ``reason`` is the code of the refusal that the proxy would answer with, null when it would forward.
    ``permission`` is what the key may do at all, null when its role or its holder is gone. ``route``
    is told to those whom it lets in.
    """

    allowed: bool
    reason: str | None
    permission: Literal["viewer", "editor"] | None
    route: str | None


class KeyPermissions:
    """The one operation of ``/api-keys/{id}/permissions``."""

    def __init__(self, service: DomainService, data_path: DataPath | None) -> None:
        """Take how the data path is seen; None: it is not seen from here."""
        self._service = service
        self._data_path = data_path

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="GET",
                path="/api-keys/{id}/permissions",
                operation="checkKeyPermissions",
                summary="Tell whether the proxy would let a request with this key pass, and why not",
                handler=self.judge,
                query=Request,
                answers={200: Judged},
            )
        ]

    async def judge(self, call: Call[None, Request]) -> Answer:
        """Judge one request as the proxy would."""
        record = await self._service.show_key_as(call.principal, call.path("id"))
        head = read_request(call.query.method, call.query.path, call.query.host)
        if self._data_path is None:
            detail = "No data path is served by this process: ask one that serves it."
            raise FaultError(Fault(503, "not_ready", "Not ready", detail))
        judged = await self._service.judge_key(record, head, self._data_path)
        return Answer(
            content=Judged(
                allowed=judged.reason is None,
                reason=judged.reason,
                permission=judged.permission.word if judged.permission else None,  # type: ignore[arg-type]
                route=judged.route,
            )
        )
