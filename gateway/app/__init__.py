"""The composition root: the only room that knows every plane. Build, wire, start, drain, stop."""

from gateway.app.errors import PortTakenError, StartError
from gateway.app.running import run

__all__ = ["PortTakenError", "StartError", "run"]
