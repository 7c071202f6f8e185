"""The endpoints that take a JSON body, each with a good body to spoil and the shape of its refusals."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.dialects import shapes
from tests.dialects.client import Answer, Caller
from tests.dialects.harness import World

TENANT = "spoilt"


@dataclass(frozen=True)
class Door:
    """One endpoint: how it is asked, with what, and what a refusal looks like."""

    method: str
    path: str
    good: Any
    success: tuple[int, ...]
    refusal: Callable[[Answer], dict[str, Any]]

    def send(
        self, caller: Caller, body: bytes | None, *, content_type: str | None = "application/json"
    ) -> Answer:
        fields = [("Content-Type", content_type)] if content_type is not None else []
        return caller.ask(self.method, self.path, body=body, fields=fields)

    def spoilt(self, member: str, value: str) -> bytes:
        """Return the good body with a member (of its first object) that has ``value``, as JSON text."""
        first = self.good[0] if isinstance(self.good, list) else self.good
        kept = {name: content for name, content in first.items() if name != member}
        inner = json.dumps(kept)[1:-1]
        text = "{" + inner + (", " if inner else "") + json.dumps(member) + ": " + value + "}"
        return (f"[{text}]" if isinstance(self.good, list) else text).encode()

    def refuse(self, answer: Answer, status: int, *names: str) -> None:
        """Hold a refusal to its status and shape, and to naming what was wrong in it."""
        told = self.refusal(answer.expect(status))
        for name in names:
            assert name in json.dumps(told), f"{name} is not named: {told}"


class Doors:
    """Every door of one tenant, on keys that a patient admin made."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.cli("tenants", "add", TENANT)
        admin = world.user("admin", TENANT)
        acting, own = world.qlik_key(admin)["id"], world.secret_key(admin)
        replace = {"op": "replace", "path": "/description", "value": "v"}
        enable = {"op": "replace", "path": "/api_keys_enabled", "value": True}
        home, user = f"/api/1/tenants/{TENANT}", world.user("viewer", TENANT)
        role = f"{home}/subjects/{own['subjectId']}/role"
        newcomer = {"email": "newcomer@spoilt.example", "role": "viewer", "password": secrets.token_hex(12)}
        world.keep_secret(newcomer["password"])
        problem, errors = shapes.problem_of, shapes.errors_of
        self.doors = {
            "000 create": Door(
                "POST", "/api/1/api-keys", {"name": "n", "ttl": 1, "permission": "viewer"}, (201,), problem
            ),
            "003 create": Door(
                "POST", "/v1/api-keys", {"description": "d", "expiry": "PT1H"}, (201,), errors
            ),
            "003 patch": Door("PATCH", f"/v1/api-keys/{acting}", [replace], (204,), errors),
            "003 configs": Door("PATCH", f"/v1/api-keys/configs/{TENANT}", [enable], (204,), errors),
            "004 create": Door("POST", "/api-keys", {"name": "n", "tenantId": TENANT}, (201,), problem),
            "004 rotate": Door("POST", f"/api-keys/{own['id']}/rotate", {"overlap": "P1D"}, (201,), problem),
            "tenant create": Door("POST", "/api/1/tenants", {"id": "spoilt-2"}, (201,), problem),
            "tenant change": Door("PATCH", home, {"max_keys_per_user": 100}, (200,), problem),
            "environment create": Door(
                "POST", f"{home}/environments", {"id": "e", "prefix": "spoilt_live_"}, (201,), problem
            ),
            "user add": Door("POST", f"{home}/users", newcomer, (201,), problem),
            "user change": Door("PATCH", f"{home}/users/{user.user_id}", {"role": "viewer"}, (200,), problem),
            "role": Door("PUT", role, {"role": "viewer"}, (200, 204), problem),
        }

    def caller_of(self, door: Door) -> Caller:
        """Return who may pass this door. Reading: tenants are added by admins of the first, ``default``."""
        return self._world.writer("admin", "default") if door.path == "/api/1/tenants" else self.caller

    @property
    def caller(self) -> Caller:
        """An admin of the tenant who has writes left this minute."""
        return self._world.writer("admin", TENANT)


CREATIONS = ("000 create", "003 create", "004 create")
SHARED = ("tenant create", "tenant change", "environment create", "user add", "user change", "role")
NAMES = (*CREATIONS, "003 patch", "003 configs", "004 rotate", *SHARED)
