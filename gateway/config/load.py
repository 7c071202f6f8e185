"""Put the settings together: flags before the environment, before the file, before defaults.

Imports this package's lower modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.config.catalogue import (
    BY_NAME,
    GROUPS,
    SETTINGS,
    UNSUPPORTED,
    Setting,
    nearest,
    refuse_unsupported,
)
from gateway.config.control import control_of, login_of
from gateway.config.document import Node, read_document
from gateway.config.issuers import read_issuers
from gateway.config.kinds import wrong
from gateway.config.routing import read_roles, read_routes, read_upstreams, single_upstream
from gateway.config.settings import (
    Address,
    ConfigError,
    Propagation,
    Secrets,
    SecretText,
    Settings,
)
from gateway.config.sources import from_environment, from_flags, read_secret
from gateway.core.limits import Limits, Timeouts
from gateway.core.policy import KeyPolicy

_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  compared, not bound


def load_settings(
    file: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str | None] | None = None,
) -> Settings:
    """Return the checked settings.

    ``file`` is the flag ``--config``, else the variable GATEWAY_CONFIG names it. ``flags`` are those
    of the command line with their text, None where not given. Raises ConfigError with one sentence.
    """
    environ, flags = environ or {}, flags or {}
    from_environment(environ)  # a misspelt GATEWAY_CONFIG must not end in "no upstream"
    file = file or environ.get("GATEWAY_CONFIG")
    settings = settings_from(read_document(file) if file else {}, environ, flags)
    return msgspec.structs.replace(settings, file=file)


def settings_from(
    members: Mapping[str, Node], environ: Mapping[str, str], flags: Mapping[str, str | None]
) -> Settings:
    """Return what a file's members, the environment and flags say, checked. Raises ConfigError."""
    said = {**_from_file(members), **from_environment(environ), **from_flags(flags)}
    values = {setting.name: _value(setting, said.get(setting.name)) for setting in SETTINGS}
    groups = {name: members.get(name, Node(None, "default")) for name in GROUPS}
    roles = read_roles(groups["roles"])
    origins = {name: node.origin for name, node in {**groups, **said}.items() if name in {*said, *members}}
    if (single := _single_upstream(environ, flags, groups)) is not None:
        upstreams, routes = single_upstream(single)
        origins |= {"upstreams": single.origin, "routes": single.origin}
    else:
        upstreams = read_upstreams(groups["upstreams"])
        routes = read_routes(groups["routes"], upstreams, roles)
    control = control_of(values, said)
    settings = Settings(
        listen=values["listen"],
        ops_listen=values["ops.listen"],
        store_url=values["store.url"],
        secrets=_secrets(values, said),
        propagation=_propagation(values, said),
        upstreams=upstreams,
        routes=routes,
        limits=Limits(**_under("limits", values)),
        timeouts=Timeouts(**_under("timeouts", values)),
        workers=values["workers"],
        access_log=values["access_log.path"],
        control=control,
        login=login_of(values, said, control.public_url),
        issuers=read_issuers(groups["issuers"], roles, control.issuer),
        key_policy=KeyPolicy(**_under("key_policy", values)),
        roles=roles,
        origins=origins,
    )
    _check_addresses(settings, said)
    _check_limits(settings.limits, said)
    return settings


def check_servable(settings: Settings) -> None:
    """Raise ConfigError unless there is something to serve: an upstream and a route to it."""
    where = f" ({settings.file})" if settings.file else ""
    if not settings.upstreams:
        raise ConfigError(
            f"no upstream is configured: give --upstream http://host:port, or upstreams and routes{where}"
        )
    if not settings.routes:
        name = next(iter(settings.upstreams))
        raise ConfigError(f"no route leads anywhere: write routes: [{{path: /, upstream: {name}}}]{where}")


def _from_file(members: Mapping[str, Node]) -> dict[str, Node]:
    """Return what the file says, by setting; unknown names are refused, unbuilt ones too."""
    known = {name.partition(".")[0] for name in (*BY_NAME, *UNSUPPORTED)}
    found: dict[str, Node] = {}
    for name, node in members.items():
        if name in GROUPS:
            continue
        if name in BY_NAME:
            found[name] = node
        elif name in UNSUPPORTED:
            refuse_unsupported(name, node)
        elif name in known:
            found.update(_section(f"{name}.", node))
        else:
            wrong(
                name, node, f"unknown setting; the nearest known one is `{nearest(name, [*known, *GROUPS])}`"
            )
    return found


