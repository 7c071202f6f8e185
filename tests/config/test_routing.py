"""Upstreams, routes and roles: each member checked, and each held to the others."""

from __future__ import annotations

import pytest

from gateway.config import ConfigError, Target
from gateway.config.document import parse_document
from gateway.config.routing import read_roles, read_routes, read_upstreams
from gateway.core.model import Permission, Role
from gateway.core.routes import Route


def upstreams(text: str) -> object:
    return read_upstreams(parse_document(f"upstreams: {{{text}}}".encode(), "f.yaml")["upstreams"])


def routes(*lines: str) -> tuple[Route, ...]:
    """Read routes, one a line, from line 3 of a file with the upstreams `a` and `other`."""
    text = "\n".join(
        ["upstreams: {a: {targets: ['http://h:1']}, other: {targets: ['http://h:2']}}", "routes:"]
    )
    members = parse_document("\n".join([text, *(f"  - {{{line}}}" for line in lines)]).encode(), "f.yaml")
    roles = read_roles(parse_document(b"roles: {}", "f.yaml")["roles"])
    return read_routes(members["routes"], read_upstreams(members["upstreams"]), roles)


def refused(*lines: str) -> str:
    with pytest.raises(ConfigError) as caught:
        routes(*lines)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:9000", Target("127.0.0.1", 9000)),
        ("http://backend", Target("backend", 80)),
        ("http://backend:9000/", Target("backend", 9000)),
        ("http://[::1]:9000", Target("::1", 9000)),
        ("http://a_b.internal:1", Target("a_b.internal", 1)),
    ],
)
def test_target_is_host_and_port(url: str, target: Target) -> None:
    assert upstreams(f"a: {{targets: ['{url}']}}")["a"].targets == (target,)  # type: ignore[index]


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:9000", "ftp://h:1", "http://", "http://:80", "http://h:0", "http://h:65536", "http://h:x",
     "http://h/path", "http://h?x", "http://h#x", "http://u:geheim@h", "HTTP//h", "http://h h", "http://[::1",
     "http://h:1/a/", "h"],
)  # fmt: skip
def test_text_that_is_no_target_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"upstreams\.a\.targets\[0\]: .* \(line 1 of f\.yaml\)") as caught:
        upstreams(f"a: {{targets: ['{url}']}}")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {}", "`targets` is missing"),
        ("a: {targets: []}", "at least one"),
        ("a: {targets: 'http://h:1'}", "a list of targets"),
        ("a: {tragets: ['http://h:1']}", "`targets`"),
        ("a: null", "members"),
        ("'a b': {targets: ['http://h:1']}", "`a b` is no name"),
    ],
)
def test_wrong_upstream_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        upstreams(text)


def test_route_takes_every_member() -> None:
    (route,) = routes(
        "path: /a/b, upstream: a, name: n, host: API.example.com, auth: key, credentials: [x-api-key], "
        "forward_credential: true, read_methods: [POST, M-SEARCH], tenants: [t], environments: [e], "
        "roles: [editor, MediaViewer], strip_prefix: /a, add_prefix: /z, path_check: encoded_slash, "
        "via: false"
    )
    assert route == Route(
        name="n",
        upstream="a",
        path="/a/b",
        host="api.example.com",
        anonymous=False,
        credentials=("x-api-key",),
        forward_credential=True,
        read_methods=frozenset({b"POST", b"M-SEARCH"}),
        tenants=frozenset({"t"}),
        environments=frozenset({"e"}),
        roles=frozenset({"editor", "MediaViewer"}),
        strip_prefix="/a",
        add_prefix="/z",
        path_check="encoded_slash",
        via=False,
    )


