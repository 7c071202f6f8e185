"""``004`` and subjects in process, over a real store with two tenants, on a clock that the test sets."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from aiohttp.test_utils import TestClient, TestServer

from gateway.control.dialects.key_permissions import KeyPermissions
from gateway.control.dialects.secret_key import SecretKeyDialect
from gateway.control.dialects.subjects import SubjectsDialect
from gateway.control.domain import DomainService
from gateway.control.errors import Unauthenticated
from gateway.control.grants import Principal
from gateway.control.http.authentication import Authentication
from gateway.control.http.endpoints import Session
from gateway.control.http.listener import make_control
from gateway.control.http.tiers import Tiers
from gateway.control.lifetime import rfc3339
from gateway.control.making import BUILT_IN_ROLES
from gateway.control.permissions import DataPath
from gateway.core.decision import Snapshot
from gateway.core.model import KeyTable, Permission, Role
from gateway.core.refusals import Reason
from gateway.core.routes import Route, Router
from gateway.store.base import Store
from tests.control.samples import ANN, DIGESTER, NOW_MS, FastHasher

TENANT, ELSEWHERE = "tenant_acme", "tenant_other"
ROLES = {
    "MediaEditor": Role("MediaEditor", Permission.EDITOR, ("/media",)),
    "MediaViewer": Role("MediaViewer", Permission.VIEWER, ("/media",)),
    "Boss": Role("Boss", Permission.ADMIN),
}
ROUTES = (
    Route("everything", "backend"),
    Route("search", "backend", path="/search", read_methods=frozenset({b"POST"})),
    Route("open", "backend", path="/open", anonymous=True),
    Route("theirs", "backend", path="/theirs", tenants=frozenset({ELSEWHERE})),
    Route("other host", "backend", path="/", host="other.test", roles=frozenset({"editor"})),
)
NOW = rfc3339(NOW_MS)


def later(**span: int) -> str:
    """Return the instant that is so much later than the tests' present one."""
    return rfc3339(NOW_MS + int(datetime.timedelta(**span).total_seconds() * 1000))


class Told(NamedTuple):
    """What came back; ``json`` without the request's id, which every fault has."""

    status: int
    json: Any
    headers: Mapping[str, str]


class _Logins:
    """Login tokens of the shape that real ones have, which prove whom the test says."""

    def __init__(self, service: DomainService) -> None:
        self._service = service
        self.bearers: dict[str, tuple[str, str]] = {}

    async def session_of(self, token: str) -> tuple[Principal, Session]:
        if token not in self.bearers:
            raise Unauthenticated(Reason.TOKEN_INVALID)
        email, tenant = self.bearers[token]
        person = await self._service.show_user(email)
        session = Session(jti=token, expires_at=NOW_MS + 3_600_000, user_id=person.user.id)
        return self._service.principal_of_user(person, tenant), session

    def csrf_token(self, jti: str) -> str:
        return ""


class Api:
    """Asks the control API; ``clock`` may be moved, and with it the data path's."""

    def __init__(self, store: Store, clock: list[float]) -> None:
        self.store, self.clock = store, clock
        self.service = DomainService(store, DIGESTER, FastHasher(), ROLES, clock=lambda: clock[0])
        self.logins = _Logins(self.service)
        self.table = KeyTable()
        self.table.synced_at, self.table.store_offset_s = clock[0], 0.0
        self.snapshot = Snapshot(Router(ROUTES), {**ROLES, **BUILT_IN_ROLES}, self.table, DIGESTER)
        self._client: TestClient[Any, Any] | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Api]:
        for tenant in (TENANT, ELSEWHERE):
            await self.service.add_tenant(ANN, tenant)
        await self.service.add_environment(ANN, "environment_prod", tenant=TENANT, prefix="qs_live_")
        await self.service.add_environment(ANN, "environment_theirs", tenant=ELSEWHERE)
        data_path = DataPath(lambda: self.snapshot, lambda: self.clock[0])
        endpoints = [
            *SecretKeyDialect(self.service).endpoints(),
            *KeyPermissions(self.service, data_path).endpoints(),
            *SubjectsDialect(self.service).endpoints(),
        ]
        authentication = Authentication(self.service, self.logins, cookie="login", origins=())
        application = make_control(endpoints, authentication, Tiers(lambda: self.clock[0]))
        async with TestClient(TestServer(application)) as self._client:
            yield self

    def wait(self, **span: int) -> None:
        """Let time pass, with the key table kept fresh."""
        self.clock[0] += datetime.timedelta(**span).total_seconds()
        self.table.synced_at = self.clock[0]

    async def user(self, role: str, name: str | None = None, tenant: str = TENANT) -> str:
        """Add a user and return her login token."""
        name = name or role
        await self.service.add_user(
            ANN, f"{name}@example.com", tenant=tenant, role=role, password="correct horse battery staple"
        )
        token = f"login.of-{name}.{tenant}"
        self.logins.bearers[token] = (f"{name}@example.com", tenant)
        return token

    def forget_role(self, name: str) -> None:
        """Take a role out of the configuration, for the service and the data path alike."""
        roles = {known: role for known, role in self.snapshot.roles.items() if known != name}
        self.snapshot = msgspec.structs.replace(self.snapshot, roles=roles)
        kept = {known: role for known, role in ROLES.items() if known != name}
        self.service = DomainService(self.store, DIGESTER, FastHasher(), kept, clock=lambda: self.clock[0])

    async def subject_of(self, name: str) -> str:
        """Return the id of a user."""
        return (await self.service.show_user(f"{name}@example.com")).user.id

    async def ask(self, method: str, path: str, who: str | None, body: Any = msgspec.UNSET) -> Told:
        """Send one request with a credential and JSON content, if any."""
        assert self._client is not None
        headers = {} if who is None else {"Authorization": f"BEARER {who}"}
        sent = {} if body is msgspec.UNSET else {"json": body}
        async with self._client.request(method, path, headers=headers, **sent) as response:
            content = await response.read()
            json = msgspec.json.decode(content) if content else None
            if response.status >= 400 and method != "HEAD":
                assert json.pop("request_id") == response.headers["X-Request-Id"]
                assert response.content_type == "application/problem+json"
            return Told(response.status, json, response.headers)

    async def made(self, who: str, **members: Any) -> dict[str, Any]:
        """Make a key and return what was told of it."""
        told = await self.ask("POST", "/api-keys", who, {"name": "a key"} | members)
        assert told.status == 201, told
        return dict(told.json)
