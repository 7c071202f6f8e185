"""The sidecar's manifests: valid by the API's schemas, and right in what no schema knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from gateway.config.load import load_settings
from gateway.config.settings import Settings
from gateway.core.limits import Timeouts
from tests.deploy.manifests import (
    ROOT,
    SIDECAR,
    backend_container,
    gateway_container,
    manifests,
    mount_path,
    one,
    pod,
    ports,
    program,
)

OLDEST = "1.30"  # what the manifest says that it needs


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("manifest", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_each_manifest_is_valid(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_validator_would_see_a_misspelling() -> None:
    broken = one("Service", "files")
    broken["spec"]["selektor"] = broken["spec"].pop("selector")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, OLDEST, strict=True)


def test_the_configuration_is_the_shipped_one_to_the_letter() -> None:
    embedded = one("ConfigMap", "files-gateway")["data"]["gateway.yaml"]
    assert embedded == (ROOT / "config/sidecar.yaml").read_text()


def sidecar_settings() -> Settings:
    return load_settings(str(ROOT / "config/sidecar.yaml"), {}, {})


def test_ports_and_paths_agree_with_the_configuration() -> None:
    settings = sidecar_settings()
    assert [address.port for address in settings.listen] == [ports()["http"]]
    assert settings.ops_listen.port == ports()["ops"]
    assert settings.ops_listen.host == "0.0.0.0"  # the kubelet asks from outside the pod
    assert settings.store_url == f"sqlite://{mount_path('gateway-state')}/gateway.db"
    (variable,) = gateway_container()["env"]
    assert variable == {"name": "GATEWAY_CONFIG", "value": f"{mount_path('gateway-config')}/gateway.yaml"}


def test_the_backend_listens_where_the_gateway_leads_and_nowhere_else() -> None:
    (upstream,) = sidecar_settings().upstreams.values()
    (target,) = upstream.targets
    assert target.host == "127.0.0.1"
    listens = re.findall(r"listen ([^;]+);", one("ConfigMap", "files-backend")["data"]["nginx.conf"])
    assert listens == [f"{target.host}:{target.port}"]


def test_probes_ask_the_ops_port() -> None:
    kinds = ("startup", "readiness", "liveness")
    asked = [gateway_container()[f"{kind}Probe"]["httpGet"] for kind in kinds]
    assert [get["path"] for get in asked] == ["/startupz", "/readyz", "/livez"]
    assert {get["port"] for get in asked} == {"ops"}


def test_nothing_runs_with_more_rights_than_it_needs() -> None:
    assert pod()["enableServiceLinks"] is False
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (gateway_container(), backend_container()):
        context = container["securityContext"]
        assert context["runAsUser"] >= 100
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])


def test_one_pod_at_a_time_owns_the_store() -> None:
    deployment = one("Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert one("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_labels_meet_selectors_and_volumes_are_declared() -> None:
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    services = [m["spec"] for m in manifests() if m["kind"] == "Service"]
    assert one("Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert all(service["selector"].items() <= labels.items() for service in services)
    assert all(port["targetPort"] in ports() for service in services for port in service["ports"])
    containers = (gateway_container(), backend_container())
    mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod()["volumes"]}


def test_the_sidecar_is_native() -> None:
    assert gateway_container()["restartPolicy"] == "Always"


def test_the_sidecar_is_told_of_the_end_as_it_begins() -> None:
    # A sidecar's hook runs as the pod begins to end; its signal comes only after the backend's end.
    assert gateway_container()["lifecycle"]["preStop"]["exec"]["command"][-1].startswith("kill -TERM 1;")


def seconds_of_the_end() -> tuple[int, int, Timeouts, int]:
    """Return the backend's sleep, the time it needs to stop, the gateway's deadlines, the pod's grace."""
    sleep = backend_container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    conf = one("ConfigMap", "files-backend")["data"]["nginx.conf"]
    (stop,) = re.findall(r"worker_shutdown_timeout (\d+)s;", conf)
    return sleep, int(stop), sidecar_settings().timeouts, pod()["terminationGracePeriodSeconds"]


def test_the_backend_outlives_all_that_the_gateway_still_accepts() -> None:
    sleep, _, timeouts, _ = seconds_of_the_end()
    assert sleep > timeouts.drain_delay


def test_the_grace_period_holds_every_step_of_the_end() -> None:
    sleep, stop, timeouts, grace = seconds_of_the_end()
    assert grace > sleep + stop + timeouts.drain_delay + timeouts.drain


def test_the_numbers_of_the_comment_are_those_of_the_manifest() -> None:
    sleep, stop, timeouts, _ = seconds_of_the_end()
    steps = (sleep, stop, round(timeouts.drain_delay), round(timeouts.drain))
    said = f"{' + '.join(str(step) for step in steps)} = {sum(steps)} s"
    assert said in SIDECAR.read_text()


def test_the_backend_s_configuration_is_one_that_nginx_takes(tmp_path: Path) -> None:
    conf = one("ConfigMap", "files-backend")["data"]["nginx.conf"]
    (tmp_path / "nginx.conf").write_text(conf.replace("/tmp/", f"{tmp_path}/"))
    command = [program("nginx"), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
