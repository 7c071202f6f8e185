"""Nothing of the caller's may pass for the gateway's word; nothing else is changed on its way upstream."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.backend import Backend, Request
from tests.wire.client import Client, get
from tests.wire.product import Product

OURS = [
    "X-Gateway-Key-Id", "X-Gateway-Subject", "X-Gateway-Tenant", "X-Gateway-Environment",
    "X-Gateway-Permission", "X-Gateway-Role", "X-Gateway-Assertion", "X-Gateway-Anything",
    "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
    "X-Forwarded-Server", "Forwarded", "X-Real-IP", "Proxy",
]  # fmt: skip
OVERRIDES = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]
HOP_BY_HOP = [
    "Proxy-Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Proxy-Authorization",
    "HTTP2-Settings",
    "Upgrade",
]
MARK = b"forged-by-the-caller"


def spelled(name: str) -> st.SearchStrategy[str]:
    """Every spelling a backend may confuse with ``name``: any case, ``_`` for ``-``."""
    letters = [st.sampled_from(sorted({c.lower(), c.upper()} | ({"_"} if c == "-" else set()))) for c in name]
    return st.tuples(*letters).map("".join)


def confusable(name: str) -> str:
    """Return the name as CGI, WSGI and their kin see it."""
    return name.upper().replace("-", "_")


FOREIGN = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def exchange(gateway: Product, backend: Backend, raw: bytes, target: str) -> Request:
    """Send one request and return what the backend saw of it."""
    with Client(gateway.port) as client:
        response = client.send(raw).response()
        assert response.status == 200, response.body
    return backend.requests_for(target)[-1]


def assert_identity(request: Request, permission: bytes, record: dict[str, object]) -> None:
    """The backend sees each fact about the caller once, and it is the gateway's."""
    assert request.value(b"x-gateway-key-id") == str(record["id"]).encode()
    assert request.value(b"x-gateway-tenant") == b"default"
    assert request.value(b"x-gateway-permission") == permission
    assert request.value(b"x-gateway-role")
    assert request.value(b"x-gateway-subject")
    assert request.value(b"x-forwarded-for") == b"127.0.0.1"
    assert request.value(b"x-forwarded-proto") == b"http"
    assert request.value(b"x-forwarded-host") == b"gateway.test"
    assert MARK not in request.raw_head


@FOREIGN
@given(names=st.lists(st.sampled_from(OURS).flatmap(spelled), min_size=1, max_size=6))
def test_no_field_of_the_caller_appears_as_an_identity(
    gateway: Product, backend: Backend, names: list[str]
) -> None:
    target = "/identity"
    fields = [name.encode() + b": " + MARK for name in names]
    request = exchange(gateway, backend, get(target, *fields, key=gateway.keys.viewer), target)
    assert_identity(request, b"viewer", gateway.keys.viewer_record)


@FOREIGN
@given(name=st.sampled_from(OURS).flatmap(spelled))
def test_no_field_of_the_caller_appears_as_an_identity_on_an_anonymous_route(
    routed: Product, backend: Backend, name: str
) -> None:
    with Client(routed.port) as client:
        assert client.send(get("/public/id", name.encode() + b": " + MARK)).response().status == 200
    request = backend.requests_for("/id")[-1]
    assert MARK not in request.raw_head
    for ours in OURS[:8]:
        assert not [f for f, _ in request.fields if confusable(f.decode()) == confusable(ours)]


@FOREIGN
@given(name=st.sampled_from(OVERRIDES).flatmap(spelled))
def test_a_viewer_cannot_override_the_method(gateway: Product, backend: Backend, name: str) -> None:
    raw = get("/override", name.encode() + b": DELETE", key=gateway.keys.viewer)
    request = exchange(gateway, backend, raw, "/override")
    assert not [f for f, _ in request.fields if confusable(f.decode()) in map(confusable, OVERRIDES)]


def test_an_editor_may_override_the_method(gateway: Product, backend: Backend, path: str) -> None:
    raw = get(path, "X-HTTP-Method-Override: PATCH", method="POST", key=gateway.keys.editor, body=b"")
    assert exchange(gateway, backend, raw, path).value(b"x-http-method-override") == b"PATCH"


@FOREIGN
@given(name=st.sampled_from(["Transfer-Encoding", "Content-Length"]).flatmap(spelled))
def test_framing_fields_under_a_confusable_name_are_refused(
    gateway: Product, backend: Backend, name: str
) -> None:
    before = backend.received
    with Client(gateway.port) as client:
        if "_" not in name:
            return
        value = "chunked" if name.lower().startswith("t") else "3"
        raw = get("/never", f"{name}: {value}", method="POST", key=gateway.keys.editor)
        response = client.send(raw + b"abc").response()
        assert (response.status, response.code) == (400, "bad_request")
        client.expect_closed()
    assert backend.received == before


TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789!#$%&'*+.^_`|~-", min_size=1, max_size=12)


