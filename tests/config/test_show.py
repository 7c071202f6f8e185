"""What is shown reads back as the same; the schema, the annotated file and the settings agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from gateway.config import Settings, load_settings
from gateway.config.show import schema, setting_names, show_settings

ROOT = Path(__file__).resolve().parents[2]
ANNOTATED = ROOT / "config" / "gateway.yaml"
FILES = sorted((ROOT / "config").glob("*.yaml"))


def same(settings: Settings) -> Settings:
    """Return settings without who said them, to compare two."""
    return msgspec.structs.replace(settings, origins={}, file=None, store_url=None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_shown_reads_back_as_the_same(file: Path, tmp_path: Path) -> None:
    settings = load_settings(str(file))
    shown = tmp_path / "shown.yaml"
    shown.write_text(show_settings(settings, default_store="sqlite:/x.db"))
    again = load_settings(str(shown))
    assert same(again) == same(settings)
    assert again.store_url == (settings.store_url or "sqlite:/x.db")


def test_each_value_is_shown_with_who_said_it(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("limits:\n  connections: 5\n")
    settings = load_settings(str(file), {"GATEWAY_OPS_LISTEN": ":1"}, {"--listen": ":2"})
    lines = show_settings(settings, default_store="sqlite:/x.db").splitlines()
    shown = {line.split("#")[0].strip(): line.split("# ")[-1] for line in lines}
    assert shown["connections: 5"] == f"line 2 of {file}"
    assert shown['listen: ":1"'] == "GATEWAY_OPS_LISTEN"
    assert shown['listen: ":2"'] == "--listen"
    assert shown["drain: 20s"] == "default"


def test_secrets_are_never_shown() -> None:
    settings = load_settings(environ={"GATEWAY_PEPPER": "geheim" * 8})
    text = show_settings(settings, default_store="sqlite:/x.db")
    assert "geheim" not in text
    assert "# pepper: ***  (GATEWAY_PEPPER)" in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shipped_files_obey_the_schema(file: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    "text",
    ["lisen: x", "limits: {head_bytes: x}", "routes: [{path: /}]", "routes: [{path: x, upstream: a}]",
     "upstreams: {a: {}}", "roles: {a: {permission: admin}}", "access_log: {path: 5}",
     "control: {tls: {certs: x}}", "control: {tls: {cert: 5}}", "control: {listen: 5}",
     "control: {public_url: h}", "login: {cookie: a b}", "issuers: [{}]", "issuers: {}"],
)  # fmt: skip
def test_schema_refuses_what_the_loader_refuses(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))


def names_in(document: Any) -> set[str]:
    """Return the dotted names that a file uses, in the words of ``setting_names``."""
    names: set[str] = set()
    for name, value in document.items():
        if name in ("routes", "issuers"):
            names |= {f"{name}[].{member}" for item in value for member in item}
        elif name in ("upstreams", "roles"):
            names |= {f"{name}.*.{member}" for members in value.values() for member in members}
        elif isinstance(value, dict):
            names |= {f"{name}.{below}" for below in names_in(value)}
        else:
            names.add(name)
    return names


def annotated_issuers() -> str:
    """Return the annotated file with its example of an issuer, which it has as a comment, in effect."""
    text, marker, example = ANNOTATED.read_text().partition("issuers: []\n")
    assert marker
    commented, gap, rest = example.partition("\n\n")
    assert gap
    return text + re.sub(r"^# ", "", commented, flags=re.MULTILINE) + gap + rest


def test_annotated_file_holds_every_setting(tmp_path: Path) -> None:
    text = annotated_issuers()
    assert names_in(yaml.safe_load(text)) == set(setting_names())
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))
    file = tmp_path / "g.yaml"
    file.write_text(text)
    (issuer,) = load_settings(str(file)).issuers
    assert issuer.roles == {"staff": "viewer", "authors": "editor", "media": "MediaEditor"}


def test_annotated_file_tells_the_defaults() -> None:
    settings = load_settings(str(ANNOTATED))
    plain = Settings()
    for name in (
        "listen",
        "ops_listen",
        "store_url",
        "secrets",
        "propagation",
        "limits",
        "timeouts",
        "access_log",
        "control",
        "login",
        "issuers",
    ):
        assert getattr(settings, name) == getattr(plain, name), name


def test_every_line_of_a_limit_or_deadline_is_explained() -> None:
    section = ""
    for line in ANNOTATED.read_text().splitlines():
        section = line.rstrip(":") if re.fullmatch(r"\w+:", line) else section
        if section in ("limits", "timeouts", "login") and line.startswith("  "):
            assert re.search(r"# .{8,}", line), line
