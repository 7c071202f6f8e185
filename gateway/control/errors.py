"""Why the domain service did not do as asked; each message is one sentence for people."""

from __future__ import annotations

from gateway.core.refusals import Reason


class ServiceError(Exception):
    """The base of what the domain service refuses; its text is a clear sentence without secrets."""


class NotFound(ServiceError):  # noqa: N818 - the name is the outcome, as HTTP has it
    """There is no such entity."""

    def __init__(self, kind: str, entity: str) -> None:
        super().__init__(f"there is no {kind} {entity!r}")
        self.kind = kind
        self.entity = entity


class Invalid(ServiceError):  # noqa: N818
    """A member of the request has a value that it may not have."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(f"{member} {reason}")
        self.member = member
        self.reason = reason


class Refused(ServiceError):  # noqa: N818
    """The request is well-formed and may not be done now."""


class Conflict(Refused):
    """What there is stands against it: it exists already, has ended, has a successor."""


class Busy(Refused):
    """Too much is being done at once: the same request may be tried again soon."""


class Forbidden(Refused):
    """Whoever asks may not: her permission, the tenant's settings or her cap do not allow it."""


class Unauthenticated(ServiceError):  # noqa: N818
    """The credential proves nobody who lives."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the credential was refused: {reason}")
        self.reason = reason
