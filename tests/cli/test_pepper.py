"""``pepper rotate`` leads from one pepper to the next, a step at a time, and shows none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Gateway, refusal
from tests.cli.test_keys import create


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "gateway" / "gateway.db.pepper"


def test_the_steps_of_a_store_that_keeps_its_own_pepper(gateway: Gateway, file: Path) -> None:
    key = create(gateway)
    old = file.read_text()
    first = gateway("pepper", "rotate")
    assert first.returncode == 0
    assert f"a new pepper is in {file}, before the others: restart every gateway" in first.stdout
    new, *rest = file.read_text().splitlines(keepends=True)
    assert rest == [old]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "no terminal to ask at: add --yes" in refusal(gateway("pepper", "rotate"), 2)
    second = gateway("pepper", "rotate", "--yes")
    assert second.returncode == 0
    assert "from now on, and go along as they are used (1 have not)" in second.stdout
    assert "is not finished" in refusal(gateway("pepper", "rotate", "--yes"), 1)
    named = gateway("pepper", "rotate", "--finish")
    assert named.returncode == 2
    assert key["id"] in named.stdout
    assert "cold" in named.stdout
    third = gateway("pepper", "rotate", "--finish", "--yes")
    assert third.returncode == 0
    assert f"is retired and no longer in {file}" in third.stdout
    assert file.read_text() == new
    file.write_text(new + old)  # as it is where the third was killed before its end
    again = gateway("pepper", "rotate", "--finish")
    assert (again.returncode, again.stdout) == (0, third.stdout[third.stdout.index("pepper ") :])
    assert file.read_text() == new
    done = gateway("pepper", "rotate", "--finish")
    assert (done.returncode, "there is nothing to finish" in done.stdout) == (0, True)
    audit = json.loads(gateway("audit", "--json").stdout)
    assert [row["action"] for row in audit["data"][:2]] == ["pepper.finish", "pepper.rotate"]
    for result in (first, second, named, third, done):
        for line in (old.strip(), new.strip()):
            assert line not in result.stdout + result.stderr


def test_a_pepper_that_the_operator_keeps_is_hers_to_change(gateway: Gateway, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a pepper of my own making, long enough\n")
    given = {"GATEWAY_PEPPER_FILE": str(secret)}
    assert gateway("keys", "list", **given).returncode == 0
    told = refusal(gateway("pepper", "rotate", **given), 1)
    assert f"there is no newer pepper in the pepper file {secret}: put a new line" in told
    made = tmp_path / "new"
    first = gateway("pepper", "rotate", "--write", "new", **given)
    assert (first.returncode, made.stat().st_mode & 0o777) == (0, 0o600)
    assert made.read_text().splitlines()[1:] == secret.read_text().splitlines()
    assert "cannot be written: File exists" in refusal(
        gateway("pepper", "rotate", "--write", "new", **given), 1
    )
    given = {"GATEWAY_PEPPER": made.read_text()}
    assert "is at hand already" in refusal(gateway("pepper", "rotate", "--write", "newer", **given), 1)
    assert gateway("pepper", "rotate", "--yes", **given).returncode == 0
    last = gateway("pepper", "rotate", "--finish", **given)
    assert last.returncode == 0, "no key is left behind: nothing to ask about"
    assert "take its line out of the pepper that was given" in last.stdout


def test_a_missing_pepper_stops_every_command_and_names_itself(gateway: Gateway, file: Path) -> None:
    create(gateway)
    gateway("pepper", "rotate")
    gateway("pepper", "rotate", "--yes")
    new, old = file.read_text().splitlines()
    for kept in (new, old):
        file.write_text(kept + "\n")
        for command in (["run", "--upstream", "http://127.0.0.1:9"], ["pepper", "rotate"]):
            told = refusal(gateway(*command), 1)
            assert "lacks pepper" in told
            assert "add its line" in told
            assert kept not in told


def test_a_lost_pepper_costs_no_key_that_has_a_verifier(gateway: Gateway, file: Path, tmp_path: Path) -> None:
    key = create(gateway)
    (tmp_path / "lines").write_text(
        json.dumps({
            "tenantId": "default", "name": "by digest", "permission": "viewer",
            "expiresAt": key["expiresAt"], "token": "a token of another system",
        }).replace("a token of another system", "a-token-of-another-system")
    )  # fmt: skip
    assert gateway("keys", "import", "lines").returncode == 0
    file.write_text("a new pepper, for the old one is lost\n")
    assert "is not the one" in refusal(gateway("keys", "list"), 1)
    named = gateway("pepper", "rotate", "--finish")
    assert named.returncode == 2
    assert "put it back there if it is not lost" in named.stderr
    rows = {line.split()[0]: line.split()[-1] for line in named.stdout.splitlines()[1:]}
    assert sorted(rows.values()) == ["cold", "ends"]
    assert rows[key["id"]] == "cold"
    assert "1 of these have no argon2id verifier" in named.stderr
    assert gateway("pepper", "rotate", "--finish", "--yes").returncode == 0
    (tmp_path / "key").write_text(key["secretKey"])
    explained = gateway("explain", "--upstream", "http://127.0.0.1:9", "--key-file", "key", "GET", "/")
    assert explained.returncode == 0, explained.stdout
    assert f"the token of {key['id']}" in explained.stdout


def test_flags_that_exclude_one_another(gateway: Gateway) -> None:
    assert "give one of them" in refusal(gateway("pepper", "rotate", "--finish", "--write", "x"), 2)
