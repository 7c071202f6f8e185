"""Why a gateway cannot start."""

from __future__ import annotations


class StartError(Exception):
    """The gateway cannot start; the text is one sentence for the operator (exit code 1)."""


class StoreOutError(StartError):
    """The store cannot be had now."""


class PortTakenError(StartError):
    """Somebody else listens there."""
