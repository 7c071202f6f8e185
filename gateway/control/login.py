"""Log people in and out, and tell whom a login token proves.

Imports ``core``, ``store`` and its own plane.

Promise: a wrong password, a name that is nobody's and a disabled user cost and tell the same; a
token that was logged out proves nobody any more, on any replica.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from gateway.control.audit import AuditService
from gateway.control.domain import DomainService
from gateway.control.errors import Invalid, ServiceError, Unauthenticated
from gateway.control.grants import Principal
from gateway.control.http.endpoints import Session
from gateway.control.login_tokens import LoginTokens
from gateway.control.names import checked_email, checked_password
from gateway.control.signing import Signing
from gateway.control.throttle import Throttle
from gateway.control.users import Hasher, UserService
from gateway.core.envelope import LOGIN_AUDIENCE
from gateway.core.jws import Claims
from gateway.core.model import MILLISECONDS
from gateway.core.policy import DEFAULT_POLICY
from gateway.core.refusals import Reason
from gateway.core.tokens import Digester
from gateway.core.uuid7 import uuid7
from gateway.store import people
from gateway.store.base import Actor, AuditRow, Person, Store
from gateway.store.login import end_token
from gateway.store.login_attempts import Attempt

T = TypeVar("T")
_LABEL = b"gateway csrf tokens"
STRANGER = "stranger"
"""What the audit calls who has not proven anything, and a name that is nobody's: it may be a password."""


class WrongLogin(ServiceError):  # noqa: N818 - the name is the outcome
    """The name and the password do not belong together; which of them is wrong is not told."""

    def __init__(self) -> None:
        super().__init__("the user name or the password is wrong")


class LoggedIn(msgspec.Struct, frozen=True):
    """A login: its token, shown this once, until when it lasts (epoch milliseconds), whose and where."""

    token: str
    expires_at: int
    person: Person
    tenant_id: str

    def __repr__(self) -> str:
        return f"LoggedIn(person={self.person!r}, tenant_id={self.tenant_id!r})"


