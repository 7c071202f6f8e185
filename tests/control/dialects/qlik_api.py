"""The control API in process as clients of ``003`` use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import yarl
from aiohttp.test_utils import TestClient, TestServer

from gateway.control.dialects.qlik import QlikDialect
from gateway.control.http.authentication import Authentication
from gateway.control.http.listener import make_control
from gateway.control.http.tiers import Tiers
from gateway.control.signing import Signing
from gateway.store.base import SigningKey
from gateway.store.operations import audit_row
from gateway.store.signing import keep_signing_key
from tests.control.dialects.tenancy import ELSEWHERE, TENANT, Api, Told
from tests.control.samples import ANN, DIGESTER, NOW_MS

KEYS, CONFIG = "/v1/api-keys", f"/v1/api-keys/configs/{TENANT}"


_signing_key: list[SigningKey] = []


class QlikApi(Api):
    """Asks as it is spelt: targets are sent byte for byte, faults are held to the shape of ``003``."""

    @asynccontextmanager
    async def serving(self, *origins: str) -> AsyncIterator[QlikApi]:
        for tenant in (TENANT, ELSEWHERE):
            await self.service.add_tenant(ANN, tenant)
        await self._keep_signing_key()
        application = make_control(
            QlikDialect(self.service, next(iter(origins), None)).endpoints(),
            Authentication(self.service, self.logins, cookie="login", origins=origins),
            Tiers(lambda: self.clock[0]),
        )
        async with TestClient(TestServer(application)) as self._client:
            yield self

    async def _keep_signing_key(self) -> None:
        """Give the store a key to sign with: one for all tests, since making one takes long."""
        if not _signing_key:
            _signing_key.append(await Signing(self.store, DIGESTER).ensure(ANN))
        audit = audit_row(ANN, "signing_key.create", "signing_key", _signing_key[0].kid, NOW_MS)
        await self.store.write(keep_signing_key(_signing_key[0], audit, rotate=False))

    @property
    def origin(self) -> str:
        """Where the server is."""
        assert self._client is not None
        return str(self._client.make_url("/")).removesuffix("/")

    async def ask(self, method: str, path: str, who: str | None, body: Any = msgspec.UNSET) -> Told:
        """Send one request; ``body`` is sent as JSON, bytes as they are."""
        assert self._client is not None
        headers = {} if who is None else {"Authorization": f"BEARER {who}"}
        if body is not msgspec.UNSET:
            headers["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else msgspec.json.encode(body)
        url = yarl.URL(self.origin + path, encoded=True)
        sent = {} if body is msgspec.UNSET else {"data": body}
        async with self._client.session.request(method, url, headers=headers, **sent) as response:
            content = await response.read()
            json = msgspec.json.decode(content) if content else None
            if response.status >= 400:
                json = _fault(json, response.status, response.headers["X-Request-Id"])
            return Told(response.status, json, response.headers)

    async def made(self, who: str, **members: Any) -> dict[str, Any]:
        """Make a key and return what was told of it."""
        told = await self.ask("POST", KEYS, who, {"description": "a key"} | members)
        assert told.status == 201, told
        return dict(told.json)

    async def ids(self, who: str, query: str = "") -> list[str]:
        """Return the ids of a page, in its order."""
        told = await self.ask("GET", f"{KEYS}?{query}" if query else KEYS, who)
        assert told.status == 200, told
        return [key["id"] for key in told.json["data"]]

    async def statuses(self, *asked: Any) -> list[int]:
        """Return the statuses of requests that are sent at once."""
        return [told.status for told in await asyncio.gather(*asked)]


def _fault(json: Any, status: int, request_id: str) -> Any:
    """Return the one error of a fault, held to its shape."""
    (error,) = json.pop("errors")
    assert json == {}
    assert {"code", "title", "detail", "status"} <= set(error), error
    assert (error["status"], error.pop("meta")) == (status, {"requestId": request_id})
    return error