@FOREIGN
@given(
    named=st.lists(TOKEN.map(lambda text: "x-n" + text), min_size=1, max_size=5, unique_by=str.lower),
    lines=st.integers(1, 3),
    data=st.data(),
)
def test_no_field_named_by_connection_crosses(
    gateway: Product, backend: Backend, named: list[str], lines: int, data: st.DataObject
) -> None:
    options: list[list[str]] = [[] for _ in range(lines)]
    for name in named:
        spelt = data.draw(st.sampled_from([name, name.upper(), name.lower(), f" {name}\t"]))
        options[data.draw(st.integers(0, lines - 1))].append(spelt)
    fields = [f"{name}: {MARK.decode()}" for name in named]
    connection = ["Connection: " + ",".join(line) for line in options]
    raw = get("/named", *fields, "X-Kept: 1", *connection, key=gateway.keys.viewer)
    request = exchange(gateway, backend, raw, "/named")
    assert MARK not in request.raw_head
    assert request.value(b"x-kept") == b"1"
    assert_identity(request, b"viewer", gateway.keys.viewer_record)


PROTECTED = [
    "Host", "Content-Length", "X-API-KEY", "Authorization", "X-Gateway-Subject", "X-Gateway-Permission",
    "X-Gateway-Key-Id", "X-Gateway-Tenant", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
    "X-Request-Id", "Via",
]  # fmt: skip


@pytest.mark.parametrize("name", PROTECTED)
def test_connection_cannot_name_away_what_the_backend_relies_on(
    gateway: Product, backend: Backend, path: str, name: str
) -> None:
    fields = ["Connection: close, " + name.lower(), "X-Request-Id: mine"]
    raw = get(path, *fields, method="POST", key=gateway.keys.editor, body=b"abc")
    request = exchange(gateway, backend, raw, path)
    assert_identity(request, b"editor", gateway.keys.editor_record)
    assert request.value(b"host") == b"gateway.test"
    assert request.value(b"content-length") == b"3"
    assert request.value(b"x-request-id") == b"mine"
    assert request.value(b"via")
    assert bytes(request.body) == b"abc"


def test_connection_cannot_name_away_chunked(gateway: Product, backend: Backend, path: str) -> None:
    fields = ["Connection: Transfer-Encoding", "Transfer-Encoding: chunked"]
    smuggled = get("/never", key=gateway.keys.editor)
    raw = get(path, *fields, method="POST", key=gateway.keys.editor)
    raw += b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    request = exchange(gateway, backend, raw, path)
    assert request.values(b"transfer-encoding") == [b"chunked"]
    assert bytes(request.body) == smuggled


def test_authorization_of_another_scheme_cannot_be_named_away(
    gateway: Product, backend: Backend, path: str
) -> None:
    fields = ["Connection: authorization", "Authorization: Basic dXNlcjpwYXNz"]
    request = exchange(gateway, backend, get(path, *fields, key=gateway.keys.viewer), path)
    assert request.values(b"authorization") in ([b"Basic dXNlcjpwYXNz"], [])


@pytest.mark.parametrize("first", ["", " ", ",", ", ,"])
def test_several_connection_lines_are_merged_even_when_the_first_is_empty(
    gateway: Product, backend: Backend, path: str, first: str
) -> None:
    fields = [f"Connection:{first}", "Connection: X-One", "X-One: 1", "X-Two: 2", "Connection: ,X-Two,"]
    request = exchange(gateway, backend, get(path, *fields, key=gateway.keys.viewer), path)
    assert not request.values(b"x-one") + request.values(b"x-two")


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_fields_end_here(gateway: Product, backend: Backend, path: str, name: str) -> None:
    request = exchange(gateway, backend, get(path, f"{name}: x", key=gateway.keys.viewer), path)
    assert not request.values(name.lower().encode())


def test_end_to_end_fields_keep_their_bytes_and_order(gateway: Product, backend: Backend, path: str) -> None:
    fields = [
        b"accept: */*", b"X-MiXeD: One", b"Cookie: a=1", b"Cookie: b=2", b"X-Empty:", b"X-Latin: caf\xe9",
        b'User-Agent: "q\\" (x)', b"X-Tabs: a\tb", b"x-mixed: two", b"Range: bytes=0-1",
        b"If-None-Match: W/\"x\"",
        b"Origin: https://x", b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ]  # fmt: skip
    request = exchange(gateway, backend, get(path, *fields, key=gateway.keys.viewer), path)
    wanted = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in fields)]
    kept = [field for field in request.fields if field in wanted]
    assert kept == wanted
    known = {name.lower() for name, _ in wanted} | {b"host", b"via", b"x-request-id", b"connection"}
    extra = [f for f, _ in request.fields if f.lower() not in known]
    assert all(f.lower().startswith((b"x-gateway-", b"x-forwarded-")) for f in extra), extra


