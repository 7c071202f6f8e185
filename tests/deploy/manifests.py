"""What the tests of deployment share: where things lie, and programs that must be there."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SIDECAR = ROOT / "deploy/kubernetes/sidecar.yaml"


def program(name: str) -> str:
    """Return the path of an installed program; without it skip, or fail where CI promises it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        message = f"{name} is not installed"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return found


def manifests(path: Path = SIDECAR) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def one(kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the one manifest of a kind (and name)."""
    found = [m for m in manifests() if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    assert len(found) == 1, [m["metadata"]["name"] for m in found]
    return found[0]


def pod() -> dict[str, Any]:
    return dict(one("Deployment")["spec"]["template"]["spec"])


def gateway_container() -> dict[str, Any]:
    (container,) = pod()["initContainers"]
    return dict(container)


def backend_container() -> dict[str, Any]:
    (container,) = pod()["containers"]
    return dict(container)


def mount_path(volume: str) -> Path:
    """Return where the gateway's container mounts ``volume``."""
    (path,) = [mount["mountPath"] for mount in gateway_container()["volumeMounts"] if mount["name"] == volume]
    return Path(path)


def ports() -> dict[str, int]:
    """Return the ports of the gateway's container by name."""
    return {port["name"]: port["containerPort"] for port in gateway_container()["ports"]}


def instructions(path: Path = ROOT / "Dockerfile") -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name.upper(), " ".join(rest.split())) for name, rest in lines]
