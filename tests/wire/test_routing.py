"""Which route a target means, in whole segments, and what its rewriting may do."""

from __future__ import annotations

import pytest

from tests.wire.backend import Backend
from tests.wire.client import Client, assert_refused, get
from tests.wire.product import Product


def status_of(
    product: Product, target: str, host: str = "gateway.test", method: str = "GET"
) -> tuple[int, str | None]:
    with Client(product.port) as client:
        key = product.keys.viewer
        response = client.send(get(target, method=method, key=key, host=host)).response()
        return response.status, response.code


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/plain", 200), ("/plain/", 200), ("/plain/x/y", 200), ("/plain?x=/absent", 200), ("/plai", 404),
        ("/plainx", 404), ("/Plain", 404), ("/", 404), ("/x/plain", 404), ("/plain%20x", 404),
        ("/pl%61in", 200), ("/%70lain/x", 200), ("/plain.", 404), ("/plain-x", 404), ("/metrics", 404),
        ("/livez", 404), ("/readyz", 404), ("/api-keys", 404), ("/login", 404),
    ],
)  # fmt: skip
def test_prefixes_are_whole_segments_of_the_decoded_path(
    routed: Product, backend: Backend, target: str, status: int
) -> None:
    got = status_of(routed, target)
    assert got == (status, None if status == 200 else "no_route")
    if status == 200:
        assert backend.requests[-1].target == target.encode(), "what passes keeps its very bytes"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("only.test", 200),
        ("ONLY.test", 200),
        ("only.test:8080", 200),
        ("other.test", 404),
        ("only.test.evil", 404),
    ],
)
def test_route_of_one_host_is_no_default_for_others(routed: Product, host: str, status: int) -> None:
    assert status_of(routed, "/by-host", host)[0] == status


@pytest.mark.parametrize(
    "target",
    ["//plain", "/plain;x=1", "/plain//deeper", "/plain/;/deeper", "/plain/deeper;x", "/plain;/deeper/x"],
)
def test_empty_segments_and_parameters_are_refused_where_policies_differ(
    routed: Product, backend: Backend, target: str
) -> None:
    before = backend.received
    assert status_of(routed, target) == (400, "bad_request")
    assert backend.received == before


@pytest.mark.parametrize("target", ["/plain//x", "/plain/;/x", "/plain/x//", "/plain/x;deeper"])
def test_empty_segments_and_parameters_pass_where_every_reading_means_the_same(
    routed: Product, backend: Backend, target: str
) -> None:
    assert status_of(routed, target) == (200, None)
    assert backend.requests[-1].target == target.encode()


@pytest.mark.parametrize("target", ["/a//b", "/a;x=1/b", "/a/;", "//a"])
def test_empty_segments_and_parameters_pass_unchanged_with_one_policy(
    gateway: Product, backend: Backend, target: str
) -> None:
    assert status_of(gateway, target) == (200, None)
    assert backend.requests[-1].target == target.encode()


@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("/public/x", "/x"), ("/public", "/"), ("/public/", "/"), ("/public?q=1", "/?q=1"),
        ("/public/a%20b?%41", "/a%20b?%41"),
        ("/v2/x?y", "/api/x?y"), ("/v2", "/api"), ("/v2/", "/api/"),
    ],
)  # fmt: skip
def test_prefixes_are_stripped_and_added(
    routed: Product, backend: Backend, target: str, arrives: str
) -> None:
    with Client(routed.port) as client:
        assert client.send(get(target, key=routed.keys.viewer)).response().status == 200
    got = backend.requests[-1].target
    assert got == arrives.encode() or (target == "/v2" and got in (b"/api", b"/api/"))


@pytest.mark.parametrize(
    "target", ["/public/..", "/public/../plain", "/public/%2e%2e/plain", "/public/./x", "/public//evil.test"]
)
def test_stripping_never_makes_another_path(routed: Product, backend: Backend, target: str) -> None:
    before = backend.received
    with Client(routed.port) as client:
        response = client.send(get(target)).response()
        assert_refused(response, 400, "bad_request")
    assert backend.received == before


def test_stripping_an_encoded_prefix_keeps_one_leading_slash(routed: Product, backend: Backend) -> None:
    with Client(routed.port) as client:
        response = client.send(get("/%70ublic/x")).response()
    if response.status == 200:
        assert backend.requests[-1].target == b"/x"
    else:
        assert_refused(response, 400, "bad_request")


@pytest.mark.parametrize(
    ("target", "status"),
    [("/slash/a%2fb", 200), ("/slash/a%2Fb", 200), ("/slash/a%5cb", 400), ("/slash/%2e%2e/x", 400),
     ("/slash/%00", 400),
     ("/plain/a%2fb", 400), ("/slash/..%2fplain", 400), ("/slash/a%2f..%2f..%2fplain", 400)],
)  # fmt: skip
def test_encoded_slash_passes_alone_and_only_where_the_route_says(
    routed: Product, backend: Backend, target: str, status: int
) -> None:
    got, _ = status_of(routed, target)
    if "..%2f" in target or "%2f.." in target:
        assert got in (400, 200)
    else:
        assert got == status
    if got == 200:
        assert backend.requests[-1].target == target.encode()


def test_encoded_slash_is_a_literal_that_separates_nothing(routed: Product) -> None:
    assert status_of(routed, "/slash%2fx")[0] in (400, 404)
    assert status_of(routed, "/plain%2fx")[0] in (400, 404)


def test_read_methods_let_a_viewer_search(routed: Product, backend: Backend) -> None:
    with Client(routed.port) as client:
        raw = get("/search", method="POST", key=routed.keys.viewer, body=b"{}")
        assert client.send(raw).response().status == 200
        raw = get("/search", method="PUT", key=routed.keys.viewer, body=b"{}")
        assert client.send(raw).response().code == "permission_denied"
        raw = get("/searching", method="POST", key=routed.keys.viewer, body=b"{}")
        assert client.send(raw).response().status in (403, 404)


def test_absolute_form_is_routed_by_its_authority(routed: Product, backend: Backend) -> None:
    with Client(routed.port) as client:
        raw = get("http://only.test/abs", host="only.test", key=routed.keys.viewer)
        assert client.send(raw).response().status == 200
        assert backend.requests[-1].request_line == b"GET /abs HTTP/1.1"
        assert backend.requests[-1].value(b"host") == b"only.test"


@pytest.mark.parametrize("target", ["/metrics", "/livez", "/readyz", "/startupz", "/health"])
def test_paths_of_the_ops_listener_mean_nothing_on_the_data_port(
    gateway: Product, backend: Backend, target: str
) -> None:
    with Client(gateway.port) as client:
        assert_refused(client.send(get(target)).response(), 401, "credential_missing")
        assert client.send(get(target, key=gateway.keys.viewer)).response().body == b"ok"


def test_ops_listener_forwards_nothing(gateway: Product, backend: Backend) -> None:
    before = backend.received
    assert gateway.ops("/anything")[0] == 404
    assert gateway.ops("/livez")[0] == 200
    assert backend.received == before


def test_preflight_without_a_key_is_not_forwarded(gateway: Product, backend: Backend, path: str) -> None:
    fields = ["Origin: https://app.test", "Access-Control-Request-Method: POST"]
    with Client(gateway.port) as client:
        assert client.send(get(path, *fields, method="OPTIONS")).response().status == 401
    assert not backend.requests_for(path)
