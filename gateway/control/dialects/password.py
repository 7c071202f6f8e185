"""``/api/1/password``: a user changes her own password. Imports its own plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.control.dialects.users import Password
from gateway.control.errors import Forbidden, Invalid
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call, Endpoint, Nothing
from gateway.control.login import LoginService, WrongLogin
from gateway.control.names import LONGEST_PASSWORD_BYTES


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The present password, and the one that takes its place."""

    current: Annotated[str, Meta(max_length=LONGEST_PASSWORD_BYTES)]
    new: Password

    def __repr__(self) -> str:
        return "PasswordChange()"


class PasswordDialect:
    """The one operation of passwords."""

    def __init__(self, logins: LoginService) -> None:
        self._logins = logins

    def endpoints(self) -> Sequence[AnyEndpoint]:
        """Return what is served."""
        return [
            Endpoint(
                method="PUT",
                path="/api/1/password",
                operation="changePassword",
                summary="Change one's own password; for who has logged in, never for a key",
                handler=self.change,
                body=PasswordChange,
                answers={204: None},
                faults=(400, 401, 403, 429),
                tag="login",
            )
        ]

    async def change(self, call: Call[PasswordChange, Nothing]) -> Answer:
        """Change the password of whoever has logged in."""
        if call.session is None:
            raise Forbidden("an API key has no password: log in to change one")
        try:
            await self._logins.change_password(call.principal, call.actor, call.body.current, call.body.new)
        except WrongLogin:
            raise Invalid("current", "is not the present password") from None
        return Answer(204)
