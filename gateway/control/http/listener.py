"""The application of the control listener: endpoints routed, requests read and authenticated, answers told.

Imports aiohttp and its own plane.

Promise: every answer has a request id and may be kept by nobody unless its endpoint says so; a fault
of this program is told as one, without a word of what went on inside.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from gateway.control.errors import ServiceError
from gateway.control.http.authentication import Authentication
from gateway.control.http.endpoints import Answer, AnyEndpoint, Call
from gateway.control.http.faults import SHAPES, Fault, FaultError, Shape, fault_of, shaped
from gateway.control.http.heads import fault_of_head
from gateway.control.http.reading import LARGEST_BODY_BYTES, read_body, read_query
from gateway.control.http.tiers import Tiers
from gateway.store.base import StoreError

_log = logging.getLogger("gateway.control")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_ID_KEY = web.RequestKey("request_id", str)
# OWASP REST Security Cheat Sheet: nothing here is a page, a frame or a script, but where one says so.
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HSTS = "max-age=31536000"


def make_control(
    endpoints: Iterable[AnyEndpoint],
    authentication: Authentication,
    tiers: Tiers,
    *,
    secure: bool = False,
    plain: Sequence[web.RouteDef] = (),
) -> web.Application:
    """Return the application that serves ``endpoints``.

    ``secure``: callers reach it by https, and should never try without. ``plain``: routes of
    documents that are no endpoints, such as the API's own description.
    """
    app = web.Application(middlewares=[_told_faults], client_max_size=LARGEST_BODY_BYTES)
    for endpoint in endpoints:
        handler = _handler(endpoint, authentication, tiers)
        for method in ("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,):
            app.router.add_route(method, endpoint.path, handler, expect_handler=_expected)
    app.add_routes(plain)
    app.on_response_prepare.append(_finisher(secure))
    return app


def _handler(endpoint: AnyEndpoint, authentication: Authentication, tiers: Tiers) -> Handler:
    """Return what aiohttp calls for an endpoint."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await answer(request)
        except FaultError as error:
            return _fault_response(request, error.fault, endpoint.shape)
        except (ServiceError, StoreError) as error:
            return _fault_response(request, fault_of(error), endpoint.shape)
        except web.HTTPException:
            raise
        except Exception as error:
            # The text of an exception may hold what was sent; its kind and place are enough.
            _log_fault(endpoint, error)
            detail = "The request could not be served by a fault of this server."
            return _fault_response(
                request, Fault(500, "internal_error", "Internal error", detail), endpoint.shape
            )

    async def answer(request: web.Request) -> web.Response:
        if any(map(_CONTROL.search, request.match_info.values())):
            # No id holds one, and not every store takes one for a text.
            raise web.HTTPNotFound
        principal = session = None
        told: tuple[tuple[str, str], ...] = ()
        if not endpoint.open:
            principal, session = await authentication.principal_of(request)
            told = tiers.count(principal.key_id or principal.subject_id, endpoint.tier)
        query = read_query(request, endpoint.query)
        body = None
        if endpoint.body is not None:
            await _continue(request)
            body = await read_body(request, endpoint.body, optional=endpoint.body_optional)
        call: Call[Any, Any] = Call(
            request, body, query, request[_ID_KEY], request.remote or "unknown", principal, session
        )
        done = await endpoint.handler(call)
        response = done if isinstance(done, web.Response) else _response(done)
        response.headers.extend(told)
        return response

    return handle


async def _expected(request: web.Request) -> None:
    """Leave what is expected to ``_continue``: whether content is wanted is not known yet."""


async def _continue(request: web.Request) -> None:
    """Have content sent by a caller who waits for leave. Raises FaultError (417)."""
    expected = request.headers.get("Expect")
    if expected is None or request.version < HttpVersion11:
        return
    if expected.lower() != "100-continue":
        # RFC 9110 §10.1.1: there is no other expectation.
        detail = "The only expectation that can be met is 100-continue."
        raise FaultError(Fault(417, "expectation_failed", "Expectation failed", detail))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # The answer itself has not begun.
    request.writer.output_size = 0


def _response(answer: Answer) -> web.Response:
    if answer.content is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return web.Response(
        status=answer.status,
        body=msgspec.json.encode(answer.content),
        content_type="application/json",
        headers=answer.headers,
    )


def _fault_response(request: web.Request, fault: Fault, shape: Shape) -> web.Response:
    response = web.Response(
        status=fault.status,
        body=msgspec.json.encode(shaped(fault, shape, request[_ID_KEY])),
        content_type=SHAPES[shape][1],
        headers=fault.headers,
    )
    if fault.status in (408, 413):
        # What was not read stands before the next request.
        response.force_close()
    return response


@web.middleware
async def _told_faults(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, and tell what no endpoint serves in the API's own words."""
    shown = request.headers.get("X-Request-Id", "")
    request[_ID_KEY] = shown if _REQUEST_ID.fullmatch(shown) else secrets.token_hex(16)
    shape: Shape = "errors" if request.path.startswith(("/v1/", "/api/v1/")) else "problem"
    if unreadable := fault_of_head(request):
        response = _fault_response(request, unreadable, shape)
        response.force_close()
        return response
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"The methods served at this path are {allowed}."
        headers = (("Allow", allowed),)
        fault = Fault(405, "method_not_allowed", "Method not allowed", detail, headers=headers)
        return _fault_response(request, fault, shape)
    except web.HTTPNotFound:
        detail = "Nothing is served at this path: /openapi.json says what is."
        return _fault_response(request, Fault(404, "not_found", "Not found", detail), shape)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        words = error.reason
        return _fault_response(request, Fault(error.status, "refused", words, f"{words}."), shape)


def _finisher(secure: bool) -> Any:
    async def finish(request: web.Request, response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if secure:
            response.headers["Strict-Transport-Security"] = _HSTS
        response.headers["X-Request-Id"] = request.get(_ID_KEY) or secrets.token_hex(16)
        response.headers.popall("Server", None)

    return finish


def _log_fault(endpoint: AnyEndpoint, error: Exception) -> None:
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    _log.error("%s failed: %s at %s", endpoint.operation, type(error).__name__, " < ".join(reversed(places)))
