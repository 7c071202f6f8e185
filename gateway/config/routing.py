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
from gateway.config.kinds import NAME_PATTERN, Kind, items_of, unsupported, wrong
from gateway.config.members import ROLE, ROUTE, UNSUPPORTED_MEMBERS, UPSTREAM, read_target
from gateway.config.settings import BUILT_IN_ROLES, SHIPPED_ROLES, Upstream
from gateway.core.model import Permission, Role
from gateway.core.routes import Route

_NAME = re.compile(NAME_PATTERN)
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
    target = read_target(node, "upstream")
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
