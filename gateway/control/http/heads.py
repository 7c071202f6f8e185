"""Refuse what the parser of the control listener lets through, and others read otherwise.

httptools takes any version of HTTP, any Host, other transfer codings than chunked, and a length of
2^64-1 for none. What stands before this listener may not; so that none of it is answered but with a
refusal that ends the connection, as on the data path. Imports ``core``, aiohttp and its own room.
"""

from __future__ import annotations

from aiohttp import HttpVersion10, HttpVersion11, web

from gateway.control.http.faults import Fault
from gateway.core.grammar import is_authority
from gateway.core.refusals import REFUSALS, Reason

_VERSIONS = (HttpVersion10, HttpVersion11)
_MOST_DIGITS = 19
"""Of a Content-Length: more may overflow the 64 bits of whoever counts."""


def fault_of_head(request: web.BaseRequest) -> Fault | None:
    """Return why nothing can be answered on this connection but a refusal, its last; None: it can."""
    if request.version not in _VERSIONS:
        return _refusal(Reason.VERSION_NOT_SUPPORTED)
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        return _refusal(Reason.NOT_IMPLEMENTED)
    if len(request.headers.get("Content-Length", "")) > _MOST_DIGITS:
        return _refusal(Reason.BODY_TOO_LARGE)
    # HTTP/1.0 may be without; that it comes once is seen to by the parser (RFC 9112 §3.2).
    host = request.headers.get("Host")
    if host is not None and not is_authority(host.encode("utf-8", "surrogateescape")):
        return _refusal(Reason.BAD_REQUEST)
    return None


def _refusal(reason: Reason) -> Fault:
    refusal = REFUSALS[reason]
    return Fault(refusal.status, reason.value, refusal.title, refusal.detail)
