"""What ``quickstart`` prints: where everything is, and lines to copy that show what the gateway does."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from gateway.cli.common import executable, store_url
from gateway.config.settings import Address, Settings

if TYPE_CHECKING:
    from gateway.control.making import CreatedKey

TENANT = "default"
ADMIN = "admin@localhost"
# A running gateway sees a change within a second; a reader who pastes all lines at once must not outrun it.
_SEEN = "sleep 1"
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  a wildcard, to where it is reachable


class Made(msgspec.Struct, frozen=True):
    """What a first run made: keys by permission, the admin's password; nothing on later runs."""

    keys: Mapping[str, CreatedKey] = {}
    password: str | None = None

    def __repr__(self) -> str:
        return f"Made(keys={sorted(self.keys)})"


def lines_to_try(settings: Settings, backend: str, made: Made) -> list[str]:
    """Return what is printed once it serves: where everything is, and the lines to try."""
    targets = ", ".join(str(t) for upstream in settings.upstreams.values() for t in upstream.targets)
    lines = [
        f"gateway   {_base(settings)}",
        f"backend   {targets} ({backend})",
        *([f"control   {_control(settings)}"] if settings.control.listen else []),
        f"metrics   http://{_reachable(settings.ops_listen)}/metrics",
        f"store     {_store_shown(settings)}",
        "",
    ]
    if made.password is not None:
        lines += [
            "An admin was made; the password is shown this once:",
            f"  {ADMIN}  {made.password}",
            "",
        ]
    command = f"{executable()} keys {{}}{_same_store(settings)}"
    lines += _first_run(settings, made, command) if made.keys else _later_run(settings, command)
    return lines + (_log_in(settings, made.password) if made.password is not None else [])


def _first_run(settings: Settings, made: Made, command: str) -> list[str]:
    viewer, editor = made.keys["viewer"], made.keys["editor"]
    url = _url(settings)
    read = f"curl -i -H 'X-API-KEY: {viewer.token}' {url}"
    return [
        "Two keys were made; they are shown this once:",
        f"  viewer  {viewer.token}",
        f"  editor  {editor.token}",
        "",
        "Try, in another terminal:",
        "# a viewer reads: 200",
        read,
        "# a viewer writes: 403",
        f"curl -i -X POST -d hello -H 'X-API-KEY: {viewer.token}' {url}",
        "# an editor writes: 200",
        f"curl -i -X POST -d hello -H 'X-API-KEY: {editor.token}' {url}",
        "# no key: 401",
        f"curl -i {url}",
        "# the viewer key is revoked: 401",
        f"{command.format('revoke --yes')} {viewer.record.id}",
        _SEEN,
        read,
    ]


def _later_run(settings: Settings, command: str) -> list[str]:
    url = _url(settings)
    create = command.format(f"create --tenant {TENANT} --name my-key --permission editor")
    return [
        "The keys of the first run go on working; a new one (viewer or editor) is made by:",
        f"KEY=$({create})",
        _SEEN,
        "",
        "Try, in that terminal:",
        "# a key reads: 200",
        f'curl -i -H "X-API-KEY: $KEY" {url}',
        "# an editor writes: 200; a viewer: 403",
        f'curl -i -X POST -d hello -H "X-API-KEY: $KEY" {url}',
        "# no key: 401",
        f"curl -i {url}",
        "# which keys there are; one is revoked, by its ID, with the line after it",
        command.format("list"),
        f"# {command.format('revoke --yes')} ID",
    ]


def _log_in(settings: Settings, password: str) -> list[str]:
    url, cookie = _control(settings), settings.login.cookie
    login = f"curl -s -o /dev/null -c - -u '{ADMIN}:{password}' {url}/login"
    wanted = '{"name": "my-http-key", "ttl": 30, "permission": "viewer"}'
    return [
        "# the admin logs in, and makes a key over HTTP: 201",
        f"TOKEN=$({login} | awk '/{cookie}/ {{print $7}}')",
        "curl -i -H \"Authorization: BEARER $TOKEN\" -H 'Content-Type: application/json'"
        f" -d '{wanted}' {url}/api/1/api-keys",
    ]


def _same_store(settings: Settings) -> str:
    """Return the flags by which another terminal finds the same store; none for the default place."""
    words = []
    if settings.file:
        words += ["--config", os.path.abspath(settings.file)]
    origin = settings.origins.get("store.url")
    moved = origin is None and (os.environ.get("STATE_DIRECTORY") or os.environ.get("XDG_STATE_HOME"))
    if moved or (origin is not None and not origin.startswith("line ")):
        words += ["--store", _store_shown(settings, absolute=True)]
    return f" {shlex.join(words)}" if words else ""


def _store_shown(settings: Settings, *, absolute: bool = False) -> str:
    """Return the store's URL without the password that it may hold; ``absolute``: for any directory."""
    from gateway.cli.service import checked_store

    url, location = store_url(settings), checked_store(settings).location
    if not url.startswith("sqlite:"):
        return location
    return f"sqlite://{location}" if absolute else url


def _control(settings: Settings) -> str:
    assert settings.control.listen is not None
    scheme = "https" if settings.control.tls else "http"
    return settings.control.public_url or f"{scheme}://{_reachable(settings.control.listen)}"


def _base(settings: Settings) -> str:
    address = settings.listen[0]
    return str(address) if address.path is not None else f"http://{_reachable(address)}"


def _url(settings: Settings) -> str:
    """Return a URL that a guarded route serves, as an argument of curl."""
    path = next((route.path for route in settings.routes if not route.anonymous), "/")
    address = settings.listen[0]
    if address.path is not None:
        return f"--unix-socket {shlex.quote(address.path)} http://localhost{shlex.quote(path)}"
    return f"{_base(settings)}{shlex.quote(path)}"


def _reachable(address: Address) -> Address:
    return Address(_ANYWHERE.get(address.host, address.host), address.port)
