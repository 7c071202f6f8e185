"""The members of an upstream, a route and a role: what each may be. The tables behind file, show and schema.

Imports ``core`` and this package's lower modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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
from gateway.config.settings import Target
from gateway.core.http1 import METHODS

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


def read_target(node: Node, name: str) -> Target:
    """Read ``http://host:port``; what a target may be one day, and is not yet, is refused by name."""
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
_TARGET = Kind(read_target, {"type": "string", "pattern": "^http://"})
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
            read_target(item, f"{name}[{i}]") for i, item in enumerate(items_of(node, name, "targets"))
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
