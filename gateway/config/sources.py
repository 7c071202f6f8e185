"""What the environment and the flags say: the same names as the file's, in their own spelling.

Variables that Kubernetes injects for a Service called ``gateway`` (or ``gateway-…``) are not ours
and pass unread; every other unknown ``GATEWAY_…`` is an error. Imports this package's lower modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gateway.config.catalogue import (
    SETTINGS,
    UNSUPPORTED,
    UNSUPPORTED_FLAGS,
    Setting,
    flag_variable,
    nearest,
    refuse_unsupported,
    variable_of,
)
from gateway.config.document import Node
from gateway.config.settings import ConfigError

# Flags that are no settings: those of this loader, and those of single commands.
OTHER_FLAGS = (
    "--config",
    "--upstream",
    "--action",
    "--actor",
    "--after",
    "--allow-weak",
    "--api-keys-enabled",
    "--default-tenant",
    "--description",
    "--descendants",
    "--enabled",
    "--entity",
    "--environment",
    "--finish",
    "--format",
    "--host",
    "--json",
    "--key-file",
    "--limit",
    "--max-api-key-expiry",
    "--max-keys-per-user",
    "--name",
    "--no-verifier",
    "--overlap",
    "--password-file",
    "--password-stdin",
    "--permission",
    "--prefix",
    "--role",
    "--scim-external-client-expiry",
    "--since",
    "--skip-bad",
    "--status",
    "--tenant",
    "--ttl",
    "--write",
    "--yes",
)
MAXIMUM_SECRET_BYTES = 65536

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    r"GATEWAY_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_PORT = re.compile(r"GATEWAY_(?:[A-Z0-9_]+_)?PORT")
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")


def from_environment(environ: Mapping[str, str]) -> dict[str, Node]:
    """Return what the environment says, by setting; raises ConfigError (unknown, empty, contradictory)."""
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith("GATEWAY_") and not _is_service_link(name, value)
    }
    known = known_variables()
    for name in variables:
        if name not in known:
            raise ConfigError(
                f"unknown environment variable {name}; the nearest known one is {nearest(name, known)}"
            )
        if not variables[name]:
            raise ConfigError(f"{name} is empty: give it a value or unset it")
    for name in UNSUPPORTED:
        for variable in _unsupported_variables(name):
            if variable in variables:
                refuse_unsupported(name, _node(variable, variables[variable]))
    found: dict[str, Node] = {}
    for setting in SETTINGS:
        said = _said(setting, variables)
        if said is not None:
            found[setting.name] = said
    return found


def from_flags(flags: Mapping[str, str | None]) -> dict[str, Node]:
    """Return what the given flags (``--listen`` → text; None: not given) say, by setting."""
    found: dict[str, Node] = {}
    by_flag = {setting.flag: setting.name for setting in SETTINGS if setting.flag}
    for flag, text in flags.items():
        if text is None:
            continue
        node = _node(flag, text)
        if flag in UNSUPPORTED_FLAGS:
            refuse_unsupported(UNSUPPORTED_FLAGS[flag], node)
        elif flag in by_flag:
            found[by_flag[flag]] = node
    return found


def known_variables() -> frozenset[str]:
    """Return the name of every environment variable that means something here."""
    known = {flag_variable(flag) for flag in OTHER_FLAGS}
    for name in UNSUPPORTED:
        known.update(_unsupported_variables(name))
    for setting in SETTINGS:
        known.update(setting.names_in_environment)
        known.update(_file_variables(setting))
    return frozenset(known)


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return bool(_SERVICE_PORT.fullmatch(name) and _SERVICE_URL.match(value))


def _unsupported_variables(name: str) -> tuple[str, ...]:
    flags = [flag for flag, setting in UNSUPPORTED_FLAGS.items() if setting == name]
    return (variable_of(name), *(flag_variable(flag) for flag in flags))


def _file_variables(setting: Setting) -> tuple[str, ...]:
    return tuple(f"{name}_FILE" for name in setting.names_in_environment) if setting.secret else ()


def _said(setting: Setting, variables: Mapping[str, str]) -> Node | None:
    """Return what the variables of one setting say; two that differ are refused."""
    found: Node | None = None
    for variable in (*setting.names_in_environment, *_file_variables(setting)):
        if variable not in variables:
            continue
        node = _node(variable, variables[variable])
        if variable in _file_variables(setting):
            node = Node(read_secret(variables[variable], variable), variable)
        if found is not None and found.value != node.value:
            raise ConfigError(f"{found.origin} and {variable} both say {setting.name}, and differ: keep one")
        found = found or node
    return found


def _node(origin: str, text: str) -> Node:
    return Node(None if text == "null" else text, origin)


def read_secret(path: str, origin: str) -> str:
    """Return the text of a secret's file without its final line break; raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAXIMUM_SECRET_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"{origin}: {path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, ValueError):
        raise ConfigError(f"{origin}: {path} does not hold text") from None
    if len(content) > MAXIMUM_SECRET_BYTES:
        raise ConfigError(f"{origin}: {path} is larger than {MAXIMUM_SECRET_BYTES} bytes")
    if not text.strip():
        raise ConfigError(f"{origin}: {path} is empty")
    return text.rstrip("\r\n")
