"""Whose tokens are taken is said whole and exactly, or refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Issuer, load_settings
from gateway.config.show import show_settings
from tests.config.test_load import refusal

WHOLE: dict[str, Any] = {
    "issuer": "https://login.example.com",
    "jwks_url": "https://login.example.com/jwks.json",
    "audience": "gateway",
    "tenant_claim": "org",
    "role_claim": "https://example.com/roles",
    "roles": {"Team A": "viewer", "b": "MediaEditor"},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "g.yaml"


def written(file: Path, *issuers: object, **more: Any) -> str:
    """Write a configuration, one issuer a line, so that a line tells which."""
    lines = [f"  - {flow(issuer)}" for issuer in issuers]
    lines += [f"{name}: {flow(value)}" for name, value in more.items()]
    file.write_text("\n".join(["issuers:", *lines]))
    return str(file)


def flow(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=9999).strip()


def with_(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in (WHOLE | members).items() if value is not None}


def test_issuer_is_read_whole(file: Path) -> None:
    every = with_(algorithms=["ES256", "EdDSA"])
    (issuer,) = load_settings(written(file, every)).issuers
    assert issuer == Issuer(**(every | {"algorithms": ("ES256", "EdDSA")}))


def test_algorithm_is_rs256_unless_said(file: Path) -> None:
    assert load_settings(written(file, WHOLE)).issuers[0].algorithms == ("RS256",)


def test_issuers_are_shown_as_they_are_read(file: Path, tmp_path: Path) -> None:
    settings = load_settings(written(file, WHOLE, with_(issuer="second")))
    shown = tmp_path / "shown.yaml"
    shown.write_text(show_settings(settings, default_store="sqlite:/x.db"))
    assert load_settings(str(shown)).issuers == settings.issuers
    assert re.search(rf"^issuers: +# line 1 of {re.escape(str(file))}$", shown.read_text(), re.MULTILINE)


@pytest.mark.parametrize("text", ["issuers: []", "issuers:", "issuers: null"])
def test_there_may_be_none(file: Path, text: str) -> None:
    file.write_text(text)
    assert load_settings(str(file)).issuers == ()


@pytest.mark.parametrize(
    "url",
    ["https://h/k", "https://h:8443/k?p=a&b=c", "https://h", "https://h?p=1", "http://localhost/k",
     "http://127.0.0.1:9/k", "http://[::1]:9/k"],
)  # fmt: skip
def test_key_set_may_be_at(file: Path, url: str) -> None:
    assert load_settings(written(file, with_(jwks_url=url))).issuers[0].jwks_url == url


def test_roles_of_the_file_may_be_given(file: Path) -> None:
    more = {"roles": {"Own": {"permission": "viewer"}}}
    settings = load_settings(written(file, with_(roles={"x": "Own"}), **more))
    assert settings.issuers[0].roles == {"x": "Own"}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        *[({name: None}, [f"`{name}` is missing"]) for name in WHOLE],
        ({"issuers": "x"}, ["unknown member `issuers`", "`issuer`"]),
        ({"audience": ["a", "b"]}, [".audience", "a list stands where"]),
        ({"audience": ""}, [".audience", "nothing stands where"]),
        ({"issuer": "a b"}, [".issuer", "without space or `|`"]),
        ({"issuer": "a|b"}, [".issuer", "without space or `|`"]),
        ({"issuer": "ä"}, [".issuer", "without space or `|`"]),
        ({"issuer": "a" * 513}, [".issuer", "longer than 512"]),
        ({"issuer": "gateway"}, [".issuer", "this gateway's own tokens"]),
        ({"jwks_url": "login.example.com/k"}, [".jwks_url", "not a JWKS URL"]),
        ({"jwks_url": "file:///etc/keys"}, [".jwks_url", "not a JWKS URL"]),
        ({"jwks_url": "https:///k"}, [".jwks_url", "not a JWKS URL"]),
        ({"jwks_url": "https://h:0/k"}, [".jwks_url", "not a JWKS URL"]),
        ({"jwks_url": "https://h/k#f"}, [".jwks_url", "not a JWKS URL"]),
        ({"jwks_url": "https://h/a b"}, [".jwks_url", "not a JWKS URL"]),
        ({"jwks_url": "https://u:geheim@h/k"}, [".jwks_url", "no user or password"]),
        ({"jwks_url": "http://login.example.com/k"}, [".jwks_url", "in clear beyond loopback", "https://"]),
        ({"jwks_url": "http://10.0.0.1/k"}, [".jwks_url", "in clear beyond loopback"]),
        ({"jwks_url": "http://localhost.example.com/k"}, [".jwks_url", "in clear beyond loopback"]),
        ({"algorithms": ["none"]}, [".algorithms[0]", "`none` proves no issuer", "RS256"]),
        ({"algorithms": ["None"]}, [".algorithms[0]", "`None` proves no issuer"]),
        ({"algorithms": ["RS256", "HS256"]}, [".algorithms[1]", "`HS256` proves no issuer"]),
        ({"algorithms": ["hs512"]}, [".algorithms[0]", "`hs512` proves no issuer"]),
        ({"algorithms": ["rs256"]}, [".algorithms[0]", "unknown algorithm `rs256`", "`RS256`"]),
        ({"algorithms": ["ES256K"]}, [".algorithms[0]", "unknown algorithm `ES256K`", "`ES256`"]),
        ({"algorithms": ["RS256", "RS256"]}, [".algorithms[1]", "listed twice"]),
        ({"algorithms": []}, [".algorithms", "at least one"]),
        ({"algorithms": "RS256"}, [".algorithms", "a list of algorithms"]),
        ({"roles": {}}, [".roles", "at least one"]),
        ({"roles": ["viewer"]}, [".roles", "members"]),
        ({"roles": {"x": "Edtor"}}, [".roles.x", "unknown role `Edtor`", "`editor`"]),
        ({"roles": {"x": "admin"}}, [".roles.x", "admin is for users", "editor"]),
        ({"roles": {"x": "Admin"}}, [".roles.x", "unknown role `Admin`"]),
        ({"roles": {"x": ["viewer"]}}, [".roles.x", "a list stands where"]),
    ],
)  # fmt: skip
def test_wrong_member_is_told_with_its_place(file: Path, members: dict[str, Any], words: list[str]) -> None:
    told = refusal(written(file, with_(issuer="first"), with_(**members)))
    for word in ["issuers[1]", *words, "line 3 of "]:
        assert word in told
    assert "geheim" not in told


@pytest.mark.parametrize("text", ["x", "{a: b}", "[x]", "[[]]", "[{}]"])
def test_what_is_no_list_of_issuers_is_refused(file: Path, text: str) -> None:
    file.write_text(f"issuers: {text}")
    assert refusal(str(file)).startswith("issuers")


def test_one_issuer_stands_once(file: Path) -> None:
    assert "issuers[1]: the same issuer as issuers[0]" in refusal(written(file, WHOLE, WHOLE))


def test_own_origin_is_nobody_else_s(file: Path) -> None:
    own = {"public_url": "https://login.example.com"}
    assert "this gateway's own tokens" in refusal(written(file, WHOLE, control=own))
    load_settings(written(file, with_(issuer="gateway"), control=own))
