"""Read upstreams, routes and roles: what leads where, and for whom; and hold them to one another.

A member that would have no effect is refused: an operator who wrote it believes that it protects.
Imports ``core`` and this package's lower modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.config.catalogue import nearest
from gateway.config.document import Node
from gateway.config.kinds import (
    NAME_PATTERN,
    SWITCH,
    Kind,
    items_of,
    one_text,
    split_port,
    text_of,
    unsupported,
    word,
    words,
    wrong,
)
from gateway.config.settings import BUILT_IN_ROLES, SHIPPED_ROLES, Target, Upstream
from gateway.core.http1 import METHODS
from gateway.core.model import Permission, Role
from gateway.core.routes import Route

_NAME = re.compile(NAME_PATTERN)
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|\[[0-9a-f:.]+\]")
_FORWARDED = sorted(method.decode() for method in METHODS - {b"CONNECT", b"TRACE"})


def _read_prefix(node: Node, name: str) -> str:
    """Read a decoded path prefix; whole segments, so ``/api`` also means ``/api/``."""
    text = text_of(node, name, "a path such as /api")
    if not text.startswith("/"):
        wrong(name, node, f"`{text}` does not begin with a slash; write `/{text}`")
    if re.search(r"[?#%;\\ ]", text):
        wrong(name, node, f"`{text}` may hold no space and none of ? # % ; \\; write the path as it decodes")
    if any(segment in (".", "..") for segment in text.split("/")):
        wrong(name, node, f"`{text}` has a dot segment; write the path that it leads to")
    if "//" in text:
        wrong(name, node, f"`{text}` has an empty segment; write single slashes")
    if len(text) > 1 and text.endswith("/"):
        wrong(name, node, f"`{text}` ends with a slash; write `{text[:-1]}`, which covers all below it")
    return text


def _read_added_prefix(node: Node, name: str) -> str:
    prefix = _read_prefix(node, name)
    if not prefix.isascii():  # it is sent as it stands, and a target is ASCII
        wrong(name, node, f"`{prefix}` must be ASCII")
    if prefix == "/":
        wrong(name, node, "`/` adds nothing; leave it out")
    return prefix


def _read_host(node: Node, name: str) -> str:
    host = text_of(node, name, "a host name").lower()
    if not _HOST.fullmatch(host):
        wrong(name, node, f"`{host}` is not a host name; write it without scheme, port or wildcard")
    return host


def _read_target(node: Node, name: str) -> Target:
    text = text_of(node, name, "a URL such as http://127.0.0.1:9000")
    if text.startswith("https://"):
        unsupported(f"{name} over TLS (https://)", node)
    if text.startswith("unix:"):
        unsupported(f"{name} on a Unix socket (unix:)", node)
    authority = text.removeprefix("http://").removesuffix("/")
    if "@" in authority:  # a password must not be told again
        wrong(name, node, "a target has no user or password; write http://host:port")
    parts = split_port(authority)
    if not text.startswith("http://") or parts is None or not parts[0] or parts[1] == 0:
        wrong(name, node, f"`{text}` is not a target; write http://host:port, without a path or query")
    return Target(parts[0], 80 if parts[1] is None else parts[1])


_PREFIX_SCHEMA = {"type": "string", "pattern": "^/"}
_NAMES = words(NAME_PATTERN, "names (letters, digits, dot, dash, underscore)")
_TARGET = Kind(_read_target, {"type": "string", "pattern": "^http://"})
_PREFIXES = Kind(
    lambda node, name: tuple(
        _read_prefix(item, f"{name}[{i}]") for i, item in enumerate(items_of(node, name, "paths"))
    ),
    {"type": "array", "minItems": 1, "items": _PREFIX_SCHEMA},
    list,
)

UPSTREAM: Mapping[str, Kind] = {
    "targets": Kind(
        lambda node, name: tuple(
            _read_target(item, f"{name}[{i}]") for i, item in enumerate(items_of(node, name, "targets"))
        ),
        {"type": "array", "minItems": 1, "maxItems": 1, "items": _TARGET.schema},
        lambda targets: [str(target) for target in targets],
    ),
}
ROUTE: Mapping[str, Kind] = {
    "path": Kind(_read_prefix, _PREFIX_SCHEMA),
    "upstream": one_text("an upstream's name"),
    "name": one_text("a name for metrics and the log"),
    "host": Kind(_read_host, {"type": "string"}),
    "auth": word("key", "anonymous"),
    "credentials": words("x-api-key|authorization", "`x-api-key` and `authorization`"),
    "forward_credential": SWITCH,
    "read_methods": words("|".join(_FORWARDED), "methods in capitals, such as POST or SEARCH"),
    "tenants": _NAMES,
    "environments": _NAMES,
    "roles": _NAMES,
    "strip_prefix": Kind(_read_prefix, _PREFIX_SCHEMA),
    "add_prefix": Kind(_read_added_prefix, _PREFIX_SCHEMA),
    "path_check": word("strict", "encoded_slash", "off"),
    "via": SWITCH,
}
ROLE: Mapping[str, Kind] = {"permission": word("viewer", "editor"), "routes": _PREFIXES}

UNSUPPORTED_MEMBERS = {
    "upstream": ("balance", "health", "tls"),
    "route": ("rate_limit", "websocket"),
    "role": (),
}
_SETS = frozenset(("tenants", "environments", "roles"))
_FOR_KEYS_ONLY = ("credentials", "forward_credential", "read_methods", "tenants", "environments", "roles")


def _members(node: Node, name: str, what: str, known: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the checked members of one upstream, route or role."""
    if not isinstance(node.value, dict):
        wrong(name, node, f"{_article(what)} is made of members such as `{next(iter(known))}: …`")
    values: dict[str, Any] = {}
    for member, value in node.value.items():
        if member in UNSUPPORTED_MEMBERS[what]:
            unsupported(f"{name}.{member}", value)
        if member not in known:
            near = nearest(member, [*known, *UNSUPPORTED_MEMBERS[what]])
            wrong(name, value, f"unknown member `{member}`; the nearest known one is `{near}`")
        values[member] = known[member].read(value, f"{name}.{member}")
    return values


