"""The settings of the control listener and of logins: what each may be, and how they hold together.

Passwords, login tokens and new keys cross the control listener, so it is never in clear on a network
unless somebody has said that it may be. Imports ``core`` and this package's lower modules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from gateway.config.document import Node
from gateway.config.kinds import Kind, read_tcp_address, split_port, text_of, wrong
from gateway.config.settings import Address, Control, Login, Settings, TlsFiles, is_loopback

_COOKIE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
_DEFAULT_PORTS = {"https": 443, "http": 80}
OFF = "none"


def _read_listen(node: Node, name: str) -> Address | None:
    return None if node.value is None or node.value == OFF else read_tcp_address(node, name)


def _read_public_url(node: Node, name: str) -> str:
    """Read an origin and return it serialized: lower-case, without a default port (RFC 6454 §6.2)."""
    text = text_of(node, name, "an origin such as https://keys.example.com")
    if "@" in text:  # a password must not be told again
        wrong(name, node, "an origin has no user or password; write https://host or https://host:port")
    scheme, _, authority = text.partition("://")
    parts = split_port(authority.removesuffix("/"))
    if scheme not in _DEFAULT_PORTS or parts is None or not parts[0] or parts[1] == 0:
        wrong(
            name, node, f"`{text}` is not an origin; write https://host or https://host:port, without a path"
        )
    host, port = parts[0].lower(), parts[1]
    if scheme == "http" and not is_loopback(host):
        wrong(name, node, f"`{text}` is in clear beyond loopback; write https://, or http:// with localhost")
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}")


def _read_cookie(node: Node, name: str) -> str:
    text = text_of(node, name, "a cookie's name")
    if not _COOKIE.fullmatch(text):
        wrong(name, node, f"`{text}` is no cookie's name; use letters, digits and any of !#$%&'*+-.^_`|~")
    return text


def _read_domain(node: Node, name: str) -> str:
    text = text_of(node, name, "a domain such as example.com").lower()
    # A last label of digits alone would be an IPv4 address, which has no subdomains to share with.
    if not _DOMAIN.fullmatch(text) or text.rpartition(".")[2].isdigit():
        wrong(
            name, node, f"`{text}` is not a domain; write it as example.com, without a leading dot or a port"
        )
    return text


LISTEN = Kind(
    _read_listen,
    {"type": ["string", "null"], "examples": ["127.0.0.1:8081", "[::1]:8081", OFF]},
    lambda address: None if address is None else str(address),
)
PUBLIC_URL = Kind(_read_public_url, {"type": "string", "pattern": "^https?://", "examples": ["https://h"]})
COOKIE = Kind(_read_cookie, {"type": "string", "pattern": f"^{_COOKIE.pattern}$"})
DOMAIN = Kind(_read_domain, {"type": "string", "minLength": 1, "maxLength": 253})


def control_of(values: Mapping[str, Any], said: Mapping[str, Node]) -> Control:
    """Return the control listener's settings, held to one another; raises ConfigError."""
    cert, key = values["control.tls.cert"], values["control.tls.key"]
    for there, missing in (("cert", "key"), ("key", "cert")):
        if values[f"control.tls.{there}"] and not values[f"control.tls.{missing}"]:
            name = f"control.tls.{there}"
            wrong(name, said[name], f"control.tls.{missing} is missing; write both, or neither")
    control = Control(
        listen=values["control.listen"],
        public_url=values["control.public_url"],
        allow_plaintext=values["control.allow_plaintext"],
        tls=TlsFiles(cert, key) if cert and key else None,
    )
    if _in_clear(control) and not control.allow_plaintext and not _behind_https(control):
        wrong(
            "control.listen",
            said["control.listen"],
            f"passwords and new keys would cross the network in clear on {control.listen}; write control.tls "
            "{cert, key}, or control.public_url with the https:// origin of what ends TLS in front of it, or "
            "control.allow_plaintext: true",
        )
    return control


def login_of(values: Mapping[str, Any], said: Mapping[str, Node], public_url: str | None) -> Login:
    """Return the settings of logins, held to what browsers demand of a cookie; raises ConfigError."""
    login = Login(
        token_ttl_s=values["login.token_ttl"],
        cookie=values["login.cookie"],
        cookie_domain=values["login.cookie_domain"],
        cookie_max_age_s=values["login.cookie_max_age"],
    )
    domain = login.cookie_domain
    if domain is None:
        return login
    at = said["login.cookie_domain"]
    # RFC 6265bis §4.1.3.2: a browser drops such a cookie where it has a Domain.
    if login.cookie.lower().startswith("__host-"):
        wrong(
            "login.cookie_domain", at, f"a cookie called {login.cookie} has no domain; leave one of them out"
        )
    # RFC 6265 §5.3 step 6: nor does it take one for a domain that the host does not lie in.
    host = urlsplit(public_url or "").hostname
    if host and host != domain and not host.endswith(f".{domain}"):
        problem = f"`{domain}` does not hold the host of control.public_url, {host}: no browser would keep it"
        wrong("login.cookie_domain", at, problem)
    return login


def plaintext_note(settings: Settings) -> str | None:
    """Return what must be said loudly at start where the control listener is in clear on a network."""
    control = settings.control
    if not _in_clear(control):
        return None
    if _behind_https(control):
        return (
            f"the control listener on {control.listen} speaks plain HTTP: let nobody reach it but what ends "
            f"TLS for {control.public_url}"
        )
    return (
        f"the control listener on {control.listen} speaks plain HTTP: passwords, login tokens and new keys "
        "cross the network in clear (control.allow_plaintext)"
    )


def _in_clear(control: Control) -> bool:
    return control.listen is not None and control.tls is None and not control.listen.on_loopback


def _behind_https(control: Control) -> bool:
    return control.public_url is not None and control.public_url.startswith("https://")