def test_a_key_of_the_store_appears_to_the_backend_as_its_own_facts(
    gateway: Product, backend: Backend, path: str
) -> None:
    for who, permission in (("viewer", b"viewer"), ("editor", b"editor")):
        key = getattr(gateway.keys, who)
        request = exchange(gateway, backend, get(f"{path}?{who}", key=key), path)
        assert_identity(request, permission, getattr(gateway.keys, f"{who}_record"))
        assert request.value(b"x-gateway-role") == permission
        assert not request.values(b"x-gateway-environment"), "a key without an environment has none"


@pytest.mark.parametrize("host", ["gateway.test", "gateway.test:8080", "[::1]:80", "GATEWAY.test"])
def test_forwarded_host_is_the_host_of_the_request(
    gateway: Product, backend: Backend, path: str, host: str
) -> None:
    request = exchange(gateway, backend, get(path, host=host, key=gateway.keys.viewer), path)
    assert (request.value(b"x-forwarded-host") or b"").lower() == host.lower().encode()
    assert (request.value(b"host") or b"").lower() == host.lower().encode()


@pytest.mark.parametrize(
    ("method", "fields", "arrives"),
    [
        ("OPTIONS", ["Max-Forwards: 3"], [b"2"]),
        ("OPTIONS", ["max-forwards: 9", "Max-Forwards: 1"], [b"0"]),
        ("OPTIONS", ["Max-Forwards: 1", "Connection: max-forwards"], [b"0"]),
        ("OPTIONS", ["Max-Forwards: -1"], [b"-1"]),
        ("GET", ["Max-Forwards: 0"], [b"0"]),
    ],
)
def test_max_forwards_counts_the_gateway(
    gateway: Product, backend: Backend, path: str, method: str, fields: list[str], arrives: list[bytes]
) -> None:
    asked = get(path, *fields, method=method, key=gateway.keys.viewer)
    assert exchange(gateway, backend, asked, path).values(b"max-forwards") == arrives


def test_options_that_is_to_go_no_further_is_answered_here(
    gateway: Product, backend: Backend, path: str
) -> None:
    asked = ["Max-Forwards: 0"]
    with Client(gateway.port) as client:
        assert client.send(get(path, *asked, method="OPTIONS")).response().status == 401
        response = client.send(get(path, *asked, method="OPTIONS", key=gateway.keys.viewer)).response()
        assert response.status == 204
        assert response.value("allow")
        assert client.send(get(path, key=gateway.keys.viewer)).response().status == 200
    assert [request.method for request in backend.requests_for(path)] == [b"GET"]


def test_via_names_the_version_that_was_received(gateway: Product, backend: Backend, path: str) -> None:
    request = exchange(gateway, backend, get(path, version="HTTP/1.0", key=gateway.keys.viewer), path)
    assert (request.value(b"via") or b"").startswith(b"1.0 ")
    assert request.request_line.endswith(b" HTTP/1.1")


def test_route_may_forgo_via(routed: Product, backend: Backend) -> None:
    request = exchange(routed, backend, get("/unvia/x", key=routed.keys.viewer), "/unvia/x")
    assert not request.values(b"via")


def test_route_may_forward_the_credential(routed: Product, backend: Backend) -> None:
    key = routed.keys.viewer
    request = exchange(routed, backend, get("/keep/1", key=key), "/keep/1")
    assert request.value(b"x-api-key") == key.encode()
    request = exchange(routed, backend, get("/keep/2", f"Authorization: BEARER {key}"), "/keep/2")
    assert request.value(b"authorization") == f"BEARER {key}".encode()


def test_route_that_reads_one_header_leaves_the_other_alone(routed: Product, backend: Backend) -> None:
    raw = get("/header-only/1", "Authorization: Bearer for-the-backend", key=routed.keys.viewer)
    request = exchange(routed, backend, raw, "/header-only/1")
    assert request.value(b"authorization") == b"Bearer for-the-backend"
    assert not request.values(b"x-api-key")
    with Client(routed.port) as client:
        response = client.send(
            get("/header-only/2", f"Authorization: Bearer {routed.keys.viewer}")
        ).response()
        assert (response.status, response.code) == (401, "credential_missing")


def test_anonymous_route_judges_no_credential_but_removes_ours(routed: Product, backend: Backend) -> None:
    for number, (fields, left) in enumerate(
        [
            ([f"X-API-KEY: {routed.keys.revoked}"], []),
            (["X-API-KEY: junk", "X-API-KEY: more"], []),
            ([f"Authorization: Bearer {routed.keys.viewer}"], []),
            (["Authorization: Bearer of-the-backend"], [b"Bearer of-the-backend"]),
            (["Authorization: Basic dXNlcjpwYXNz"], [b"Basic dXNlcjpwYXNz"]),
        ]
    ):
        request = exchange(routed, backend, get(f"/public/a{number}", *fields), f"/a{number}")
        assert not request.values(b"x-api-key")
        assert request.values(b"authorization") == left
        assert not [f for f, _ in request.fields if f.lower().startswith(b"x-gateway-")]
