"""One finished request, as the data path hands it over. Imports ``core`` only."""

from __future__ import annotations

import msgspec

from gateway.core.model import LiveKey


class Outcome(msgspec.Struct, gc=False):
    """What is recorded of one request.

    Attributes:
        at: epoch seconds when the request's first byte arrived.
        request_id: the id that the caller and the backend saw.
        route: the route's name; empty when none was matched or judged.
        method: as sent; b"" when the head could not be read that far.
        target: the raw request target; b"" when the head could not be read that far.
        status: the status sent downstream, 499 when the caller went away before any.
        reason: a ``Reason``, or another stable word such as ``client_closed``; None for a plain answer.
        duration_s: seconds from the first byte of the request to the last of the response.
        upstream: the upstream's name; empty when the request went nowhere.
        upstream_s: seconds from the first byte sent upstream to the last received; None when unused.
        bytes_in: bytes of the request body.
        bytes_out: bytes of the response body.
        key: who was let in, or was known and refused.
        peer: the caller's address, without the port.
    """

    at: float
    request_id: bytes
    route: str
    method: bytes
    target: bytes
    status: int
    reason: str | None
    duration_s: float
    upstream: str
    upstream_s: float | None
    bytes_in: int
    bytes_out: int
    key: LiveKey | None
    peer: str
