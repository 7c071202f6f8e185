"""What the README says is so: its commands exist, its tables are whole, its figures are the defaults."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shlex
import time
from pathlib import Path

import pytest
import yaml

import gateway.cli
from gateway.config.catalogue import SETTINGS, UNSUPPORTED
from gateway.config.load import load_settings
from gateway.config.routing import ROLE, ROUTE, UNSUPPORTED_MEMBERS, UPSTREAM
from gateway.core.refusals import REFUSALS, Reason
from tests.wire.product import ROOT, Product

README = (ROOT / "README.md").read_text()
# Reasons whose subject does not exist yet; the README promises nothing of them.
NOT_BUILT = {"rate_limited", "no_healthy_target"}


def blocks(language: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
    return [text for name, text in found if name == language]


def commands() -> list[str]:
    """Return every command line of ours in the README."""
    lines = [line for block in blocks() for line in block.splitlines()]
    found = [re.search(r"(?:^|\(|-- |gateway:\S+ )(gateway .*?)\)?$", line) for line in lines]
    return [match[1] for match in found if match]


def table(head: str) -> list[list[str]]:
    """Return the rows of the table that begins with ``head``, as cells."""
    (rows,) = re.findall(rf"^\| {re.escape(head)} .*\n\|[ -|]*\n((?:\|.*\n)+)", README, re.M)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


def test_there_are_two_commands_of_one_line_each() -> None:
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert [line.split(" && ")[-1] for line in lines] == [
        ".venv/bin/gateway quickstart",
        ".venv/bin/pytest",
    ]


def test_commands_were_found() -> None:
    assert len(commands()) >= 12


@pytest.mark.parametrize("line", commands())
def test_each_command_exists_with_its_flags(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)[1:]
    path = []
    for word in words:
        if word.startswith(("-", "/")) or not re.fullmatch(r"[a-z]+", word) or len(path) == 2:
            break
        path.append(word)
    with pytest.raises(SystemExit) as done:
        gateway.cli.main([*path, "--help"])
    assert done.value.code == 0
    usage = capsys.readouterr().out
    assert all(word in usage for word in words if word.startswith("--")), usage


def test_every_setting_is_told_with_its_default() -> None:
    rows = {name.strip("`"): default.strip("`") for name, default, *_ in table("Setting")}
    expected = {}
    for setting in SETTINGS:
        if setting.in_file:
            value = None if setting.default is None else setting.kind.write(setting.default)
            expected[setting.name] = value if isinstance(value, str) else json.dumps(value)
    assert rows == expected


def test_the_annotated_file_holds_every_setting() -> None:
    file = yaml.safe_load((ROOT / "config/gateway.yaml").read_text())
    for name, _, *_ in table("Setting"):
        place = file
        for part in name.strip("`").split("."):
            assert part in place, name
            place = place[part]


def test_every_member_of_upstreams_routes_and_roles_is_told() -> None:
    told = {(of, member.strip("`")) for of, member, _ in table("Of")}
    known = {("upstream", name) for name in UPSTREAM}
    known |= {("role", name) for name in ROLE} | {("route", name) for name in ROUTE}
    assert told == known


def test_what_is_not_supported_is_said() -> None:
    (sentence,) = re.findall(r"A setting that this version cannot honour(.*?)for now\.", README, re.S)
    named = set(re.findall(r"`([a-z_.]+)`", sentence))
    for name in UNSUPPORTED:
        assert name in named or name.split(".")[0] in named, name
    for members in UNSUPPORTED_MEMBERS.values():
        assert set(members) <= named


def test_the_example_of_routes_is_a_configuration(tmp_path: Path) -> None:
    (example,) = blocks("yaml")
    (tmp_path / "gateway.yaml").write_text(example)
    settings = load_settings(str(tmp_path / "gateway.yaml"), {}, {})
    assert len(settings.routes) == 3


def test_every_refusal_is_told_with_its_status() -> None:
    rows = {code.strip("`"): int(status) for code, status, _ in table("`code`")}
    assert rows == {reason.value: REFUSALS[reason].status for reason in Reason if reason not in NOT_BUILT}


def test_every_metric_is_told_and_exists(gateway: Product) -> None:
    told = {name.strip("`") for name, _ in table("Metric")}
    exposition = gateway.ops("/metrics")[1]
    served = set(re.findall(r"^# TYPE (gateway_\w+) ", exposition, re.M))
    # A histogram's creation times are a family of their own in this format.
    assert told == {name for name in served if not name.endswith("_created")}


def test_the_fields_of_the_access_log_are_told(gateway: Product, path: str) -> None:
    (fields,) = re.findall(r"one JSON line a request: `([^`]+)`", README)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)) as connection:
        connection.request("GET", path)
        connection.getresponse().read()
    deadline = time.monotonic() + 5
    while not (
        lines := [line for line in gateway.access_log.read_text().splitlines() if f'"{path}"' in line]
    ):
        assert time.monotonic() < deadline, "the request is not in the log"
        time.sleep(0.02)
    assert fields.split() == list(json.loads(lines[0]))


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert all((ROOT / link).exists() for link in links)


def test_the_map_of_packages_is_whole() -> None:
    told = {name.strip("`") for name, _ in table("Package")}
    packages = {f"gateway/{path.parent.name}" for path in (ROOT / "gateway").glob("*/__init__.py")}
    assert told == packages


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:dataplane|core)/\w+\.py)`", README))))
def test_the_rooms_exist(name: str) -> None:
    assert (ROOT / "gateway" / name).exists()
