"""What a backend's connection tells the exchange that has borrowed it. Imports ``core`` only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.core.refusals import Reason
from gateway.core.response import Framing, ResponseHead

if TYPE_CHECKING:
    from gateway.dataplane.upstream import UpstreamConnection


class Borrower(Protocol):
    """What a connection tells the exchange that holds it, in this order."""

    __slots__ = ()

    method: bytes
    request_complete: bool

    def on_connected(self, connection: UpstreamConnection) -> None:
        """A new connection is there; the borrower attaches itself or gives it back."""

    def on_connect_failed(self, reason: Reason) -> None:
        """No connection could be had."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx response came."""

    def on_response(self, head: ResponseHead, framing: Framing, content: bytes, *, last: bool) -> None:
        """The final head came, with the content that came along; ``last`` if that is all."""

    def on_content(self, content: bytes, *, last: bool) -> None:
        """More content came."""

    def on_response_end(self, now: float) -> None:
        """The response is whole and the connection has been given back or closed."""

    def on_upstream_lost(self, *, answered: bool, reused: bool) -> None:
        """The connection broke or spoke nonsense before the response was whole.

        ``answered`` if any byte of it had come, ``reused`` if the connection had served before.
        """

    def hold_reading(self) -> None:
        """The backend does not keep up: send no more."""

    def release_reading(self) -> None:
        """The backend keeps up again."""
