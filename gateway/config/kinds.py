"""What a setting's text may be: one reader for each kind of value, strict, with words for its errors.

A ``Kind`` reads a node into a checked value, writes it back as the file would say it, and knows its
JSON schema. Every error says which setting, what was wrong, what would be right, and where it stands.
Imports ``core`` and this package's lower modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from gateway.config.document import Node
from gateway.config.settings import Address, ConfigError
from gateway.core.durations import checked_lifetime, parse_duration

NAME_PATTERN = r"[A-Za-z0-9._-]{1,64}"
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")
_DIGITS = re.compile(r"[0-9]{1,19}")
_PORT = re.compile(r"[0-9]{1,5}")


class Kind(NamedTuple):
    """How one kind of value is read, written and described."""

    read: Callable[[Node, str], Any]
    schema: Mapping[str, Any]
    write: Callable[[Any], Any] = str


def wrong(name: str, node: Node, problem: str) -> NoReturn:
    """Raise ConfigError: the setting ``name``, said by ``node``, has ``problem``."""
    raise ConfigError(f"{name}: {problem} ({node.origin})")


def unsupported(name: str, node: Node) -> NoReturn:
    """Raise ConfigError: ``name`` is known, and nothing would act on it yet."""
    raise ConfigError(f"{name} is not supported by this version ({node.origin})")


def text_of(node: Node, name: str, wanted: str) -> str:
    """Return the node's text; ``wanted`` says what belongs there instead of nothing, a list or a map."""
    if not isinstance(node.value, str) or not node.value:
        shape = "a list" if isinstance(node.value, list) else "a group" if node.value else "nothing"
        wrong(name, node, f"{shape} stands where {wanted} belongs")
    if not node.value.isprintable():
        wrong(name, node, f"a control character stands where {wanted} belongs")
    return node.value


def items_of(node: Node, name: str, wanted: str) -> list[Node]:
    """Return the items of a list that may not be empty."""
    if not isinstance(node.value, list) or not node.value:
        wrong(name, node, f"a list of {wanted} belongs here, with at least one")
    return node.value