def test_route_says_little_and_gets_the_rest() -> None:
    assert routes("path: /, upstream: a") == (Route(name="/", upstream="a"),)
    assert routes("path: /x, upstream: a, host: h.test")[0].name == "h.test/x"
    assert routes("path: /x, upstream: a, auth: anonymous")[0].anonymous


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("upstream: a", "`path` is missing"),
        ("path: /", "`upstream` is missing"),
        ("path: /, upstream: A", "routes[0].upstream: unknown upstream `A`; the nearest known one is `a`"),
        ("path: /, upstream: othr", "`other`"),
        ("path: x, upstream: a", "routes[0].path: `x` does not begin with a slash; write `/x`"),
        ("path: /x/, upstream: a", "write `/x`"),
        ("path: /x/../y, upstream: a", "dot segment"),
        ("path: /x/., upstream: a", "dot segment"),
        ("path: //x, upstream: a", "empty segment"),
        ("path: /x%2Fy, upstream: a", "as it decodes"),
        ("path: '/x?y', upstream: a", "as it decodes"),
        ("path: /x;y, upstream: a", "as it decodes"),
        ("path: '/x y', upstream: a", "as it decodes"),
        ('path: "/x\\\\y", upstream: a', "as it decodes"),
        ('path: "/x\\ny", upstream: a', "control character"),
        ("path: /x, upstream: a, strip_prefix: /y", "`/y` is not a leading part"),
        ("path: /xy, upstream: a, strip_prefix: /x", "`/x` is not a leading part"),
        ("path: /x, upstream: a, strip_prefix: /x/y", "`/x/y` is not a leading part"),
        ("path: /x, upstream: a, strip_prefix: /", "strips nothing"),
        ("path: /x, upstream: a, add_prefix: z", "`/z`"),
        ("path: /x, upstream: a, add_prefix: /", "adds nothing"),
        ("path: /x, upstream: a, add_prefix: /ü", "ASCII"),
        ("path: /, upstream: a, roles: [edtor]", "unknown role `edtor`; the nearest known one is `editor`"),
        ("path: /, upstream: a, roles: []", "at least one"),
        ("path: /, upstream: a, tenants: [a b]", "routes[0].tenants[0]"),
        ("path: /, upstream: a, tenants: [a, a]", "listed twice"),
        ("path: /, upstream: a, host: '*.example.com'", "without scheme, port or wildcard"),
        ("path: /, upstream: a, host: 'h:80'", "without scheme, port or wildcard"),
        ("path: /, upstream: a, auth: none", "write key or anonymous"),
        ("path: /, upstream: a, via: no", "neither true nor false"),
        ("path: /, upstream: a, path_check: loose", "encoded_slash"),
        ("path: /, upstream: a, credentials: [cookie]", "routes[0].credentials[0]"),
        ("path: /, upstream: a, read_methods: [post]", "capitals"),
        ("path: /, upstream: a, read_methods: [TRACE]", "routes[0].read_methods[0]"),
        ("path: /, upstream: a, auht: anonymous", "unknown member `auht`; the nearest known one is `auth`"),
        ("path: /, upstream: a, auth: anonymous, roles: [editor]", "routes[0].roles: has no effect"),
        ("path: /, upstream: a, auth: anonymous, forward_credential: true", "has no effect"),
    ],
)  # fmt: skip
def test_wrong_route_is_told_with_its_place(line: str, words: str) -> None:
    told = refused(line)
    assert words in told
    assert told.startswith("routes[0]")
    assert told.endswith("(line 3 of f.yaml)")


def test_second_route_to_the_same_place_is_refused() -> None:
    told = refused("path: /x, upstream: a", "path: /x, upstream: other")
    assert told == "routes[1]: the same host and path as routes[0]; keep one of them (line 4 of f.yaml)"
    routes("path: /x, upstream: a", "path: /x, upstream: a, host: h.test")


def test_two_routes_of_one_name_are_refused() -> None:
    assert "the same name `n`" in refused("path: /x, upstream: a, name: n", "path: /y, upstream: a, name: n")


def test_roles_are_the_built_in_the_shipped_and_the_configured() -> None:
    node = parse_document(
        b"roles: {MediaEditor: {permission: editor, routes: [/m]}, R: {permission: viewer}}", "f"
    )
    assert read_roles(node["roles"]) == {
        "viewer": Role("viewer", Permission.VIEWER),
        "editor": Role("editor", Permission.EDITOR),
        "MediaViewer": Role("MediaViewer", Permission.VIEWER),
        "MediaEditor": Role("MediaEditor", Permission.EDITOR, ("/m",)),
        "R": Role("R", Permission.VIEWER),
    }