class LoginService(AuditService):
    """Logs people in and out; knows the sessions of the control API.

    Every method may raise ``StoreError``.
    """

    def __init__(
        self,
        store: Store,
        digester: Digester,
        service: DomainService,
        signing: Signing,
        hasher: Hasher,
        throttle: Throttle | None = None,
    ) -> None:
        """Take what all of the control plane shares.

        ``hasher`` checks passwords and nothing else (``passwords.login_pool``), so that a flood of
        logins holds up no new key.
        """
        super().__init__(store, clock=lambda: service.now_ms() / MILLISECONDS)
        self._service = service
        self._signing = signing
        self._throttle = throttle or Throttle(store, digester, self._clock)
        self._people = UserService(store, hasher, DEFAULT_POLICY, self._clock)
        self._tokens = LoginTokens(store, signing)
        self._csrf_key = digester.derived_key(_LABEL)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def log_in(
        self,
        email: str,
        password: str,
        *,
        organisation: str | None = None,
        address: str,
        request_id: str | None = None,
    ) -> LoggedIn:
        """Return a token for the organisation, or for the user's default one.

        ``address`` is the peer's. Raises WrongLogin, Throttled, Busy, Forbidden (right, but she is
        nobody in that organisation). A caller who goes away takes no attempt back.
        """
        return await self._finished(self._log_in(email, password, organisation, address, request_id))

    async def log_out(self, session: Session, actor: Actor) -> None:
        """End a login for good, on every replica; doing so twice changes nothing."""
        audit = self._audit(actor, "login.logout", "ended_token", session.jti, None)
        work = end_token(session.jti, session.user_id, session.expires_at, self.now_ms(), audit)
        await self._store.write(work)

    async def change_password(self, principal: Principal, actor: Actor, current: str, new: str) -> None:
        """Give a user another password, if she knows the present one; her logins go on until they end.

        Wrong ones count as attempts to log in do. Raises Invalid, WrongLogin, Throttled, Busy.
        """
        checked_password(new, member="new")
        await self._finished(self._change_password(principal, actor, current, new))

    async def login_claims(self, token: str | bytes) -> Claims | Reason:
        """Return what a login token says, if it is good and was not logged out; else why not."""
        return await self._tokens.claims(token if isinstance(token, bytes) else token.encode())

    async def session_of(self, token: str) -> tuple[Principal, Session]:
        """Return whom a login token proves, as she is now. Raises Unauthenticated, Forbidden."""
        claims = await self.login_claims(token)
        if isinstance(claims, Reason):
            raise Unauthenticated(claims)
        person = await self._store.read(people.person(claims.subject))
        if person is None:
            raise Unauthenticated(Reason.TOKEN_INVALID)
        principal = self._service.principal_of_user(person, claims.tenant_id)
        return principal, Session(claims.token_id, claims.expires_at, person.user.id)

    def csrf_token(self, jti: str) -> str:
        """Return what a page has to show beside the cookie of a login, which other origins cannot know."""
        return hmac.digest(self._csrf_key, jti.encode(), hashlib.sha256).hex()

    async def close(self) -> None:
        """Wait for the attempts that are under way."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _log_in(
        self, email: str, password: str, organisation: str | None, address: str, request_id: str | None
    ) -> LoggedIn:
        attempt = await self._throttle.admit(email, address)
        stranger = Actor(name=STRANGER, source=address, request_id=request_id)
        person = await self._checked(attempt, email, password, stranger)
        try:
            wanted = person.user.default_tenant_id if organisation is None else organisation
            tenant_id = wanted or ""
            principal = self._service.principal_of_user(person, tenant_id)
            token, expires_at = await self._token(principal)
        except BaseException:
            await self._throttle.withdraw(attempt)
            raise
        actor = principal.actor(address, request_id)
        audit = self._audit(actor, "login.success", "user", person.user.id, tenant_id)
        await self._throttle.passed(attempt, audit)
        return LoggedIn(token, expires_at, person, tenant_id)

    async def _change_password(self, principal: Principal, actor: Actor, current: str, new: str) -> None:
        email = principal.name
        attempt = await self._throttle.admit(email, actor.source)
        await self._checked(attempt, email, current, actor)
        await self._throttle.withdraw(attempt)
        await self._people.set_password(actor, email, new, tenant=principal.tenant_id)

    async def _checked(self, attempt: Attempt, email: str, password: str, stranger: Actor) -> Person:
        """Return whose password this is. Raises WrongLogin, Busy; the attempt has ended then."""
        try:
            person = await self._people.check_password(email, password)
        except BaseException:
            await self._throttle.withdraw(attempt)
            raise
        if person is None:
            await self._throttle.failed(attempt, _normal(email), lambda who: self._failure(stranger, who))
            raise WrongLogin
        return person

    def _failure(self, stranger: Actor, user_id: str | None) -> AuditRow:
        return self._audit(stranger, "login.failure", "user", user_id or STRANGER, None)

    async def _token(self, principal: Principal) -> tuple[str, int]:
        """Return a new login token, and when it ends in epoch milliseconds."""
        now = self.now_ms()
        issued_at = now // MILLISECONDS
        ends_at = issued_at + self._signing.token_ttl_ms // MILLISECONDS
        claims = {
            "aud": LOGIN_AUDIENCE,
            "sub": principal.subject_id,
            "email": principal.name,
            "tenant": principal.tenant_id,
            "role": principal.role,
            "permission": principal.permission.word,
            "iat": issued_at,
            "exp": ends_at,
            "jti": uuid7(now, os.urandom(10)),
        }
        return await self._signing.sign(claims), ends_at * MILLISECONDS

    async def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what comes of ``work``, which goes on to its end when the caller does not wait for it."""
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        # Told to nobody, should the caller have gone: it is no fault that nobody asked for.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)


def _normal(email: str) -> str:
    """Return an address as the store has it; what is none as one that nobody has."""
    try:
        return checked_email(email)
    except Invalid:
        return ""
