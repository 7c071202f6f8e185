"""Write settings out again: as a file that could be read back, and as a JSON schema of such files.

Secrets are masked. Imports this package's lower modules.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from gateway.config.catalogue import BY_NAME, SETTINGS, Setting
from gateway.config.issuers import ISSUER, REQUIRED
from gateway.config.kinds import NAME_PATTERN, Kind
from gateway.config.members import ROLE, ROUTE, UPSTREAM
from gateway.config.settings import BUILT_IN_ROLES, Settings
from gateway.core.model import Role
from gateway.core.routes import Route

MASK = "***"
_WIDTH = 46


def show_settings(settings: Settings, *, default_store: str) -> str:
    """Return every effective setting with where it comes from, as YAML that reads back as the same.

    ``default_store`` is the URL that stands for an unset ``store.url``. What is masked is left to
    its place: a pepper from the environment shows as a comment.
    """
    lines: list[str] = []
    open_sections: list[str] = []
    for setting in SETTINGS:
        *sections, member = setting.name.split(".")
        for depth, section in enumerate(sections):
            if open_sections[depth : depth + 1] != [section]:
                lines.append(f"{'  ' * depth}{section}:")
                open_sections[depth:] = [section]
        open_sections = sections
        origin = settings.origins.get(setting.name, "default")
        value = _masked(setting, _value_of(settings, setting, default_store))
        indent = "  " * len(sections)
        if not setting.in_file:
            lines += [f"{indent}# {member}: {value}  ({origin})"] if value is not None else []
            continue
        lines.append(_line(f"{indent}{member}: {_flow(value)}", origin))
    lines += _groups(settings)
    return "\n".join(lines) + "\n"


def _line(text: str, origin: str) -> str:
    return f"{text:<{_WIDTH}} # {origin}"


def _flow(value: Any) -> str:
    """Return a value in YAML's flow style: JSON, with plain words left plain."""
    if isinstance(value, str) and value.replace("-", "").isalnum() and not value.isdigit():
        return value
    return json.dumps(value, ensure_ascii=False)


def _value_of(settings: Settings, setting: Setting, default_store: str) -> Any:
    """Return the effective value of a setting, as the file would say it."""
    propagation, control, login = settings.propagation, settings.control, settings.login
    values: dict[str, Any] = {
        "listen": settings.listen,
        "ops.listen": settings.ops_listen,
        "control.listen": control.listen,
        "control.public_url": control.public_url,
        "control.allow_plaintext": control.allow_plaintext,
        "control.tls.cert": control.tls.cert if control.tls else None,
        "control.tls.key": control.tls.key if control.tls else None,
        "login.token_ttl": login.token_ttl_s,
        "login.cookie": login.cookie,
        "login.cookie_domain": login.cookie_domain,
        "login.cookie_max_age": login.cookie_max_age_s,
        "store.url": settings.store_url or default_store,
        "secrets.pepper_file": settings.secrets.pepper_file,
        "secrets.pepper": settings.secrets.pepper,
        "propagation.bound": propagation.bound_s,
        "propagation.poll": propagation.poll_s,
        "propagation.fresh": propagation.fresh_s,
        "propagation.outage_grace": propagation.outage_grace_s,
        "propagation.kept_table": propagation.kept_table,
        "workers": settings.workers,
        "access_log.path": settings.access_log,
    }
    section, _, member = setting.name.partition(".")
    if section in ("limits", "timeouts", "key_policy"):
        values[setting.name] = getattr(getattr(settings, section), member)
    value = values[setting.name]
    return None if value is None else setting.kind.write(value)


def _masked(setting: Setting, value: Any) -> Any:
    if setting.name != "store.url" or value is None or not urlsplit(value).password:
        return value
    return value.replace(f":{urlsplit(value).password}@", f":{MASK}@")


def _groups(settings: Settings) -> Iterator[str]:
    origins = settings.origins
    yield _line("upstreams:", origins.get("upstreams", "default"))
    for name, upstream in settings.upstreams.items():
        yield f"  {json.dumps(name)}: {_flow({'targets': UPSTREAM['targets'].write(upstream.targets)})}"
    yield _line("routes:", origins.get("routes", "default"))
    yield from (f"  - {_flow(_route(route))}" for route in settings.routes)
    yield _line("roles:", origins.get("roles", "default"))
    for name, role in settings.roles.items():
        if name not in BUILT_IN_ROLES:
            yield f"  {json.dumps(name)}: {_flow(_role(role))}"
    yield _line("issuers:", origins.get("issuers", "default"))
    for issuer in settings.issuers:
        members = {name: kind.write(getattr(issuer, name)) for name, kind in ISSUER.items()}
        yield f"  - {_flow(members)}"


def _route(route: Route) -> dict[str, Any]:
    """Return a route's members, those at their default left out."""
    plain = Route(name="", upstream="")
    members: dict[str, Any] = {"path": route.path, "upstream": route.upstream, "name": route.name}
    if route.anonymous:
        members["auth"] = "anonymous"
    for name in ROUTE:
        value = getattr(route, name, None)
        if name in members or value == getattr(plain, name, None):
            continue
        if isinstance(value, frozenset):
            value = sorted(item.decode() if isinstance(item, bytes) else item for item in value)
        members[name] = value
    return members


def _role(role: Role) -> dict[str, Any]:
    return {"permission": role.permission.word, **({"routes": role.routes} if role.routes else {})}


def schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a configuration file, built from the catalogue."""
    properties: dict[str, Any] = {}
    for setting in SETTINGS:
        if not setting.in_file:
            continue
        described = {**setting.kind.schema, "description": setting.doc}
        if setting.default is None:
            described["type"] = [described["type"], "null"]
        else:
            described["default"] = setting.kind.write(setting.default)
        *sections, member = setting.name.split(".")
        group = properties
        for section in sections:
            group = group.setdefault(section, _object({}))["properties"]
        group[member] = described
    names = {"pattern": f"^{NAME_PATTERN}$"}
    properties["upstreams"] = {
        "type": "object",
        "propertyNames": names,
        "additionalProperties": _object(UPSTREAM, "targets"),
    }
    properties["routes"] = {"type": "array", "items": _object(ROUTE, "path", "upstream")}
    properties["roles"] = {
        "type": "object",
        "propertyNames": names,
        "additionalProperties": _object(ROLE, "permission"),
    }
    properties["issuers"] = {"type": "array", "items": _object(ISSUER, *REQUIRED)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gateway configuration",
        **_object({}),
        "properties": properties,
    }


def _object(members: Mapping[str, Kind], *required: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: dict(kind.schema) for name, kind in members.items()},
    }
    return {**described, "required": list(required)} if required else described


def setting_names() -> tuple[str, ...]:
    """Return the dotted name of every setting that a file may hold, members of the groups too."""
    fixed = tuple(name for name, setting in BY_NAME.items() if setting.in_file)
    members = (("upstreams.*", UPSTREAM), ("routes[]", ROUTE), ("roles.*", ROLE), ("issuers[]", ISSUER))
    return (*fixed, *(f"{group}.{member}" for group, kinds in members for member in kinds))
