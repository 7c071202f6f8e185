"""Wrong use is one sentence and exit code 2; nothing slow is loaded to say so."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway import __version__
from tests.cli.conftest import Gateway, environment, refusal

CREATE = ("keys", "create", "--tenant", "default", "--name", "n", "--permission", "viewer")


def test_version_is_told(gateway: Gateway) -> None:
    result = gateway("--version")
    assert (result.returncode, result.stdout) == (0, f"gateway {__version__}\n")


@pytest.mark.parametrize("arguments", [["--version"], ["kyes"], ["run"], ["keys", "--help"]])
def test_nothing_slow_is_loaded_to_speak(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from gateway.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "slow = {'aiohttp', 'uvloop', 'asyncio', 'prometheus_client', 'argon2', 'sqlite3'}\n"
        "sys.exit(str(slow & set(sys.modules)) if slow & set(sys.modules) else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment(tmp_path), capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing command"),
        (["kyes"], "the nearest is `keys`"),
        (["keys"], "missing command"),
        (["keys", "creat"], "the nearest is `create` (see `gateway keys --help`)"),
        (["keys", "create", "--tenat", "x"], "the nearest is `--tenant`"),
        (["keys", "create", "--name", "x", "--permission", "viewer"], "'--tenant'"),
        (["keys", "show"], "'ID'"),
        (["keys", "list", "--status", "dead"], "'dead'"),
        (["keys", "list", "extra"], "extra"),
        (["run", "--listen"], "'--listen' requires an argument"),
        (["run", "--listen", ":1", "--listen", ":2"], "--listen is given twice"),
        (["run", "--listen", ""], "--listen is empty"),
        (["run", "--listen", "x", "--upstream", "http://h"], "listen: `x` is not an address"),
        (["run"], "no upstream is configured"),
        (["run", "--upstream", "nonsense"], "`nonsense` is not a target"),
        (["run", "--upstream", "https://h"], "not supported by this version"),
        (["run", "--upstream", "http://h", "--workers", "0"], "from 1 to 64"),
        (["run", "--upstream", "http://h", "--control-listen", ":1"], "in clear"),
        (["run", "--upstream", "http://h", "--store", "postgresql://u:geheim@h:x/d"], "from 1 to 65535"),
        (["keys", "list", "--store", "postgresql://h/d?sslmod=x"], "the nearest is `sslmode`"),
        (["run", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["keys", "list", "--store", "mysql://u:geheim@h"], "store.url"),
        (["keys", "list", "--store", "sqlite://relative.db"], "absolute"),
        (["config", "check", "--upstream", "http://h", "--store", "sqlite:a/"], "names no file"),
        (["explain", "GET"], "'/PATH'"),
        (["explain", "GET", "/a\nX-API-KEY: x"], "control character"),
        (["quickstart", "--workers", "1"], "no such option"),
    ],
)
def test_wrong_use_is_one_sentence(gateway: Gateway, arguments: list[str], words: str) -> None:
    told = refusal(gateway(*arguments), 2)
    assert words in told
    assert "geheim" not in told


def test_bad_variable_is_refused_by_every_command(gateway: Gateway) -> None:
    for command in (
        ["run"],
        ["keys", "list"],
        ["config", "show"],
        ["healthcheck"],
        ["migrate"],
        ["quickstart"],
    ):
        assert "GATEWAY_LISTEN" in refusal(gateway(*command, GATEWAY_LISTN="x"), 2)


def test_flag_may_be_said_by_variable(gateway: Gateway) -> None:
    variables = {"GATEWAY_TENANT": "default", "GATEWAY_PERMISSION": "viewer", "GATEWAY_JSON": "1"}
    result = gateway("keys", "create", "--name", "x", **variables)
    assert '"permission": "viewer"' in result.stdout


def test_reader_that_goes_away_leaves_no_noise(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gateway", "config", "schema"]
    result = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env=environment(tmp_path), check=False
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


def test_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "gateway", "config", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(tmp_path),
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, b"gateway: the output: No space left on device\n")


@pytest.mark.parametrize(
    ("interrupted", "codes"), [(True, {130}), (False, {1, 130})], ids=["interrupt", "hangup"]
)
def test_nobody_answers_and_nothing_is_done(interrupted: bool, codes: set[int], tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "keys", "revoke", "apk_x"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        start_new_session=True,
    )
    assert process.stderr is not None
    asked = os.read(process.stderr.fileno(), 1000)
    assert b"Revoke apk_x for good?" in asked
    if not interrupted:
        os.close(main)
    deadline = time.monotonic() + 10
    while process.poll() is None:
        assert time.monotonic() < deadline
        if interrupted:  # one that comes just before the read begins is not seen until the next
            process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
    _, rest = process.communicate()
    os.close(terminal)
    if interrupted:
        os.close(main)
    assert process.returncode in codes  # a hangup is read as an error or as the end
    assert b"Traceback" not in rest


def test_wrong_configuration_stands_before_a_missing_store(gateway: Gateway) -> None:
    assert "listen" in refusal(gateway("run", "--listen", "x", "--store", "sqlite:/none/there.db"), 2)


def test_a_process_whose_streams_are_closed_does_its_work(tmp_path: Path) -> None:
    """Else the first files that it opens stand where its output goes."""
    made = "exec 0<&- 1>&- 2>&-; exec " + shlex.join([sys.executable, "-m", "gateway", *CREATE])
    assert subprocess.run(["bash", "-c", made], env=environment(tmp_path), check=False).returncode == 0
    listed = subprocess.run(
        [sys.executable, "-m", "gateway", "keys", "list", "--json"],
        env=environment(tmp_path),
        capture_output=True,
        check=True,
    )
    assert [key["name"] for key in json.loads(listed.stdout)] == ["n"]


def test_a_key_whose_token_nobody_got_is_named(gateway: Gateway, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        made = subprocess.run(
            [sys.executable, "-m", "gateway", *CREATE],
            env=environment(tmp_path / "state"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    (key,) = json.loads(gateway("keys", "list", "--json").stdout)
    assert made.returncode == 1
    assert made.stderr == (
        f"gateway: {key['id']} was made, but its token could not be printed (No space left on device): "
        "revoke it and make another\n"
    )
