"""What is told when a request is not done: one table from errors to faults, two shapes to tell them in.

Imports the errors of the domain service and the reasons of ``core``.

Promise: a fault names what was wrong and never repeats a value that was sent.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.control.errors import (
    Busy,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Refused,
    ServiceError,
    Unauthenticated,
)
from gateway.control.throttle import Throttled
from gateway.core.refusals import REFUSALS
from gateway.store.base import StoreError

BUSY_RETRY_S = 1
STORE_RETRY_S = 2


class Fault(msgspec.Struct, frozen=True):
    """One refusal of the control API.

    Attributes:
        code: a stable word for programs.
        title: what kind of refusal it is.
        detail: one sentence for people: what was wrong and what would be right.
        member: the member of the body, or the parameter, that is to blame.
        headers: field lines that go with it.
    """

    status: int
    code: str
    title: str
    detail: str
    member: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class FaultError(Exception):
    """A fault on its way out of a handler."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A refusal in the shape of RFC 9457, ``application/problem+json``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    member: str | None = None


class ErrorSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to blame: a member of the body, or a parameter."""

    parameter: str


class ErrorMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Further properties of an error."""

    request_id: str


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """One error of a refusal."""

    code: str
    title: str
    detail: str
    status: int
    meta: ErrorMeta
    source: ErrorSource | None = None


class Errors(msgspec.Struct, frozen=True):
    """A refusal in the shape that clients of user keys read."""

    errors: list[Error]


Shape = Literal["problem", "errors"]
SHAPES: dict[Shape, tuple[type, str]] = {
    "problem": (Problem, "application/problem+json"),
    "errors": (Errors, "application/json"),
}


def shaped(fault: Fault, shape: Shape, request_id: str) -> Problem | Errors:
    """Return a fault as clients of a dialect read it."""
    if shape == "errors":
        return Errors(
            [
                Error(
                    code=fault.code,
                    title=fault.title,
                    detail=fault.detail,
                    status=fault.status,
                    meta=ErrorMeta(request_id),
                    source=ErrorSource(fault.member) if fault.member else None,
                )
            ]
        )
    return Problem(
        type="about:blank",
        title=fault.title,
        status=fault.status,
        detail=fault.detail,
        code=fault.code,
        request_id=request_id,
        member=fault.member,
    )


def invalid(member: str, reason: str) -> Fault:
    """Return the fault of a member that may not have its value, or may not be there."""
    return Fault(400, "invalid_request", "Invalid request", f"{member} {reason}.", member)


def not_json(reason: str) -> Fault:
    """Return the fault of content that is not the JSON it should be."""
    return Fault(400, "invalid_json", "Invalid JSON", f"The content {reason}.")


def fault_of(error: ServiceError | StoreError) -> Fault:
    """Return how a refusal of the domain service is told."""
    match error:
        case StoreError():
            detail = "The store cannot be had at present: try again soon."
            return Fault(503, "store_unavailable", "Store unavailable", detail, headers=_retry(STORE_RETRY_S))
        case Invalid():
            return invalid(error.member, error.reason)
        case NotFound():
            # Not the id: another tenant's and one that never was are told in the same words.
            return Fault(404, "not_found", "Not found", f"There is no such {error.kind}.")
        case Unauthenticated():
            return _unauthenticated(error)
        case Conflict():
            return Fault(409, "conflict", "Conflict", _sentence(error))
        case Busy():
            return Fault(503, "overloaded", "Overloaded", _sentence(error), headers=_retry(BUSY_RETRY_S))
        case Throttled():
            headers = _retry(error.retry_after_s)
            detail = "Too many attempts to log in from here have failed: wait before the next one."
            return Fault(429, "rate_limited", "Too many attempts", detail, headers=headers)
        case Forbidden() | Refused():
            return Fault(403, "forbidden", "Forbidden", _sentence(error))
    raise error


def _unauthenticated(error: Unauthenticated) -> Fault:
    refusal = REFUSALS[error.reason]
    headers = (("WWW-Authenticate", refusal.challenge),) if refusal.challenge else ()
    return Fault(refusal.status, error.reason.value, refusal.title, refusal.detail, headers=headers)


def _retry(seconds: int) -> tuple[tuple[str, str], ...]:
    return (("Retry-After", str(seconds)),)


def _sentence(error: ServiceError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
