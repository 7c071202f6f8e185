"""Whatever is written, a configuration is read or refused by one sentence; nothing else happens."""

from __future__ import annotations

import string
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import ConfigError, load_settings
from gateway.config.catalogue import SETTINGS
from gateway.config.document import Node, parse_document
from gateway.config.load import settings_from

YAMLISH = st.text(
    st.sampled_from(string.ascii_letters + "[]{}:,-&*!|>#'\"%@` \n\t0~\x00\x85\u2028é"), max_size=60
)
NAMES = [
    "listen",
    "ops",
    "limits",
    "routes",
    "upstreams",
    "roles",
    "head_bytes",
    "path",
    "targets",
    "auth",
    "control",
    "tls",
    "cert",
    "login",
    "cookie_domain",
    "issuers",
    "issuer",
    "jwks_url",
    "x",
]
SCALARS = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.sampled_from(["/", "/a", "1s", "5", "true", "viewer", "http://h:1", "h:1", "anonymous", "a"]),
)
TREES: st.SearchStrategy[object] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


def node(tree: object) -> Node:
    if isinstance(tree, list):
        return Node([node(item) for item in tree], "line 1 of f")
    if isinstance(tree, dict):
        return Node({name: node(item) for name, item in tree.items()}, "line 1 of f")
    assert tree is None or isinstance(tree, str)
    return Node(tree, "line 1 of f")


def is_read_or_refused(read: Callable[[], object]) -> bool:
    """Tell whether ``read`` returns something, or refuses in one printable sentence."""
    try:
        return read() is not None
    except ConfigError as error:
        return str(error).isprintable() and str(error) != ""


@given(YAMLISH)
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    assert is_read_or_refused(lambda: parse_document(text.encode(), "f"))


@given(st.dictionaries(st.sampled_from(NAMES), TREES, max_size=5))
@settings(max_examples=500, deadline=None)
def test_any_tree_is_settings_or_refused(tree: dict[str, object]) -> None:
    members = node(tree).value
    assert isinstance(members, dict)
    assert is_read_or_refused(lambda: settings_from(members, {}, {}))


@given(
    st.sampled_from([name for setting in SETTINGS for name in setting.names_in_environment]),
    st.text(st.characters(exclude_characters="\x00"), max_size=30),
)
@settings(max_examples=500, deadline=None)
def test_any_value_of_a_variable_is_read_or_refused(name: str, value: str) -> None:
    assert is_read_or_refused(lambda: load_settings(environ={name: value}))
