"""What the environment says: our own names, one spelling or both alike, and Kubernetes' passed over."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from gateway.cli import root
from gateway.config import Address, ConfigError, load_settings
from gateway.config.catalogue import SETTINGS, UNSUPPORTED_FLAGS
from gateway.config.sources import OTHER_FLAGS, from_environment

INJECTED = {
    "GATEWAY_SERVICE_HOST": "10.0.0.1",
    "GATEWAY_SERVICE_PORT": "8080",
    "GATEWAY_SERVICE_PORT_HTTP": "8080",
    "GATEWAY_PORT": "tcp://10.0.0.1:8080",
    "GATEWAY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "GATEWAY_PORT_8080_TCP_PROTO": "tcp",
    "GATEWAY_PORT_8080_TCP_PORT": "8080",
    "GATEWAY_PORT_8080_TCP_ADDR": "10.0.0.1",
    "GATEWAY_OPS_SERVICE_HOST": "10.0.0.2",
    "GATEWAY_OPS_PORT": "tcp://10.0.0.2:9464",
    "GATEWAY_OPS_PORT_9464_TCP_ADDR": "10.0.0.2",
    "OTHER": "x",
}


def test_variables_of_a_service_called_gateway_are_passed_over() -> None:
    assert from_environment(INJECTED) == {}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("GATEWAY_PORT", "GATEWAY_"),
        ("GATEWAY_LISTN", "GATEWAY_LISTEN"),
        ("GATEWAY_TIMEOUTS_HEAD", "GATEWAY_TIMEOUTS__HEAD"),
        ("GATEWAY_SERVICE_HOSTS", "GATEWAY_"),
        ("GATEWAY_SECRETS__PEPPER", "GATEWAY_SECRETS__PEPPER_FILE"),
    ],
)
def test_unknown_variable_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown environment variable {name}; the nearest .* is {near}"):
        from_environment({name: "8080"})


@pytest.mark.parametrize("name", ["GATEWAY_LISTEN", "GATEWAY_CONFIG", "GATEWAY_PEPPER"])
def test_empty_variable_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is empty"):
        from_environment({name: ""})


def test_every_setting_has_its_variable() -> None:
    for setting in SETTINGS:
        for name in setting.names_in_environment:
            assert from_environment({name: "x"})[setting.name].value == "x"


def test_two_spellings_may_agree_and_not_differ() -> None:
    environ = {"GATEWAY_OPS_LISTEN": ":1", "GATEWAY_OPS__LISTEN": ":1"}
    assert load_settings(environ=environ).ops_listen == Address("", 1)
    with pytest.raises(ConfigError, match=r"GATEWAY_OPS__LISTEN and GATEWAY_OPS_LISTEN both say ops\.listen"):
        load_settings(environ={**environ, "GATEWAY_OPS_LISTEN": ":2"})


def test_null_stands_for_nothing() -> None:
    assert load_settings(environ={"GATEWAY_LIMITS__BODY_BYTES": "null"}).limits.body_bytes is None
    assert load_settings(environ={"GATEWAY_LIMITS__BODY_BYTES": "5"}).limits.body_bytes == 5


def test_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text("sqlite:/a.db\n")
    assert load_settings(environ={"GATEWAY_STORE_FILE": str(path)}).store_url == "sqlite:/a.db"
    with pytest.raises(ConfigError, match="differ: keep one"):
        load_settings(environ={"GATEWAY_STORE_FILE": str(path), "GATEWAY_STORE": "sqlite:/b.db"})
    with pytest.raises(ConfigError, match=r"GATEWAY_STORE_FILE: .* cannot be read"):
        load_settings(environ={"GATEWAY_STORE_FILE": str(tmp_path / "none")})


def flags_of(command: click.Command) -> set[str]:
    """Return the long flags of a command and all below it."""
    flags = {name for option in command.params for name in option.opts if name.startswith("--")}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            flags |= flags_of(below)
    return flags - {"--help", "--version"}


def test_every_flag_of_every_command_has_its_variable() -> None:
    known = {setting.flag for setting in SETTINGS if setting.flag}
    assert flags_of(root) == known | set(OTHER_FLAGS) | set(UNSUPPORTED_FLAGS)