def _section(section: str, node: Node) -> dict[str, Node]:
    """Return what the members of the group ``section`` (``timeouts.``, ``control.tls.``) say, by setting."""
    known = [
        name.removeprefix(section).partition(".")[0]
        for name in (*BY_NAME, *UNSUPPORTED)
        if name.startswith(section) and (name not in BY_NAME or BY_NAME[name].in_file)
    ]
    if node.value is None:
        return {}
    if not isinstance(node.value, dict):
        wrong(section[:-1], node, f"a group of members belongs here, such as `{known[0]}: …`")
    found: dict[str, Node] = {}
    for member, value in node.value.items():
        name = f"{section}{member}"
        if name in UNSUPPORTED:
            refuse_unsupported(name, value)
        elif name in BY_NAME and not BY_NAME[name].in_file:
            wrong(
                name, value, f"this does not belong in a file; use the variable {BY_NAME[name].variables[0]}"
            )
        elif name in BY_NAME:
            found[name] = value
        elif member in known:
            found.update(_section(f"{name}.", value))
        else:
            near = f"{section}{nearest(member, known)}"
            wrong(name, value, f"unknown setting; the nearest known one is `{near}`")
    return found


def _single_upstream(
    environ: Mapping[str, str], flags: Mapping[str, str | None], groups: Mapping[str, Node]
) -> Node | None:
    """Return the URL of ``--upstream``, if given; a file that routes as well contradicts it."""
    if (url := flags.get("--upstream")) is not None:
        single = Node(url, "--upstream")
    elif "GATEWAY_UPSTREAM" in environ:
        single = Node(environ["GATEWAY_UPSTREAM"], "GATEWAY_UPSTREAM")
    else:
        return None
    for name in ("upstreams", "routes"):
        if groups[name].value:
            raise ConfigError(
                f"{single.origin} is for a gateway without {name} of its own: leave it out, or remove {name} "
                f"({groups[name].origin})"
            )
    return single


def _value(setting: Setting, node: Node | None) -> Any:
    if node is None or (node.value is None and setting.default is None):
        return setting.default
    return setting.kind.read(node, setting.name)


def _under(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(f"{section}."): value
        for name, value in values.items()
        if name.startswith(f"{section}.")
    }


def _secrets(values: Mapping[str, Any], said: Mapping[str, Node]) -> Secrets:
    """Return the pepper's source; the text by environment outranks a file named by the file."""
    pepper, path = values["secrets.pepper"], values["secrets.pepper_file"]
    if pepper is None:
        return Secrets(pepper_file=path)
    origin = said["secrets.pepper_file"].origin if path is not None else ""
    if origin.startswith("GATEWAY_") and read_secret(path, origin).split() != pepper.split():
        raise ConfigError(
            f"{said['secrets.pepper'].origin} and {origin} both say the pepper, and differ: keep one"
        )
    return Secrets(pepper=SecretText(pepper))


def _propagation(values: Mapping[str, Any], said: Mapping[str, Node]) -> Propagation:
    bound, poll, fresh = (values[f"propagation.{name}"] for name in ("bound", "poll", "fresh"))
    if poll >= bound:
        _contradiction(
            "propagation.poll", said, "is not shorter than propagation.bound: no read could be in time"
        )
    if fresh is None:
        fresh = min(2 * poll + 1, bound)
    if fresh > bound:
        _contradiction("propagation.fresh", said, "is longer than propagation.bound, which ends all trust")
    if fresh <= poll:
        _contradiction(
            "propagation.fresh", said, "is not longer than propagation.poll: no table would be fresh"
        )
    grace = values["propagation.outage_grace"]
    kept = values["propagation.kept_table"]
    return Propagation(bound_s=bound, poll_s=poll, fresh_s=fresh, outage_grace_s=grace, kept_table=kept)


def _check_addresses(settings: Settings, said: Mapping[str, Node]) -> None:
    """Refuse two listeners of different purpose on one port."""
    places = [("listen", address) for address in settings.listen]
    places.append(("ops.listen", settings.ops_listen))
    if settings.control.listen is not None:
        places.append(("control.listen", settings.control.listen))
    for (name, address), (other, second) in itertools.combinations(places, 2):
        if name != other and _meet(address, second):
            at = next((said_name for said_name in (name, other) if said_name in said), name)
            _contradiction(at, said, f"{name} {address} and {other} {second} are one port; choose another")


def _check_limits(limits: Limits, said: Mapping[str, Node]) -> None:
    if limits.target_bytes > limits.head_bytes:
        problem = "is more than limits.head_bytes, which holds the target too"
        _contradiction("limits.target_bytes", said, problem)


def _meet(one: Address, other: Address) -> bool:
    if one.path or other.path or one.port == 0 or one.port != other.port:
        return False
    return one.host == other.host or one.host in _ANYWHERE or other.host in _ANYWHERE


def _contradiction(name: str, said: Mapping[str, Node], problem: str) -> None:
    wrong(name, said.get(name, Node(None, "default")), problem)
