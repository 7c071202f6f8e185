"""A control listener with endpoints of the tests' own, asked byte by byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
import pytest
from aiohttp import web

from gateway.control.errors import Busy, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from gateway.control.grants import Principal
from gateway.control.http.authentication import Authentication
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Session
from gateway.control.http.listener import make_control
from gateway.control.http.serving import serve
from gateway.control.http.tiers import Tiers
from gateway.core.model import Permission
from gateway.core.refusals import Reason
from gateway.store.base import StoreError

SECRET = "a-secret-that-nobody-repeats"
HEAD = "Host: keys.test\r\nX-API-KEY: ann\r\n"


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    count: int = 0
    kind: Literal["one", "other"] = "one"
    ratio: float = 0.0
    items: tuple[Item, ...] = ()


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str | None = None
    limit: int = 5
    kind: Literal["one", "other"] = "one"


class Keys:
    """Knows three callers by the names that they show for keys."""

    async def principal_of_key(self, token: bytes) -> Principal:
        if token == b"off":
            raise Forbidden("keys of this holder are switched off at present")
        if token == b"ended":
            raise Unauthenticated(Reason.KEY_REVOKED)
        if token not in (b"ann", b"bob"):
            raise Unauthenticated(Reason.KEY_UNKNOWN)
        return _principal(token.decode(), token.decode())


class Logins:
    """Knows one login token, ``ann.login.token``."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def session_of(self, token: str) -> tuple[Principal, Session]:
        self.asked.append(token)
        if token != "ann.login.token":
            raise Unauthenticated(Reason.TOKEN_INVALID)
        return _principal("ann", None), Session(jti="j1", expires_at=0, user_id="ann")

    def csrf_token(self, jti: str) -> str:
        return f"proof-for-{jti}"


def _principal(name: str, key_id: str | None) -> Principal:
    return Principal(
        subject_id=name,
        name=name,
        tenant_id="t",
        permission=Permission.EDITOR,
        role="editor",
        root_id=name,
        key_id=key_id,
    )


RAISED = {
    "invalid": Invalid("name", "must be another"),
    "absent": NotFound("key", SECRET),
    "forbidden": Forbidden("ask an admin"),
    "conflict": Conflict("it exists already"),
    "busy": Busy("too much at once"),
    "store": StoreError(SECRET),
    "fault": RuntimeError(SECRET),
    "other": web.HTTPTeapot(text=SECRET) if hasattr(web, "HTTPTeapot") else web.HTTPGone(text=SECRET),
}


class Toys:
    """Endpoints that show how they were asked."""

    def __init__(self) -> None:
        self.calls = 0

    async def take(self, call: Call[Item, Wanted]) -> Answer:
        self.calls += 1
        return Answer(201, {"body": msgspec.to_builtins(call.body), "id": call.request_id})

    async def show(self, call: Call[None, Wanted]) -> Answer:
        self.calls += 1
        return Answer(content=msgspec.to_builtins(call.query) | {"path": dict(call.request.match_info)})

    async def who(self, call: Call[None, Wanted]) -> Answer:
        session = call.session
        told = {"subject": call.principal.subject_id, "actor": msgspec.to_builtins(call.actor)}
        return Answer(content=told | {"cookie": session.by_cookie if session else None})

    async def fail(self, call: Call[None, Wanted]) -> Answer:
        raise RAISED[call.path("how")]

    def endpoints(self) -> list[AnyEndpoint]:
        endpoints: list[AnyEndpoint] = [
            _endpoint("POST", "/items", self.take, body=Item),
            _endpoint("PUT", "/items", self.take, body=Item, body_optional=True),
            _endpoint("GET", "/items", self.show, query=Wanted),
            _endpoint("GET", "/items/{id}", self.show, query=Wanted),
            _endpoint("GET", "/who", self.who),
            _endpoint("DELETE", "/who", self.who),
            _endpoint("GET", "/fail/{how}", self.fail),
            _endpoint("GET", "/v1/fail/{how}", self.fail, shape="errors"),
            _endpoint("GET", "/open", self.show, query=Wanted, open=True),
        ]
        return endpoints


def _endpoint(method: str, path: str, handler: object, **fields: object) -> AnyEndpoint:
    operation = f"{method}{path}"
    given = {"operation": operation, "summary": operation, "answers": {}} | fields
    return Endpoint(method=method, path=path, handler=handler, **given)  # type: ignore[arg-type]


class Listener:
    """A running listener."""

    def __init__(self, port: int, toys: Toys, logins: Logins, runner: web.AppRunner) -> None:
        self.port, self.toys, self.logins, self.runner = port, toys, logins, runner

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: str | bytes) -> Got:
        """Send one request on a connection of its own and read one response."""
        reader, writer = await self.connect()
        writer.write(request.encode() if isinstance(request, str) else request)
        try:
            return await read_one(reader, head_only=request[:4] in ("HEAD", b"HEAD"))
        finally:
            writer.close()

    async def post(self, content: bytes | str, fields: str = "Content-Type: application/json\r\n") -> Got:
        body = content.encode() if isinstance(content, str) else content
        head = f"POST /items HTTP/1.1\r\n{HEAD}{fields}Content-Length: {len(body)}\r\n\r\n"
        return await self.ask(head.encode("latin-1") + body)

    async def get(self, target: str, fields: str = HEAD, method: str = "GET") -> Got:
        return await self.ask(f"{method} {target} HTTP/1.1\r\n{fields}\r\n")


class Got(msgspec.Struct):
    """A response as it was read."""

    status: int
    fields: dict[str, str]
    content: bytes

    @property
    def json(self) -> dict[str, object]:
        decoded = msgspec.json.decode(self.content)
        assert isinstance(decoded, dict)
        return decoded


async def read_one(reader: asyncio.StreamReader, *, head_only: bool = False) -> Got:
    """Read one response; framing is by Content-Length alone, which this listener always says."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.rstrip("\r\n").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        assert len(fields) == len(lines), "each field is said once"
        length = 0 if head_only or "content-length" not in fields else int(fields["content-length"])
        return Got(int(line.split(" ")[1]), fields, await reader.readexactly(length))


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    toys, logins = Toys(), Logins()
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    authentication = Authentication(
        Keys(),  # type: ignore[arg-type]
        logins,
        cookie="login",
        origins=(),
    )
    app = make_control(toys.endpoints(), authentication, Tiers(asyncio.get_running_loop().time))
    runner = await serve(app, bound, "gateway.control.tests", shutdown_s=0.1)
    yield Listener(bound.getsockname()[1], toys, logins, runner)
    await runner.cleanup()
