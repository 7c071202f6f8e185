"""Find out who asks: an API key in either header, a login token there, or the console's cookie.

The same reading of credentials as on the data path (``core.credentials``); but whom they prove is
asked of the store, so that nothing is granted on what has just changed. Imports ``core``, aiohttp
and its own plane.

Promise: a cookie alone changes nothing; what it may do takes a token that no other origin can read.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web

from gateway.control.domain import DomainService
from gateway.control.errors import Unauthenticated
from gateway.control.grants import Principal
from gateway.control.http.endpoints import Session
from gateway.control.http.faults import Fault, FaultError
from gateway.core.credentials import TOKEN_MAX, read_credential
from gateway.core.envelope import KEY_AUDIENCE, read_unverified
from gateway.core.refusals import Reason
from gateway.core.section import FieldSection

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SOURCES = ("x-api-key", "authorization")
_TOKEN = re.compile(f"[!-~]{{1,{TOKEN_MAX}}}")


class Logins(Protocol):
    """What knows the login tokens of this installation."""

    async def session_of(self, token: str) -> tuple[Principal, Session]:
        """Return whom a login token proves now. Raises Unauthenticated, Forbidden."""
        ...

    def csrf_token(self, jti: str) -> str:
        """Return what a page has to show beside the cookie of a login."""
        ...


class Authentication:
    """Tells principals from requests."""

    def __init__(
        self,
        service: DomainService,
        logins: Logins,
        *,
        cookie: str,
        origins: Sequence[str],
        used: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Take the cookie's name and the ``origins`` whose pages may use it; none: the request's own.

        ``used`` is told the id of each key that proved somebody.
        """
        self._used = used
        self._service = service
        self._logins = logins
        self._cookie = cookie
        self._origins = frozenset(origins)

    async def principal_of(self, request: web.Request) -> tuple[Principal, Session | None]:
        """Return who asks, and the login that she asks with.

        Raises Unauthenticated (no credential, none that lives), Forbidden, FaultError (CSRF).
        """
        token = read_credential(_credentials(request), _SOURCES)
        if token is Reason.CREDENTIAL_MISSING and (shown := self._cookies(request)):
            return await self._by_cookie(request, shown)
        if isinstance(token, Reason):
            raise Unauthenticated(token)
        try:
            principal = await self._service.principal_of_key(token)
        except Unauthenticated as error:
            if error.reason is not Reason.KEY_UNKNOWN or _is_no_login(token):
                raise
        else:
            if principal.key_id is not None:
                self._used(principal.key_id)
            return principal, None
        return await self._logins.session_of(token.decode("ascii"))

    def _cookies(self, request: web.Request) -> list[str]:
        """Return the values of the console's cookie, as they were sent."""
        pairs = [pair.strip(" ") for line in request.headers.getall("Cookie", ()) for pair in line.split(";")]
        return [value for name, _, value in (pair.partition("=") for pair in pairs) if name == self._cookie]

    async def _by_cookie(self, request: web.Request, shown: Sequence[str]) -> tuple[Principal, Session]:
        if len(shown) > 1:
            # Set by somebody who has a name under the same domain (RFC 6265 §8.6): don't choose.
            raise Unauthenticated(Reason.CONFLICTING_CREDENTIALS)
        if not _TOKEN.fullmatch(shown[0]):
            raise Unauthenticated(Reason.CREDENTIAL_MALFORMED)
        principal, session = await self._logins.session_of(shown[0])
        session = Session(session.jti, session.expires_at, session.user_id, by_cookie=True)
        if request.method not in SAFE_METHODS:
            self._check_forgery(request, session)
        return principal, session

    def _check_forgery(self, request: web.Request, session: Session) -> None:
        """Raise FaultError unless a page of ours asks: it knows the token, and says where it is from."""
        # The token is what counts; Origin, which browsers send with every unsafe method, is a second line.
        shown = _only(request, CSRF_HEADER)
        known = self._logins.csrf_token(session.jti)
        origin = _only(request, "Origin")
        own = self._origins or {f"{request.scheme}://{request.host}"}
        if not hmac.compare_digest(shown.encode("utf-8", "replace"), known.encode()) or origin not in own:
            detail = f"A cookie needs the {CSRF_HEADER} of its session and this server's Origin beside it."
            raise FaultError(Fault(403, "csrf", "Cross-site request refused", detail))


def _only(request: web.Request, name: str) -> str:
    """Return the value of a field whose line came once; no line and several say nothing."""
    values = request.headers.getall(name, ())
    return values[0] if len(values) == 1 else ""


def _is_no_login(token: bytes) -> bool:
    """Tell whether what is no key cannot be a login either: no JWT, or one that says it is a key."""
    if token.count(b".") != 2:
        return True
    envelope = read_unverified(token)
    return envelope is not None and KEY_AUDIENCE in envelope.audiences


def _credentials(request: web.Request) -> FieldSection:
    """Return the credential lines of a request, as the data path reads them."""

    def values(name: str) -> tuple[tuple[bytes, bytes], ...]:
        return tuple(
            (b"", value.encode("utf-8", "surrogateescape")) for value in request.headers.getall(name, ())
        )

    return FieldSection(None, 1, [], api_keys=values("X-API-KEY"), authorizations=values("Authorization"))
