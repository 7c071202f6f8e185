"""A client of the control plane: it keeps status, field lines and bodies, and hides nothing."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.cookies
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

COOKIE = "cqloudLoginToken"
Fields = Iterable[tuple[str, str]]
_NOTHING: Any = object()


@dataclass
class Answer:
    """One response of the control plane or of the proxy."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for other, value in self.fields if other.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        """Return the value of a field that may stand there once; None without it."""
        values = self.values(name)
        assert len(values) < 2, f"{name} is repeated: {values}"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        assert "json" in (self.value("content-type") or ""), self
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def expect(self, *statuses: int) -> Answer:
        assert self.status in statuses, f"expected {statuses}, got {self.status}: {self.body[:600]!r}"
        return self


def call(
    port: int,
    method: str,
    target: str,
    *,
    fields: Fields = (),
    body: bytes | None = None,
    source: str | None = None,
    timeout: float = 20.0,
) -> Answer:
    """Send one request on a connection of its own and return what came."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=timeout, source_address=(source, 0) if source else None
    )
    with contextlib.closing(connection):
        sent = list(fields)
        named = any(name.lower() == "host" for name, _ in sent)
        connection.putrequest(method, target, skip_host=named, skip_accept_encoding=True)
        for name, value in sent:
            connection.putheader(name, value.encode("latin-1"))
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())


@dataclass
class Caller:
    """A credential, and how it is presented to the control plane; ``writes`` counts against its tier."""

    port: int
    token: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    user_id: str = ""
    email: str = ""
    tenant: str = ""
    writes: int = 0

    def ask(
        self,
        method: str,
        target: str,
        content: Any = _NOTHING,
        *,
        body: bytes | None = None,
        fields: Fields = (),
        **options: Any,
    ) -> Answer:
        """Ask with ``content`` as JSON, or with ``body`` as it is and no content type but a given one."""
        if method not in ("GET", "HEAD", "OPTIONS"):
            self.writes += 1
        sent = [*self.fields, *fields]
        if content is not _NOTHING:
            body = json.dumps(content).encode()
            sent.append(("Content-Type", "application/json"))
        return call(self.port, method, target, fields=sent, body=body, **options)

    def get(self, target: str, **options: Any) -> Answer:
        return self.ask("GET", target, **options)

    def post(self, target: str, content: Any = _NOTHING, **options: Any) -> Answer:
        return self.ask("POST", target, content, **options)

    def patch(self, target: str, content: Any = _NOTHING, **options: Any) -> Answer:
        return self.ask("PATCH", target, content, **options)

    def put(self, target: str, content: Any = _NOTHING, **options: Any) -> Answer:
        return self.ask("PUT", target, content, **options)

    def delete(self, target: str, **options: Any) -> Answer:
        return self.ask("DELETE", target, **options)


def basic(name: str, password: str) -> tuple[str, str]:
    """Return the field of Basic authentication (RFC 7617)."""
    return ("Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())


def cookie_of(answer: Answer) -> http.cookies.Morsel[str]:
    """Return the login cookie that an answer sets."""
    (line,) = answer.values("set-cookie")
    jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
    jar.load(line)
    assert list(jar) == [COOKIE], line
    return jar[COOKIE]


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT, unverified."""
    return dict(json.loads(_unpadded(token.split(".")[1])))


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a JWT."""
    return dict(json.loads(_unpadded(token.split(".")[0])))


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