def _article(what: str) -> str:
    return f"an {what}" if what == "upstream" else f"a {what}"


def _named(node: Node, group: str) -> dict[str, Node]:
    if node.value is None:
        return {}
    if not isinstance(node.value, dict):
        wrong(group, node, f"{group} are written as members, `name: {{…}}`")
    for name, value in node.value.items():
        if not _NAME.fullmatch(name):
            wrong(group, value, f"`{name}` is no name; use 1 to 64 of letters, digits, dot, dash, underscore")
    return node.value


def read_upstreams(node: Node) -> dict[str, Upstream]:
    """Read the group ``upstreams``; raises ConfigError."""
    upstreams: dict[str, Upstream] = {}
    for name, value in _named(node, "upstreams").items():
        where = f"upstreams.{name}"
        members = _members(value, where, "upstream", UPSTREAM)
        if "targets" not in members:
            wrong(where, value, '`targets` is missing; write targets: ["http://host:port"]')
        if len(members["targets"]) > 1:
            unsupported(f"{where}.targets with more than one target", value)
        upstreams[name] = Upstream(name, members["targets"])
    return upstreams


def single_upstream(node: Node) -> tuple[dict[str, Upstream], tuple[Route, ...]]:
    """Return the upstream ``default`` at the URL of ``--upstream`` and the one route to it."""
    target = _read_target(node, "upstream")
    return {"default": Upstream("default", (target,))}, (Route(name="/", upstream="default"),)


def read_roles(node: Node) -> dict[str, Role]:
    """Read the group ``roles`` and return every role, built-in and shipped ones included."""
    roles = {**BUILT_IN_ROLES, **SHIPPED_ROLES}
    for name, value in _named(node, "roles").items():
        where = f"roles.{name}"
        if name.lower() in (*BUILT_IN_ROLES, "admin"):  # these names are read in any case
            wrong(where, value, f"{name.lower()} is built in and cannot be redefined; choose another name")
        members = _members(value, where, "role", ROLE)
        if "permission" not in members:
            wrong(where, value, "`permission` is missing; write permission: viewer or editor")
        roles[name] = Role(name, Permission[members["permission"].upper()], members.get("routes", ()))
    return roles


def read_routes(
    node: Node, upstreams: Mapping[str, Upstream], roles: Mapping[str, Role]
) -> tuple[Route, ...]:
    """Read the list ``routes`` and hold it to the upstreams and roles; raises ConfigError."""
    if node.value is None or node.value == []:
        return ()
    routes: list[Route] = []
    places: dict[tuple[str | None, str], str] = {}
    names: dict[str, str] = {}
    for i, item in enumerate(items_of(node, "routes", "routes")):
        where = f"routes[{i}]"
        route = _read_route(item, where, upstreams, roles)
        if (first := places.setdefault((route.host, route.path), where)) != where:
            wrong(where, item, f"the same host and path as {first}; keep one of them")
        if (first := names.setdefault(route.name, where)) != where:
            wrong(where, item, f"the same name `{route.name}` as {first}; give it another")
        routes.append(route)
    return tuple(routes)


def _read_route(
    node: Node, where: str, upstreams: Mapping[str, Upstream], roles: Mapping[str, Role]
) -> Route:
    members = _members(node, where, "route", ROUTE)
    for needed in ("path", "upstream"):
        if needed not in members:
            wrong(where, node, f"`{needed}` is missing")
    _check_names(node, where, members, upstreams, roles)
    anonymous = members.pop("auth", "key") == "anonymous"
    for member in _FOR_KEYS_ONLY if anonymous else ():
        if member in members:
            problem = "has no effect on a route with `auth: anonymous`; leave one of them out"
            wrong(f"{where}.{member}", _member(node, member), problem)
    path, strip = members["path"], members.get("strip_prefix", "")
    if strip == "/":
        wrong(f"{where}.strip_prefix", _member(node, "strip_prefix"), "`/` strips nothing; leave it out")
    if strip and strip != path and not path.startswith(f"{strip}/"):
        problem = f"`{strip}` is not a leading part of the route's path `{path}`"
        wrong(f"{where}.strip_prefix", _member(node, "strip_prefix"), problem)
    members.setdefault("name", f"{members.get('host', '')}{path}")
    for member in _SETS.intersection(members):
        members[member] = frozenset(members[member])
    if "read_methods" in members:
        members["read_methods"] = frozenset(method.encode() for method in members["read_methods"])
    return Route(anonymous=anonymous, **members)


def _check_names(
    node: Node,
    where: str,
    members: Mapping[str, Any],
    upstreams: Mapping[str, Upstream],
    roles: Mapping[str, Role],
) -> None:
    """Refuse an upstream or a role that the configuration does not know."""
    upstream = members["upstream"]
    if upstream not in upstreams:
        known = f"the nearest known one is `{nearest(upstream, upstreams)}`" if upstreams else "there is none"
        wrong(f"{where}.upstream", _member(node, "upstream"), f"unknown upstream `{upstream}`; {known}")
    for i, role in enumerate(members.get("roles", ())):
        if role not in roles:
            problem = f"unknown role `{role}`; the nearest known one is `{nearest(role, roles)}`"
            wrong(f"{where}.roles[{i}]", _member(node, "roles"), problem)


def _member(node: Node, name: str) -> Node:
    return node.value[name] if isinstance(node.value, dict) else node
