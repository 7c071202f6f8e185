"""``gateway users`` on a real store: passwords come by prompt, standard input or file alone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.conftest import Gateway, environment, refusal

PASSWORD = "correct horse battery staple"
ADD = ["users", "add", "ann@example.com", "--tenant", "default", "--role", "admin"]


def listed(gateway: Gateway, *more: str) -> list[dict[str, Any]]:
    return list(json.loads(gateway("users", "list", "--json", *more).stdout))


def test_password_comes_from_stdin_or_a_file(gateway: Gateway, tmp_path: Path) -> None:
    done = gateway(*ADD, "--password-stdin", stdin=PASSWORD + "\n")
    assert (done.returncode, done.stdout) == (0, "user ann@example.com is admin of default\n")
    (tmp_path / "secret").write_text(PASSWORD + "\r\n")
    bob = ["users", "add", "bob@example.com", "--tenant", "default", "--role", "viewer"]
    assert gateway(*bob, "--password-file", "secret").returncode == 0
    assert [user["email"] for user in listed(gateway)] == ["ann@example.com", "bob@example.com"]
    assert gateway("users", "passwd", "ann@example.com", "--password-file", "secret").returncode == 0
    assert PASSWORD not in gateway("users", "list").stdout
    assert "user.password" in gateway("audit").stdout


def test_password_that_cannot_be_had_is_told_and_never_shown(gateway: Gateway, tmp_path: Path) -> None:
    assert "no terminal" in refusal(gateway(*ADD), 2)
    assert "exclude" in refusal(gateway(*ADD, "--password-stdin", "--password-file", "x"), 2)
    assert "missing" in refusal(gateway(*ADD, "--password-file", "missing"), 1)
    assert "password" in refusal(gateway(*ADD, "--password-stdin", stdin="geheim\n"), 2)
    assert "geheim" not in refusal(gateway(*ADD, "--password-stdin", stdin="geheim\n"), 2)
    assert "no such option" in refusal(gateway(*ADD, "--password", "geheim"), 2)
    assert listed(gateway) == []


def at_terminal(state: Path, arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """Run a command at a terminal where somebody answers what is asked; return its code and its words."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(state / "state"),
        start_new_session=True,
    )
    assert process.stderr is not None
    said = b""
    for answer in answers:  # what is typed before the question is thrown away
        while not said.endswith(b": "):
            more = os.read(process.stderr.fileno(), 100)
            assert more, said
            said += more
        os.write(main, answer.encode() + b"\n")
        said += b"\n"
    out, err = process.communicate(timeout=30)
    os.close(main)
    os.close(terminal)
    return process.returncode, (said + out + err).decode()


def test_password_is_asked_for_twice_at_a_terminal(gateway: Gateway, tmp_path: Path) -> None:
    code, said = at_terminal(tmp_path, ADD, [PASSWORD, PASSWORD])
    assert code == 0, said
    assert PASSWORD not in said
    assert len(listed(gateway)) == 1


def test_membership_is_added_changed_and_removed(gateway: Gateway) -> None:
    assert gateway(*ADD, "--password-stdin", stdin=PASSWORD).returncode == 0
    assert gateway("tenants", "add", "acme").returncode == 0
    joined = gateway("users", "add", "ann@example.com", "--tenant", "acme", "--role", "viewer")
    assert joined.returncode == 0, joined.stderr
    assert gateway(
        "users", "set", "ann@example.com", "--tenant", "acme", "--role", "editor", "--default-tenant", "acme"
    ).stdout
    (user,) = listed(gateway, "--tenant", "acme")
    assert user["memberships"] == [
        {"tenantId": "default", "role": "admin"},
        {"tenantId": "acme", "role": "editor"},
    ]
    assert user["defaultTenantId"] == "acme"
    gateway("users", "set", "ann@example.com", "--enabled", "false")
    assert listed(gateway)[0]["enabled"] is False
    assert "acme" in gateway("users", "list").stdout
    assert "add --yes" in refusal(gateway("users", "remove", "ann@example.com"), 2)
    assert gateway("users", "remove", "ann@example.com", "--tenant", "acme", "--yes").returncode == 0
    assert [m["tenantId"] for m in listed(gateway)[0]["memberships"]] == ["default"]
    assert gateway("users", "remove", "ann@example.com", "--yes").returncode == 0
    assert listed(gateway) == []


def test_what_is_wrong_or_missing_is_one_sentence(gateway: Gateway) -> None:
    assert "there is no user" in refusal(gateway("users", "passwd", "bob@example.com"), 1)
    assert "there is no user" in refusal(gateway("users", "remove", "bob@example.com", "--yes"), 1)
    assert "nothing to set" in refusal(gateway("users", "set", "bob@example.com"), 2)
    assert "belong together" in refusal(gateway("users", "set", "bob@example.com", "--role", "viewer"), 2)
    assert "email" in refusal(gateway("users", "passwd", "bob"), 2)
    nowhere = ["users", "add", "ann@example.com", "--tenant", "nowhere", "--role", "viewer"]
    assert "nowhere" in refusal(gateway(*nowhere, "--password-stdin", stdin=PASSWORD), 1)
