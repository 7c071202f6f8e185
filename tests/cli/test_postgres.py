"""The commands on a PostgreSQL store, whose password is in no word that they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Gateway, refusal
from tests.postgres import PASSWORD, Server, database_name

PEPPER = "a-pepper-that-was-made-up-for-tests-and-nothing-else"


@pytest.fixture
def store(postgres_server: Server, tmp_path: Path) -> dict[str, str]:
    """Return the variables that name a new, empty database by a file, and a pepper."""
    url = postgres_server.create_database(database_name())
    for name, content in (("store", url), ("pepper", PEPPER)):
        (tmp_path / name).write_text(content + "\n")
    return {
        "GATEWAY_STORE__URL_FILE": str(tmp_path / "store"),
        "GATEWAY_PEPPER_FILE": str(tmp_path / "pepper"),
    }


def test_keys_are_made_and_listed_in_a_database_that_a_file_names(
    gateway: Gateway, store: dict[str, str]
) -> None:
    migrated = gateway("migrate", **store)
    assert "applied 0001_initial" in migrated.stdout
    assert migrated.stdout.startswith("postgresql://gateway@127.0.0.1:")
    made = gateway(
        *("keys", "create", "--tenant", "default", "--name", "n", "--permission", "viewer", "--json"), **store
    )
    listed = gateway("keys", "list", "--json", **store)
    assert [key["id"] for key in json.loads(listed.stdout)] == [json.loads(made.stdout)["id"]]
    shown = gateway("config", "show", **store)
    assert "postgresql://gateway:***@127.0.0.1" in shown.stdout
    for result in (migrated, made, listed, shown):
        assert result.returncode == 0
        assert PASSWORD not in result.stdout + result.stderr


def test_a_database_that_cannot_be_had_is_one_sentence(
    gateway: Gateway, store: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "store"
    url = file.read_text()
    for wrong, code, says in [
        (url.replace(PASSWORD, "geheim"), 1, "password authentication failed"),
        (url.replace("127.0.0.1:", "127.0.0.1:0"), 2, "from 1 to 65535"),
        (url.replace("postgresql:", "mysql:"), 2, "is not a store's URL"),
        (f"{url.strip()}?sslmode=verify-full&sslrootcert=/nowhere", 1, "no such file or directory"),
    ]:
        file.write_text(wrong)
        told = refusal(gateway("keys", "list", **store), code)
        assert says in told
        assert PASSWORD not in told
        assert "geheim" not in told


def test_its_pepper_has_to_be_named(gateway: Gateway, store: dict[str, str]) -> None:
    del store["GATEWAY_PEPPER_FILE"]
    assert "keeps no pepper of its own" in refusal(gateway("keys", "list", **store), 1)
