"""What a dialect declares: endpoints with the structs that validate their requests and shape their answers.

The same declaration serves the router and the OpenAPI description. Imports its own plane.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import msgspec
from aiohttp import web

from gateway.control.grants import Principal
from gateway.control.http.faults import Shape
from gateway.store.base import Actor

B = TypeVar("B")
Q = TypeVar("Q")

Tier = Literal["read", "write"]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No member, no parameter."""


class Session(msgspec.Struct, frozen=True):
    """The login that a request stands on.

    Attributes:
        jti: the id of its token.
        expires_at: when it ends, epoch milliseconds.
        user_id: whose it is.
        by_cookie: it came in the console's cookie, so that what changes something needs more proof.
    """

    jti: str
    expires_at: int
    user_id: str
    by_cookie: bool = False


class Call(msgspec.Struct, Generic[B, Q], frozen=True):
    """One request, read and authenticated.

    ``principal`` is who asks (on an open endpoint: nobody, and it must not be read). ``session`` is
    the login she asks with; None: a key.
    """

    request: web.Request
    body: B
    query: Q
    request_id: str
    source: str
    known: Principal | None = None
    session: Session | None = None

    @property
    def principal(self) -> Principal:
        """Return who asks."""
        assert self.known is not None, "an open endpoint has no principal"
        return self.known

    @property
    def actor(self) -> Actor:
        """Return who the audit says it was, and from where."""
        return self.principal.actor(self.source, self.request_id)

    def path(self, name: str) -> str:
        """Return a parameter of the path, decoded."""
        return self.request.match_info[name]


class Answer(msgspec.Struct, frozen=True):
    """What is told: ``content`` is encoded as JSON; None: no content."""

    status: int = 200
    content: Any = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Endpoint(Generic[B, Q]):
    """One method at one path.

    Attributes:
        path: with ``{name}`` for its parameters.
        operation: a name for the operation, unique; camelCase.
        handler: does it. Raises ServiceError, FaultError, StoreError.
        body: what its content is; None: it has none.
        body_optional: absent content stands for an empty object.
        query: its parameters.
        answers: status → what its content is (None: none; str: plain text), for those that are not faults.
        headers: field name → what it tells, for those answers.
        faults: the further statuses that are told in the dialect's shape.
        shape: how faults are told.
        open: nobody has to say who she is.
        basic: it is open, and reads Basic credentials itself.
        tag: under which heading it is described.
    """

    method: str
    path: str
    operation: str
    summary: str
    handler: Callable[[Call[B, Q]], Awaitable[Answer | web.Response]]
    answers: Mapping[int, Any]
    body: Any = None
    body_optional: bool = False
    query: type[Q] | type[Nothing] = Nothing
    faults: Sequence[int] = field(default=(400, 401, 403, 404, 429))
    shape: Shape = "problem"
    open: bool = False
    basic: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    tag: str = "keys"

    @property
    def tier(self) -> Tier:
        """Return against which rate it counts."""
        return "read" if self.method == "GET" else "write"


AnyEndpoint = Endpoint[Any, Any]