def split_port(text: str) -> tuple[str, int | None] | None:
    """Return host and port of ``H:P``, ``[v6]:P``, ``:P`` or ``H``; None when it is none of these."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _IPV6.fullmatch(host) or (rest and not rest.startswith(":")):
            return None
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = text.partition(":")
        if host and not _HOST.fullmatch(host):
            return None
    if not colon:
        return host, None
    if not _PORT.fullmatch(port) or int(port) > 65535:
        return None
    return host, int(port)


def read_tcp_address(node: Node, name: str) -> Address:
    """Read ``H:P``, ``[v6]:P`` or ``:P`` (all interfaces); port 0 lets the system choose."""
    text = text_of(node, name, "an address such as 127.0.0.1:8080")
    if text.startswith("unix:"):
        unsupported(f"{name} on a Unix socket", node)
    parts = split_port(text)
    if parts is None or parts[1] is None:
        wrong(
            name,
            node,
            f"`{text}` is not an address; write host:port, [v6]:port or :port, with a port to 65535",
        )
    return Address(host=parts[0], port=parts[1])


def _read_address(node: Node, name: str) -> Address:
    if isinstance(node.value, dict):
        for member, value in node.value.items():
            if member == "tls" and value.value is not None:
                unsupported(f"{name}.tls", value)
            if member not in ("tls", "address"):
                wrong(name, node, f"unknown member `{member}`; the nearest known one is `address`")
        if "address" not in node.value:
            wrong(name, node, "`address` is missing")
        return _read_address(node.value["address"], f"{name}.address")
    text = text_of(node, name, "an address such as 127.0.0.1:8080 or unix:/run/gateway.sock")
    if not text.startswith("unix:"):
        return read_tcp_address(node, name)
    path = text.removeprefix("unix:")
    if not path.startswith("/") or len(path.encode()) > 107:  # sun_path holds 108 with its NUL
        wrong(name, node, f"`{text}` is not a socket; write unix: and an absolute path of at most 107 bytes")
    return Address(path=path)


def _read_addresses(node: Node, name: str) -> tuple[Address, ...]:
    if isinstance(node.value, list):
        items = items_of(node, name, "addresses")
        found = tuple(_read_address(item, f"{name}[{i}]") for i, item in enumerate(items))
    elif (
        isinstance(node.value, str) and "," in node.value
    ):  # a flag or a variable has no other way to say two
        found = tuple(_read_address(Node(part.strip(), node.origin), name) for part in node.value.split(","))
    else:
        found = (_read_address(node, name),)
    for address in found:
        if (address.port or address.path) and found.count(address) > 1:
            wrong(name, node, f"{address} is listed twice")
    return found


def _write_addresses(addresses: tuple[Address, ...]) -> Any:
    return str(addresses[0]) if len(addresses) == 1 else [str(address) for address in addresses]


def duration(minimum: float, maximum: float) -> Kind:
    """Return the kind of a duration, read as seconds."""

    def read(node: Node, name: str) -> float:
        text = text_of(node, name, "a duration such as 30s")
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            wrong(name, node, f"`{text}` {error}")
        if not minimum <= seconds <= maximum:
            limits = f"from {say_duration(minimum)} to {say_duration(maximum)}"
            wrong(name, node, f"`{text}` is out of range; write a duration {limits}")
        return seconds

    return Kind(read, {"type": "string", "examples": ["500ms", "30s", "PT5M"]}, say_duration)


def say_duration(seconds: float) -> str:
    """Return the shortest spelling of ``seconds``."""
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    return f"{int(seconds)}s"


def _read_lifetime(node: Node, name: str) -> str:
    text = text_of(node, name, "a duration such as P1Y or 30d")
    try:
        return checked_lifetime(text)
    except ValueError as error:
        wrong(name, node, f"`{text}` {error}")


def whole(minimum: int, maximum: int) -> Kind:
    """Return the kind of a whole number."""

    def read(node: Node, name: str) -> int:
        text = text_of(node, name, "a whole number")
        if not _DIGITS.fullmatch(text) or not minimum <= int(text) <= maximum:
            wrong(name, node, f"`{text}` is not a whole number from {minimum} to {maximum}")
        return int(text)

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return Kind(read, schema, lambda value: value)


def whole_or(word: str, minimum: int, maximum: int) -> Kind:
    """Return the kind of a whole number, or of the one word that may stand in its place."""
    number = whole(minimum, maximum)

    def read(node: Node, name: str) -> int | str:
        if node.value == word:
            return word
        text = text_of(node, name, f"a whole number or {word}")
        if not _DIGITS.fullmatch(text) or not minimum <= int(text) <= maximum:
            wrong(name, node, f"`{text}` is neither a whole number from {minimum} to {maximum} nor {word}")
        return int(text)

    return Kind(read, {"anyOf": [number.schema, {"const": word}]}, lambda value: value)


def _read_switch(node: Node, name: str) -> bool:
    text = text_of(node, name, "true or false")
    if text not in ("true", "false"):
        wrong(name, node, f"`{text}` is neither true nor false")
    return text == "true"


def word(*choices: str) -> Kind:
    """Return the kind of a word out of ``choices``."""

    def read(node: Node, name: str) -> str:
        text = text_of(node, name, " or ".join(choices))
        if text not in choices:
            wrong(name, node, f"`{text}` is not known; write {' or '.join(choices)}")
        return text

    return Kind(read, {"enum": list(choices)})


def words(pattern: str, wanted: str) -> Kind:
    """Return the kind of a list of different words of the form ``pattern``, at least one."""

    def read(node: Node, name: str) -> tuple[str, ...]:
        found: list[str] = []
        for i, item in enumerate(items_of(node, name, wanted)):
            text = text_of(item, f"{name}[{i}]", wanted)
            if not re.fullmatch(pattern, text):
                wrong(f"{name}[{i}]", item, f"`{text}` has not the form of {wanted}")
            if text in found:
                wrong(f"{name}[{i}]", item, f"`{text}` is listed twice")
            found.append(text)
        return tuple(found)

    items = {"type": "string", "pattern": f"^{pattern}$"}
    return Kind(read, {"type": "array", "minItems": 1, "uniqueItems": True, "items": items}, list)


def one_text(wanted: str) -> Kind:
    """Return the kind of any printable text."""
    return Kind(lambda node, name: text_of(node, name, wanted), {"type": "string", "minLength": 1})


def _read_lines(node: Node, name: str) -> str:
    """Read printable text of one line or several."""
    lines = node.value.splitlines() if isinstance(node.value, str) else []
    if lines and all(line.isprintable() for line in lines):
        return str(node.value)
    return text_of(node, name, "a pepper a line")


_STORE_SCHEMES = ("sqlite", "postgresql", "postgres")
_STORE_EXAMPLES = ["sqlite:///var/lib/gateway/gateway.db", "postgresql://gateway@db.internal:5432/gateway"]


def _read_store_url(node: Node, name: str) -> str:
    """Read the URL of a store by its kind alone: what else it says, the store's engine checks."""
    text = text_of(node, name, "a store's URL such as sqlite:///var/lib/gateway/gateway.db")
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in _STORE_SCHEMES or not rest.strip("/"):
        # The text itself may hold a password, so it is not told.
        wrong(
            name,
            node,
            "this is not a store's URL; write sqlite:///path/to/gateway.db, sqlite:gateway.db"
            " or postgresql://user@host:5432/database",
        )
    return text


PEPPERS = Kind(_read_lines, {"type": "string", "minLength": 1})
ADDRESS = Kind(read_tcp_address, {"type": "string", "examples": ["127.0.0.1:9464", "[::1]:9464"]})
ADDRESSES = Kind(
    _read_addresses,
    {
        "anyOf": [
            {"type": "string", "examples": ["0.0.0.0:8080", "unix:/run/gateway.sock"]},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ]
    },
    _write_addresses,
)
LIFETIME = Kind(_read_lifetime, {"type": "string", "examples": ["P1Y", "30d", "PT24H"]})
SWITCH = Kind(_read_switch, {"type": "boolean"}, lambda value: value)
STORE_URL = Kind(
    _read_store_url,
    {"type": "string", "pattern": f"^({'|'.join(_STORE_SCHEMES)}):", "examples": _STORE_EXAMPLES},
)
