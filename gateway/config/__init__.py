"""Configuration: settings as typed structs; files, the environment and flags (docs in each module).

Imports ``core`` only. ``settings`` holds the values, ``catalogue`` the names, ``document`` reads
YAML strictly, ``sources`` the environment and flags, ``members`` and ``routing`` upstreams, routes and roles,
``load`` puts them together, ``show`` writes them out again.
"""

from gateway.config.load import check_servable, load_settings
from gateway.config.settings import (
    Address,
    ConfigError,
    Propagation,
    Secrets,
    SecretText,
    Settings,
    Target,
    Upstream,
)

__all__ = [
    "Address",
    "ConfigError",
    "Propagation",
    "SecretText",
    "Secrets",
    "Settings",
    "Target",
    "Upstream",
    "check_servable",
    "load_settings",
]
