"""Read external issuers: whose tokens are taken, under which algorithms, and what their claims mean here.

Imports ``core`` and this package's lower modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.config.catalogue import nearest
from gateway.config.document import Node
from gateway.config.kinds import Kind, items_of, one_text, split_port, text_of, wrong
from gateway.config.settings import Issuer, is_loopback
from gateway.core.model import Role

# RFC 7518 §3.1 and RFC 8037 §3.1, less `none` and all that has one key for signing and for checking.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_MAXIMUM_LENGTH = 512
_ISSUER = re.compile(r"[!-{}~]+")  # visible ASCII but the bar, which parts issuer and subject
_URL = re.compile(r"(https?)://([^/?#]*)((?:[/?][!\"$-~]*)?)")


def _bounded(node: Node, name: str, wanted: str) -> str:
    text = text_of(node, name, wanted)
    if len(text) > _MAXIMUM_LENGTH:
        wrong(name, node, f"it is longer than {_MAXIMUM_LENGTH} characters")
    return text


def _read_issuer(node: Node, name: str) -> str:
    text = _bounded(node, name, "an issuer such as https://login.example.com")
    if not _ISSUER.fullmatch(text):
        wrong(
            name, node, f"`{text}` is not an issuer; write what its tokens say in `iss`, without space or `|`"
        )
    return text


def _read_jwks_url(node: Node, name: str) -> str:
    text = _bounded(node, name, "a URL such as https://login.example.com/jwks.json")
    match = _URL.fullmatch(text)
    if match is not None and "@" in match[2]:  # a password must not be told again
        wrong(name, node, "a JWKS URL has no user or password; write https://host/path")
    parts = split_port(match[2]) if match is not None else None
    if match is None or parts is None or not parts[0] or parts[1] == 0:
        wrong(name, node, f"`{text}` is not a JWKS URL; write https://host/path, or http:// on loopback")
    if match[1] == "http" and not is_loopback(parts[0]):
        # Whoever stands between could put in a key of his own, and with it sign any token.
        wrong(name, node, f"`{text}` fetches keys in clear beyond loopback; write https://")
    return text


def _read_algorithms(node: Node, name: str) -> tuple[str, ...]:
    found: list[str] = []
    for i, item in enumerate(items_of(node, name, "algorithms")):
        where, text = f"{name}[{i}]", text_of(item, f"{name}[{i}]", "an algorithm such as RS256")
        if text.lower() == "none" or text.upper().startswith("HS"):
            # Who can check a HMAC can make it, and a public key is no secret (RFC 8725 §2.1).
            wrong(where, item, f"`{text}` proves no issuer; write any of {', '.join(ALGORITHMS)}")
        if text not in ALGORITHMS:
            near = nearest(text, ALGORITHMS)
            wrong(where, item, f"unknown algorithm `{text}`; the nearest known one is `{near}`")
        if text in found:
            wrong(where, item, f"`{text}` is listed twice")
        found.append(text)
    return tuple(found)


def _read_roles(node: Node, name: str) -> dict[str, str]:
    if not isinstance(node.value, dict) or not node.value:
        wrong(name, node, "roles are written as members, `value of the claim: viewer`, with at least one")
    return {value: text_of(item, f"{name}.{value}", "a role's name") for value, item in node.value.items()}


ISSUER: Mapping[str, Kind] = {
    "issuer": Kind(_read_issuer, {"type": "string", "pattern": f"^{_ISSUER.pattern}$"}),
    "jwks_url": Kind(_read_jwks_url, {"type": "string", "pattern": "^https?://"}),
    "audience": one_text("what stands in `aud`"),
    "algorithms": Kind(
        _read_algorithms,
        {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": list(ALGORITHMS)}},
        list,
    ),
    "tenant_claim": one_text("the claim that names the tenant"),
    "role_claim": one_text("the claim that names the role"),
    "roles": Kind(
        _read_roles,
        {"type": "object", "minProperties": 1, "additionalProperties": {"type": "string", "minLength": 1}},
        dict,
    ),
}
REQUIRED = tuple(name for name in ISSUER if name != "algorithms")


def read_issuers(node: Node, roles: Mapping[str, Role], own: str) -> tuple[Issuer, ...]:
    """Read the list ``issuers`` and hold it to the roles; raises ConfigError.

    ``own`` is this gateway's own issuer name, which no other may have.
    """
    if node.value is None or node.value == []:
        return ()
    issuers: list[Issuer] = []
    places: dict[str, str] = {}
    for i, item in enumerate(items_of(node, "issuers", "issuers")):
        where = f"issuers[{i}]"
        issuer = _read_one(item, where, roles)
        if issuer.issuer == own:
            wrong(f"{where}.issuer", item, f"`{own}` is the issuer of this gateway's own tokens")
        if (first := places.setdefault(issuer.issuer, where)) != where:
            wrong(where, item, f"the same issuer as {first}; keep one of them")
        issuers.append(issuer)
    return tuple(issuers)


def _read_one(node: Node, where: str, roles: Mapping[str, Role]) -> Issuer:
    if not isinstance(node.value, dict):
        wrong(where, node, "an issuer is made of members such as `issuer: …`")
    values: dict[str, Any] = {}
    for member, value in node.value.items():
        if member not in ISSUER:
            near = nearest(member, ISSUER)
            wrong(where, value, f"unknown member `{member}`; the nearest known one is `{near}`")
        values[member] = ISSUER[member].read(value, f"{where}.{member}")
    for needed in REQUIRED:
        if needed not in values:
            wrong(where, node, f"`{needed}` is missing")
    for value, role in values["roles"].items():
        if role not in roles:
            known = f"unknown role `{role}`; the nearest known one is `{nearest(role, roles)}`"
            problem = "admin is for users of this gateway; write editor" if role == "admin" else known
            wrong(f"{where}.roles.{value}", _role_at(node, value), problem)
    return Issuer(**values)


def _role_at(node: Node, value: str) -> Node:
    """Return where the role of one value stands in an issuer's members."""
    roles = node.value["roles"] if isinstance(node.value, dict) else node
    return roles.value[value] if isinstance(roles.value, dict) else roles
