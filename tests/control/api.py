"""The whole control API in process, over a real store, on a clock that the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiohttp.test_utils import TestClient, TestServer

from gateway.control.assembly import control_api
from gateway.control.domain import DomainService
from gateway.control.errors import Unauthenticated
from gateway.control.grants import Principal
from gateway.control.http.endpoints import Session
from gateway.core.refusals import Reason
from gateway.store import people
from gateway.store.base import Person, Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, ROLES, FastHasher

PASSWORD = "correct horse battery staple"
COOKIE = "login"


class Told(NamedTuple):
    """What came back."""

    status: int
    json: Any
    headers: Mapping[str, str]


class FakeLogins:
    """Login tokens of the shape that real ones have, which prove whom the test says."""

    def __init__(self, service: DomainService) -> None:
        self._service = service
        self.bearers: dict[str, tuple[str, str]] = {}

    def log_in(self, person: Person, tenant: str) -> str:
        token = f"login.{person.user.id}.{tenant}"
        self.bearers[token] = (person.user.id, tenant)
        return token

    async def session_of(self, token: str) -> tuple[Principal, Session]:
        if token not in self.bearers:
            raise Unauthenticated(Reason.TOKEN_INVALID)
        user_id, tenant = self.bearers[token]
        person = await self._service._store.read(people.person(user_id))
        assert person is not None
        session = Session(jti=token, expires_at=NOW_MS + 3_600_000, user_id=user_id)
        return self._service.principal_of_user(person, tenant), session

    def csrf_token(self, jti: str) -> str:
        return f"csrf of {jti}"


class Api:
    """Asks the control API in the name of whom the test says."""

    def __init__(self, store: Store, clock: list[float]) -> None:
        self.store, self.clock = store, clock
        self.service = DomainService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0])
        self.logins = FakeLogins(self.service)
        self._options = {"cookie": COOKIE, "origins": (), "secure": False}
        self.client: TestClient[Any, Any]

    @asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator[Api]:
        app = control_api(self.service, self.logins, **self._options, **options)
        async with TestClient(TestServer(app)) as self.client:
            yield self

    async def user(self, name: str, role: str, tenant: str = "default") -> str:
        """Add a user, or have one join a tenant; return a login token of hers for it."""
        email = f"{name}@example.com"
        known = await self.service.find_user(email)
        person = await self.service.add_user(
            ANN, email, tenant=tenant, role=role, password=None if known else PASSWORD
        )
        return self.logins.log_in(person, tenant)

    async def id_of(self, name: str) -> str:
        return (await self.service.show_user(f"{name}@example.com")).user.id

    async def ask(
        self,
        method: str,
        path: str,
        who: str | None = None,
        body: Any = msgspec.UNSET,
        headers: Mapping[str, str] | None = None,
    ) -> Told:
        """Send one request with a credential and JSON content, if any; faults have the API's shape."""
        shown = {} if who is None else {"Authorization": f"BEARER {who}"}
        sent = {} if body is msgspec.UNSET else {"json": body}
        given = {**shown, **(headers or {})}
        async with self.client.request(
            method, path, headers=given, allow_redirects=False, **sent
        ) as response:
            content = await response.read()
            json = msgspec.json.decode(content) if content else None
            if response.status >= 400 and method != "HEAD" and not path.startswith(("/v1/", "/api/v1/")):
                assert response.content_type == "application/problem+json", content
                assert json["status"] == response.status
                assert json["request_id"] == response.headers["X-Request-Id"]
            return Told(response.status, json, response.headers)

    async def made(self, who: str, **members: Any) -> dict[str, Any]:
        """Make an organisation's key and return what was told of it."""
        wanted = {"name": "a key", "ttl": 30, "permission": "viewer"} | members
        told = await self.ask("POST", "/api/1/api-keys", who, wanted)
        assert told.status == 201, told
        return dict(told.json)
