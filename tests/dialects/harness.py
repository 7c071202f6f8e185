"""A started gateway with people in it.

Everything here is made through front doors: tenants and users by the command line, sessions by
``/login``, keys by the dialects. What a document fixes (paths, members, field lines) is written down
in the tests; this module only carries it.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from gateway.cli import root
from tests.dialects.client import Answer, Caller, basic, call, claims_of, cookie_of
from tests.wire.product import Product

ACME, GLOBEX = "acme", "globex"
PUBLIC_URL = "https://keys.example.com"
# Writes of one caller that a test may count on; the tier allows 100 a minute (003).
BUDGET = 85


@dataclass
class Person:
    """A user with the password that she was made with."""

    email: str
    password: str

    @property
    def basic(self) -> tuple[str, str]:
        return basic(self.email, self.password)


class Seed:
    """A store before its gateway starts, with the secrets that must never be written anywhere."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.store = directory / "gateway.db"
        self.secrets: list[str] = []


class World:
    """A gateway with two tenants; users join and log in as tests ask for them."""

    def __init__(
        self,
        directory: Path,
        backend_port: int,
        settings: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._seed = Seed(directory / "seed")
        self._directory = directory
        self._names = itertools.count(1)
        self._store = self._seed.store
        self.cli("tenants", "add", ACME)
        self.cli("tenants", "add", GLOBEX)
        self.cli("environments", "add", "prod", "--tenant", ACME, "--prefix", "acme_live_")
        self.cli("environments", "add", "theirs", "--tenant", GLOBEX, "--prefix", "globex_live_")
        self.product = Product(
            directory / "gateway", self._seed, backend_port, settings, environment=environment, control=True
        )
        self._store = self.product.store
        self.port, self.proxy_port = self.product.control_port, self.product.port
        self._writers: dict[tuple[str, str], Caller] = {}

    # -- by the command line -------------------------------------------------------------------

    def cli(self, *arguments: str) -> str:
        """Run a command on the gateway's store, in this process for the sake of time."""
        gone = {name: None for name in os.environ if name.startswith("GATEWAY_")}
        run = CliRunner().invoke(
            root, [*arguments, "--store", f"sqlite:///{self._store}"], prog_name="gateway", env=gone
        )
        assert run.exit_code == 0, f"{arguments}: {run.output} {run.exception}"
        return run.stdout

    def tenant(self) -> str:
        """Make a tenant, for a test that looks at all the keys there are."""
        tenant = f"tenant{next(self._names)}"
        self.cli("tenants", "add", tenant)
        return tenant

    def person(self, role: str, tenant: str = ACME, *, email: str | None = None) -> Person:
        """Make a user who is ``role`` in ``tenant``."""
        person = Person(email or f"{role}{next(self._names)}@{tenant}.example", f"pw-{secrets.token_hex(12)}")
        self.keep_secret(person.password)
        file = self._directory / "password"
        file.write_text(person.password + "\n")
        self.cli(
            "users", "add", person.email, "--tenant", tenant, "--role", role, "--password-file", str(file)
        )
        file.unlink()
        return person

    def join(self, person: Person, role: str, tenant: str) -> None:
        """Let a user who exists be ``role`` in another tenant too."""
        self.cli("users", "add", person.email, "--tenant", tenant, "--role", role)

    def cli_key(self, permission: str, tenant: str = ACME, *more: str) -> dict[str, Any]:
        """Make a key by the command line; its token is in ``secretKey``."""
        name = f"cli {next(self._names)}"
        command = ["keys", "create", "--tenant", tenant, "--name", name, "--permission", permission, "--json"]
        made = json.loads(self.cli(*command, *more))
        self.keep_secret(made["secretKey"])
        return dict(made)

    def cli_revoke(self, key_id: str) -> None:
        self.cli("keys", "revoke", key_id, "--yes")

    def cli_show(self, key_id: str) -> dict[str, Any]:
        """Return a key as the command line shows it."""
        return dict(json.loads(self.cli("keys", "show", key_id, "--json")))

    def key_of_number(self, number: str | int, tenant: str = ACME) -> dict[str, Any]:
        """Return the key that the first dialect calls ``number``, as the command line shows it."""
        listed = json.loads(self.cli("keys", "list", "--tenant", tenant, "--json"))
        (found,) = [key for key in listed if str(key["keyId"]) == str(number)]
        return dict(found)

    # -- over HTTP -----------------------------------------------------------------------------

    def keep_secret(self, *words: str) -> None:
        """Hold the gateway to writing none of these anywhere."""
        self._seed.secrets.extend(words)

    def call(self, method: str, target: str, **options: Any) -> Answer:
        """Ask the control plane without a credential."""
        return call(self.port, method, target, **options)

    def proxy(
        self, token: str, method: str = "GET", target: str = "/x", *, field_name: str = "X-API-KEY"
    ) -> int:
        """Return the status with which the proxy answers a credential."""
        value = token if field_name == "X-API-KEY" else f"BEARER {token}"
        return call(self.proxy_port, method, target, fields=[(field_name, value)]).status

    def log_in(self, person: Person, organisation: str | None = None) -> str:
        """Log in and return the token, which the test's gateway must never write."""
        query = f"?orgId={organisation}" if organisation else ""
        answer = self.call("GET", f"/login{query}", fields=[person.basic]).expect(302)
        token = cookie_of(answer).value
        self.keep_secret(token.rpartition(".")[2])
        return token

    def session(self, person: Person, organisation: str | None = None) -> Caller:
        """Return her with a login token in ``Authorization: Bearer``."""
        token = self.log_in(person, organisation)
        claims = claims_of(token)
        return Caller(
            self.port,
            token,
            (("Authorization", f"Bearer {token}"),),
            claims["sub"],
            person.email,
            claims["tenant"],
        )

    def user(self, role: str, tenant: str = ACME) -> Caller:
        """Make a user and log her in."""
        return self.session(self.person(role, tenant))

    def writer(self, role: str = "editor", tenant: str = ACME) -> Caller:
        """Return a user whose tier has writes left; the same one until they are used up."""
        known = self._writers.get((role, tenant))
        if known is None or known.writes >= BUDGET:
            known = self._writers[role, tenant] = self.user(role, tenant)
        return known

    def key_caller(self, token: str, tenant: str = ACME) -> Caller:
        """Return a caller who shows an API key in ``X-API-KEY``."""
        return Caller(self.port, token, (("X-API-KEY", token),), tenant=tenant)

    # -- keys through each dialect ---------------------------------------------------------------

    def qwilt_key(self, caller: Caller, **members: Any) -> dict[str, Any]:
        wish = {"name": f"key {next(self._names)}", "ttl": 30, "permission": "viewer"} | members
        made = caller.post("/api/1/api-keys", wish).expect(201).json
        self.keep_secret(made["apiToken"])
        return dict(made)

    def qlik_key(self, caller: Caller, **members: Any) -> dict[str, Any]:
        wish = {"description": f"key {next(self._names)}", "expiry": "P1D"} | members
        made = caller.post("/api/v1/api-keys", wish).expect(201).json
        self.keep_secret(made["token"].rpartition(".")[2])
        return dict(made)

    def secret_key(self, caller: Caller, **members: Any) -> dict[str, Any]:
        wish = {"name": f"key {next(self._names)}", "tenantId": caller.tenant} | members
        made = caller.post("/api-keys", wish).expect(201).json
        self.keep_secret(made["secretKey"])
        return dict(made)
