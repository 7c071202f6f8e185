"""What the five documents say of each object, member by member: the value, or what one must look like.

The dialects are named as in the design: ``000``/``001`` organisation keys, ``002`` login, ``003`` keys
that act as their users, ``004`` secret keys.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.dialects.client import Answer, claims_of, header_of

_MILLISECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_STATUSES = ("active", "expired", "revoked")


@dataclass
class Members:
    """What a document says of an object's members: a value that they have, or a check of it."""

    expected: dict[str, Any] = field(default_factory=dict)

    def compare(self, found: Any) -> None:
        """Fail with every member that is missing or not as documented; further members are allowed."""
        assert isinstance(found, dict), found
        wrong = [
            f"{name}: {found[name]!r}, documented {getattr(expected, '__name__', expected)!r}"
            for name, expected in self.expected.items()
            if name in found and not _as_documented(expected, found[name])
        ]
        missing = [f"{name}: missing" for name in self.expected if name not in found]
        assert not wrong + missing, "\n".join(wrong + missing)


def _as_documented(expected: Any, value: Any) -> bool:
    if callable(expected):
        return bool(expected(value))
    return type(expected) is type(value) and bool(expected == value)


def instant(text: str) -> datetime.datetime:
    """Return the instant that a document's date names."""
    return datetime.datetime.fromisoformat(text)


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def milliseconds(value: Any) -> bool:
    """A date as ``000`` and ``003`` write it: UTC, with milliseconds."""
    return isinstance(value, str) and _MILLISECONDS.fullmatch(value) is not None


def date_time(value: Any) -> bool:
    """A date as ``004`` writes it: RFC 3339, UTC."""
    return isinstance(value, str) and _INSTANT.fullmatch(value) is not None


def key_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(f"apk_{_UUID7}", value) is not None


def subject_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(f"subject_{_UUID7}", value) is not None


def number(value: Any) -> bool:
    """``keyId`` of ``000``: a whole number in a string."""
    return isinstance(value, str) and re.fullmatch("[1-9][0-9]*", value) is not None


def status(value: Any) -> bool:
    return value in _STATUSES


def signed_jwt(value: Any) -> bool:
    """``token`` of ``003``: "the generated signed JWT"."""
    header = header_of(value)
    return header["alg"] == "RS256" and text(header["kid"]) and text(claims_of(value)["jti"])


def uri(value: Any) -> bool:
    """``href`` of ``003``: ``string<uri>``, absolute as in its sample."""
    parts = urlsplit(value)
    return parts.scheme in ("http", "https") and parts.netloc != ""


def four(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 4


# 000, "Response Example": what POST answers, and without apiToken what list and get show.
QWILT_KEY = Members(
    {
        "name": text,
        "description": lambda value: isinstance(value, str),
        "ttl": lambda value: type(value) is int,
        "permission": text,
        "keyId": number,
        "ownerId": text,
        "createdBy": text,
        "createdAt": milliseconds,
        "expireAt": milliseconds,
    }
)
QWILT_CREATED = Members(QWILT_KEY.expected | {"apiToken": text})

# 003, "ApiKey" and "ApiKeyWithToken".
QLIK_KEY = Members(
    {
        "id": text,
        "sub": text,
        "expiry": milliseconds,
        "status": status,
        "created": milliseconds,
        "subType": text,
        "tenantId": text,
        "description": lambda value: isinstance(value, str),
        "lastUpdated": milliseconds,
        "createdByUser": text,
    }
)
QLIK_CREATED = Members(QLIK_KEY.expected | {"token": signed_jwt})

# 003, "ApiKeysConfig".
QLIK_CONFIG = Members(
    {
        "api_keys_enabled": lambda value: type(value) is bool,
        "max_keys_per_user": lambda value: type(value) is int,
        "max_api_key_expiry": text,
        "scim_externalClient_expiry": text,
    }
)

# 003, "Error": `code` and `title` are required; the design adds `detail` and `status`.
QLIK_ERROR = Members(
    {"code": text, "title": text, "detail": text, "status": lambda value: type(value) is int}
)

# 004, the response to its only curl.
SECRET_KEY = Members(
    {
        "id": key_id,
        "subjectId": subject_id,
        "tenantId": text,
        "environmentId": text,
        "name": text,
        "description": lambda value: isinstance(value, str),
        "prefix": text,
        "lastFour": four,
        "hashAlgo": "argon2id",
        "createdBySubjectId": text,
        "createdAt": date_time,
        "expiresAt": date_time,
        "status": status,
        "intendedUse": text,
    }
)
SECRET_CREATED = Members(SECRET_KEY.expected | {"secretKey": text})

# RFC 9457 with the members that the design gives every refusal.
PROBLEM = Members(
    {
        "type": text,
        "title": text,
        "status": lambda value: type(value) is int,
        "detail": text,
        "code": text,
        "request_id": text,
    }
)


def problem_of(answer: Answer) -> dict[str, Any]:
    """Return the body of a refusal in the shape of RFC 9457, checked."""
    assert answer.value("content-type") == "application/problem+json", answer
    PROBLEM.compare(answer.json)
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.value("x-request-id")
    return dict(answer.json)


def errors_of(answer: Answer) -> dict[str, Any]:
    """Return the first error of a refusal in the shape of ``003``, checked."""
    assert (answer.value("content-type") or "").startswith("application/json"), answer
    assert set(answer.json) == {"errors"}, answer.body
    first = answer.json["errors"][0]
    QLIK_ERROR.compare(first)
    assert first["status"] == answer.status
    return dict(first)
