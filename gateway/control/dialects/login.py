"""The dialect of ``002``: ``/login`` by Basic authentication, ``/logout``, the session, the signing keys.

Imports aiohttp and its own plane.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import quote

from aiohttp import web

from gateway.control.dialects.login_shapes import (
    LONGEST_NEXT,
    CookieForm,
    Jwk,
    JwkSet,
    LoginQuery,
    Membership,
    SessionShown,
)
from gateway.control.dialects.password import PasswordDialect
from gateway.control.domain import DomainService
from gateway.control.errors import Forbidden, Invalid, Unauthenticated
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.http.faults import Fault, FaultError
from gateway.control.lifetime import rfc3339
from gateway.control.login import LoginService, WrongLogin
from gateway.control.signing import Signing, jwk
from gateway.core.refusals import Reason

JWKS_AGE_S = 300
"""How long a verifier may keep the signing keys; an id that it does not know is reason to ask again."""
_JWKS_KEPT_S = 1.0
# RFC 7617 §2.1: the charset is said, and UTF-8 is the only one there is.
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="gateway", charset="UTF-8"')
_BASIC = re.compile(r"basic +([A-Za-z0-9+/=]+) *", re.IGNORECASE)
_UNSAFE_IN_NEXT = re.compile(r"[\x00-\x1f\x7f\\]")


class LoginDialect:
    """Logging in and out, and what others need to check the tokens."""

    def __init__(
        self,
        service: DomainService,
        logins: LoginService,
        signing: Signing,
        cookie: CookieForm,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take how the cookie is written; ``monotonic`` tells seconds."""
        self._service = service
        self._logins = logins
        self._signing = signing
        self._cookie = cookie
        self._monotonic = monotonic
        self._jwks: tuple[float, JwkSet] | None = None

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            *(self._login(method, operation) for method, operation in _LOGINS),
            Endpoint(
                method="POST",
                path="/logout",
                operation="logOut",
                summary="End the login that is shown, for good and everywhere",
                handler=self.log_out,
                answers={204: None},
                headers={"Set-Cookie": "Has a browser forget the token."},
                faults=(401, 403, 429),
                tag="login",
            ),
            Endpoint(
                method="GET",
                path="/api/1/session",
                operation="showSession",
                summary="Tell who asks, as things stand now",
                handler=self.show_session,
                answers={200: SessionShown},
                faults=(400, 401, 403, 429),
                tag="login",
            ),
            Endpoint(
                method="GET",
                path="/.well-known/jwks.json",
                operation="listSigningKeys",
                summary="List the public keys whose signatures count now",
                handler=self.list_keys,
                answers={200: JwkSet},
                faults=(400,),
                open=True,
                tag="login",
            ),
            *PasswordDialect(self._logins).endpoints(),
        ]

    def _login(self, method: str, operation: str) -> Endpoint[None, LoginQuery]:
        return Endpoint(
            method=method,
            path="/login",
            operation=operation,
            summary="Log in with a user name and a password (Basic); the token is in the cookie",
            handler=self.log_in,
            query=LoginQuery,
            answers={302: str},
            headers=_LOGIN_HEADERS,
            faults=(400, 401, 403, 429),
            open=True,
            basic=True,
            tag="login",
        )

    async def log_in(self, call: Call[None, LoginQuery]) -> web.Response:
        """Answer 302 with the token in a cookie; a client follows to ``next`` alone, if it was given."""
        email, password = _basic_credentials(call.request)
        headers = {"Content-Type": "text/plain; charset=UTF-8", "Vary": "Origin"}
        if call.query.next is not None:
            headers["Location"] = _local_path(call.query.next)
        try:
            login = await self._logins.log_in(
                email,
                password,
                organisation=call.query.org_id,
                address=call.source,
                request_id=call.request_id,
            )
        except WrongLogin:
            raise _challenge() from None
        headers["Set-Cookie"] = self._cookie.holding(login.token)
        return web.Response(status=302, body=b"OK", headers=headers)

    async def log_out(self, call: Call[None, Nothing]) -> Answer:
        """End the login's token. Raises Forbidden for an API key, which is revoked instead."""
        if call.session is None:
            raise Forbidden("an API key is no login and cannot log out: revoke it to end it")
        await self._logins.log_out(call.session, call.actor)
        return Answer(204, headers=(("Set-Cookie", self._cookie.cleared()),))

    async def show_session(self, call: Call[None, Nothing]) -> Answer:
        """Tell who asks; to a page that shows the cookie, also what it has to show beside it."""
        who, session = call.principal, call.session
        if session is None:
            assert who.key_id is not None
            expires_at = (await self._service.show_key(who.key_id)).expires_at
            tenants = [Membership(who.tenant_id, who.role)]
        else:
            expires_at = session.expires_at
            person = await self._service.show_user(who.name)
            tenants = [Membership(m.tenant_id, m.role.word) for m in person.memberships]
        shown = SessionShown(
            user=who.subject_id,
            email=None if session is None else who.name,
            tenant_id=who.tenant_id,
            permission=who.permission.word,
            role=who.role,
            expires_at=rfc3339(expires_at),
            csrf_token=self._logins.csrf_token(session.jti) if session and session.by_cookie else None,
            tenants=tenants,
        )
        return Answer(200, shown)

    async def list_keys(self, call: Call[None, Nothing]) -> Answer:
        """Tell the keys; anybody may ask, so that the store is asked only so often."""
        now = self._monotonic()
        if self._jwks is None or now - self._jwks[0] >= _JWKS_KEPT_S:
            keys = await self._signing.list_keys()
            honoured = [Jwk(**jwk(key)) for key in keys if self._signing.status(key) != "ended"]
            self._jwks = now, JwkSet(honoured)
        return Answer(200, self._jwks[1], headers=(("Cache-Control", f"public, max-age={JWKS_AGE_S}"),))


_LOGIN_HEADERS = {
    "Set-Cookie": "The cookie that holds the token.",
    "Location": "Where a browser goes from here: ``next``, if it was given.",
}
_LOGINS = (("GET", "logIn"), ("POST", "logInByPost"))


def _basic_credentials(request: web.Request) -> tuple[str, str]:
    """Return the user name and the password of a request (RFC 7617 §2).

    Raises FaultError where there are none, or no password: a client that can ask for one then does.
    Raises Unauthenticated where there are several.
    """
    lines = request.headers.getall("Authorization", ())
    if len(lines) > 1:
        raise Unauthenticated(Reason.CONFLICTING_CREDENTIALS)
    found = _BASIC.fullmatch(lines[0]) if lines else None
    try:
        text = base64.b64decode(found[1], validate=True).decode() if found else ""
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    email, _, password = text.partition(":")
    if not email or not password:
        raise _challenge()
    return email, password


def _challenge() -> FaultError:
    detail = "Send a user name and its password by Basic authentication: these are not known."
    return FaultError(Fault(401, "login_refused", "Not logged in", detail, headers=(_CHALLENGE,)))


def _local_path(target: str) -> str:
    """Return a path of this server, fit for Location; browsers take ``//`` and ``\\`` for other hosts.

    Raises Invalid.
    """
    local = target.startswith("/") and not target.startswith("//") and len(target) <= LONGEST_NEXT
    if not local or _UNSAFE_IN_NEXT.search(target):
        raise Invalid("next", "must be a path of this server, beginning with one /")
    return quote(target, safe="/?#[]@!$&'()*+,;=:%~")
