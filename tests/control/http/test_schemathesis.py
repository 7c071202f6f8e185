"""Requests made up from the description, good and bad, against a started gateway with real logins.

No fault of the server, no answer beside its description, no request let through that it forbids. The
same requests every time; ``schemathesis run`` with more examples and other seeds looks further.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dialects.harness import ACME, World
from tests.wire.backend import Backend
from tests.wire.product import ROOT

# Writes of one caller stop at 100 a minute; they take turns.
CALLERS = 16
# What else schemathesis checks and does not hold here:
UNHELD = (
    # The description cannot say it all: a date has to lie in the future, a role to be configured.
    "positive_data_acceptance",
    # A revoked key is still shown.
    "use_after_free",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared_backend: Backend) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("schemathesis"), shared_backend.port)
    yield made
    made.product.stop()


@pytest.fixture(scope="module")
def report(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What schemathesis told of a whole run."""
    directory = tmp_path_factory.mktemp("report")
    people = {
        name: {"id": tenant, "admins": [_admin(world, tenant) for _ in range(callers)]}
        for name, tenant, callers in (("main", "default", CALLERS), ("settings", ACME, 4))
    }
    known = {"port": world.port, "changer": _admin(world, "default"), **people}
    (directory / "world.json").write_text(json.dumps(known))
    told = directory / "report.json"
    run = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"), "--no-color", "run",
            f"http://127.0.0.1:{world.port}/openapi.json",
            "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "6", "--seed", "1",
            "--generation-deterministic",
            "--generation-with-security-parameters", "false", "--continue-on-failure",
            "--exclude-checks", ",".join(UNHELD), "--report-json-path", str(told),
        ],
        cwd=ROOT,
        env=os.environ | {
            "SCHEMATHESIS_HOOKS": "tests.control.http.fuzz_hooks",
            "FUZZ_WORLD": str(directory / "world.json"),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )  # fmt: skip
    assert told.exists(), run.stdout + run.stderr
    return {"said": run.stdout + run.stderr, **json.loads(told.read_text())}


def _admin(world: World, tenant: str) -> tuple[str, str]:
    person = world.person("admin", tenant)
    return person.email, person.password


def test_no_request_that_can_be_made_up_finds_a_fault(report: dict[str, object]) -> None:
    assert report["complete"], report["said"]
    assert (report["failures"], report["errors"]) == ([], []), report["said"]


def test_every_operation_was_asked_and_did_what_it_is_for(report: dict[str, object]) -> None:
    """Or else a fault could hide behind a 404 or a 429."""
    operations, rates = report["operations"], report["valid_rates"]
    assert isinstance(operations, dict)
    assert isinstance(rates, dict)
    assert operations["total"] == operations["tested"] > 40, report["said"]
    assert len(rates) == operations["total"]
    idle = {
        label for label, phases in rates.items() if not any(phase["accepted"] for phase in phases.values())
    }
    assert idle == set(), report["said"]
