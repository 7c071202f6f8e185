"""Configuration: settings as typed structs; files, the environment and flags (docs in each module).

Imports ``core`` only. ``settings`` holds the values, ``catalogue`` the names, ``document`` reads
YAML strictly, ``sources`` the environment and flags, ``members`` and ``routing`` upstreams, routes and roles,
``control`` and ``issuers`` where keys are managed and whose tokens are taken, ``load`` puts them together,
``show`` writes them out again.
"""

from gateway.config.control import plaintext_note
from gateway.config.load import check_servable, load_settings
from gateway.config.settings import (
    Address,
    ConfigError,
    Control,
    Issuer,
    Login,
    Propagation,
    Secrets,
    SecretText,
    Settings,
    Target,
    TlsFiles,
    Upstream,
)

__all__ = [
    "Address",
    "ConfigError",
    "Control",
    "Issuer",
    "Login",
    "Propagation",
    "SecretText",
    "Secrets",
    "Settings",
    "Target",
    "TlsFiles",
    "Upstream",
    "check_servable",
    "load_settings",
    "plaintext_note",
]
