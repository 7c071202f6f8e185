"""The image: its Dockerfile by a linter, and its steps by doing what they do."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.deploy.manifests import ROOT, gateway_container, instructions

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "deploy/image/requirements.txt").read_text()


def value(name: str) -> str:
    """Return what the final stage says once by the instruction ``name``."""
    steps = instructions()
    last = max(i for i, (step, _) in enumerate(steps) if step == "FROM")
    (found,) = [rest for step, rest in steps[last:] if step == name]
    return found


def copied() -> list[str]:
    """Return what the build takes from the project."""
    taken = [rest.split() for step, rest in instructions() if step == "COPY"]
    return [path for words in taken if not words[0].startswith("--from") for path in words[:-1]]


def done(*command: Any, **options: Any) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=180, **options)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_linter_finds_nothing() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    done(linter, "--failure-threshold", "style", ROOT / "Dockerfile")


def test_it_runs_as_the_number_that_the_manifest_says() -> None:
    context = gateway_container()["securityContext"]
    assert value("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert context["runAsUser"] >= 1000


def test_the_state_lies_in_a_volume_that_the_manifest_mounts() -> None:
    assert value("VOLUME") in {mount["mountPath"] for mount in gateway_container()["volumeMounts"]}
    assert f"STATE_DIRECTORY={value('VOLUME')}" in value("ENV")


def test_signals_reach_the_gateway_itself() -> None:
    assert value("ENTRYPOINT") == '["gateway"]'  # no shell between the runtime and the process
    assert value("CMD") == '["run"]'
    assert value("STOPSIGNAL") == "SIGTERM"


def sent(path: str) -> bool:
    """Tell whether the build gets ``path``: by the last pattern that is its or a folder's above it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    names = [str(parent) for parent in [Path(path), *Path(path).parents][:-1]]
    verdict = True
    for pattern in (line for line in lines if line and not line.startswith("#")):
        bare = pattern.removeprefix("!").replace("**/", "*")
        if any(fnmatch.fnmatchcase(name, bare) for name in names):
            verdict = pattern.startswith("!")
    return verdict


def test_the_build_gets_what_it_copies() -> None:
    assert copied()
    assert all(sent(path) for path in copied())


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "gateway.db",
        "tests/conftest.py",
        "gateway/__pycache__/app.pyc",
        "deploy/kubernetes/sidecar.yaml",
    ],
)
def test_the_build_gets_nothing_else(path: str) -> None:
    assert not sent(path)


def test_what_is_copied_is_enough_to_install_and_run(tmp_path: Path) -> None:
    source, environment, state = tmp_path / "src", tmp_path / "env", tmp_path / "state"
    source.mkdir()
    state.mkdir()
    for path in copied():
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / path, source / Path(path).name)
    done(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", "--no-deps"]
    done(*pip, source)
    # The dependencies are those of the tests' environment, so that nothing is fetched twice.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    variables = {**os.environ, "STATE_DIRECTORY": str(state)}
    where = done(python, "-c", "import gateway; print(gateway.__file__)", cwd=tmp_path)
    assert where.startswith(str(environment))
    assert PROJECT["version"] in done(environment / "bin/gateway", "--version", env=variables, cwd=tmp_path)
    # The SQL texts are in the package, and the store lands in the volume.
    done(environment / "bin/gateway", "migrate", env=variables, cwd=tmp_path)
    assert (state / "gateway.db").exists()


def test_the_version_of_image_and_manifest_is_the_project_s() -> None:
    assert gateway_container()["image"] == f"gateway:{PROJECT['version']}"
    assert f'version="{PROJECT["version"]}"' in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_the_lock_holds_a_version_that_each_dependency_allows(line: str) -> None:
    wanted = Requirement(line)
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", LOCK, re.M))
    assert wanted.name.lower() in pins
    assert pins[wanted.name.lower()] in wanted.specifier


def test_every_pin_of_the_lock_has_hashes() -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.M)[1:]
    assert len(blocks) >= len(PROJECT["dependencies"])
    assert all("--hash=sha256:" in block for block in blocks)
