"""What schemathesis cannot know of the control API: who asks, and what there is to ask about.

Loaded by its command line (``SCHEMATHESIS_HOOKS``); ``FUZZ_WORLD`` names a JSON file with the port, the
tenants and their admins. Callers take turns, since each has her own rate.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import GenerationMode

WORLD = json.loads(Path(os.environ["FUZZ_WORLD"]).read_text())
# What switches keys off or lowers caps has a tenant of its own, where nobody else would suffer.
OF_SETTINGS = {"patchKeySettings", "patchKeySettingsApi", "changeTenant"}
# What changes or ends what it is about gets something new each time; were it a user, it could be a caller.
CHANGING = {"DELETE", "PATCH", "PUT"}
ONCE = {"rotateKey"}
PEOPLE = {"user", "subject"}
KEY_BODY = {"name": "made to be asked about", "permission": "viewer"}
PASSWORD = "a password that is long enough"

_names = itertools.count(1)
_lasting: dict[str, str] = {}


class Tenant:
    """One tenant and its admins, who take turns."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.id: str = told["id"]
        self._admins = itertools.cycle(told["admins"])
        self._tokens: dict[str, str] = {}

    def token(self) -> str:
        """Return the login token of the next admin."""
        email, password = next(self._admins)
        if email not in self._tokens:
            self._tokens[email] = log_in(email, password)
        return self._tokens[email]

    def new_token(self) -> str:
        """Return a login token that may be ended."""
        return log_in(*next(self._admins))


def ask(method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[Any, Any]:
    """Return the field lines and the JSON of an answer."""
    content = None if body is None else json.dumps(body)
    sent = headers if body is None else headers | {"Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", WORLD["port"], timeout=30)) as connection:
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        read = response.read()
        assert response.status < 400, (method, path, response.status, read)
        return response.headers, json.loads(read) if "json" in response.headers["Content-Type"] else None


def basic(email: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{email}:{password}".encode()).decode()


def log_in(email: str, password: str) -> str:
    headers, _ = ask("GET", "/login", {"Authorization": basic(email, password)})
    return str(headers["Set-Cookie"]).partition("=")[2].partition(";")[0]


MAIN, SETTINGS = Tenant(WORLD["main"]), Tenant(WORLD["settings"])


def tenant_of(operation: str) -> Tenant:
    return SETTINGS if operation in OF_SETTINGS else MAIN


def made(path: str, body: Any, member: str) -> str:
    _, told = ask("POST", path, {"X-API-KEY": MAIN.token()}, body)
    return str(told[member])


def new_key_id() -> str:
    return made("/api-keys", KEY_BODY, "id")


def new_key_number() -> str:
    return made("/api/1/api-keys", KEY_BODY | {"ttl": 1}, "keyId")


def new_subject() -> str:
    return made("/api-keys", KEY_BODY, "subjectId")


def new_user() -> str:
    body = {"email": f"made{next(_names)}@example.com", "role": "viewer", "password": PASSWORD}
    return made(f"/api/1/tenants/{MAIN.id}/users", body, "id")


MAKERS = {"id": new_key_id, "keyId": new_key_number, "subject": new_subject, "user": new_user}
OURS = ("apk_", "subject_")


def present(operation: str, parameter: str, method: str) -> str:
    """Return the id of something that is there."""
    if method in CHANGING or operation in ONCE:
        return MAKERS[parameter]()
    if parameter not in _lasting:
        _lasting[parameter] = MAKERS[parameter]()
    return _lasting[parameter]


@schemathesis.auth(refresh_interval=None)
class Callers:
    """Says who asks."""

    def get(self, case: schemathesis.Case, context: schemathesis.AuthContext) -> str:
        operation = case.operation.definition.raw["operationId"]
        if operation.startswith("logIn"):
            return basic(*WORLD["main"]["admins"][0])
        if operation == "changePassword":
            return log_in(*WORLD["changer"])
        tenant = tenant_of(operation)
        return tenant.new_token() if operation == "logOut" else tenant.token()

    def set(self, case: schemathesis.Case, data: str, context: schemathesis.AuthContext) -> None:
        case.headers["Authorization" if data.startswith("Basic ") else "X-API-KEY"] = data


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Have requests be about something that is there, so that nothing but what is bad in them is refused."""
    good = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
    if good:
        _be_about_something(case)
    for values in (case.body, case.query):
        if isinstance(values, dict):
            _be_plausible(values, PLAIN if good else PLAIN | ORDINARY)


def _be_about_something(case: schemathesis.Case) -> None:
    operation, method = case.operation.definition.raw["operationId"], case.method.upper()
    for name, value in (case.path_parameters or {}).items():
        if name in ("tenant", "tenantId"):
            case.path_parameters[name] = tenant_of(operation).id
        elif operation in ONCE or not str(value).startswith(OURS) or (name in PEOPLE and method in CHANGING):
            # Else a former answer has told it, and that is what is asked about.
            case.path_parameters[name] = present(operation, name, method)


def _be_plausible(values: dict[str, Any], by_name: dict[str, tuple[str, Callable[[], Any]]]) -> None:
    """Replace what the description allows and the gateway has no use for; what it forbids stays."""
    for name, (form, made) in by_name.items():
        value = values.get(name)
        if isinstance(value, str) and re.fullmatch(form, value, re.DOTALL):
            values[name] = made()
            if values[name] is None:
                del values[name]


def _nothing() -> None:
    """Leave it out."""


def _numbered(form: str) -> Callable[[], str]:
    return lambda: form % next(_names)


def _day() -> str:
    return "P1D"


DURATION = r"P.*[0-9][A-Z]"
NAMED = r".{1,200}"
PLAIN: dict[str, tuple[str, Callable[[], Any]]] = {
    **dict.fromkeys(("sub", "tenantId", "environmentId"), (NAMED, _nothing)),
    **dict.fromkeys(("after", "startingAfter", "endingBefore", "createdByUser"), (NAMED, _nothing)),
    "expiresAt": (r"[0-9]{4}-.*T.*", lambda: (datetime.now(UTC) + timedelta(days=9)).isoformat()),
    **dict.fromkeys(
        ("expiry", "overlap", "max_api_key_expiry", "scim_externalClient_expiry"), (DURATION, _day)
    ),
    **dict.fromkeys(("current", "new"), (r".{8,1024}", lambda: str(WORLD["changer"][1]))),
    "permission": (r".{1,100}", lambda: "viewer"),
    "role": (r".{1,100}", lambda: "viewer"),
    "email": (r"[^@:]+@[^@:]+", _numbered("made-up%d@example.com")),
    "id": (r"[A-Za-z0-9._-]{1,64}", _numbered("made-up-%d")),
    "prefix": (r"[A-Za-z][A-Za-z0-9_]{0,30}_", _numbered("made_up_%06d_")),
}
"""What has to be known, to lie ahead or to be new: member or parameter, its form, and what fits."""
ORDINARY: dict[str, tuple[str, Callable[[], Any]]] = {
    "name": (r".{1,100}", lambda: "ordinary"),
    "description": (r".{0,1000}", lambda: "ordinary"),
    "intendedUse": (r".{1,100}", lambda: "ordinary"),
    "password": (r".{8,1024}", lambda: PASSWORD),
}
"""What else could be refused in a request that something else is wrong with."""
