"""The manifests of many gateways over PostgreSQL: valid by the schemas, and right in what no schema knows."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from gateway.config.load import load_settings
from gateway.config.settings import Settings
from tests.deploy.manifests import ROOT, manifests

FILE = ROOT / "deploy/kubernetes/replicas.yaml"
OLDEST = "1.30"  # what the manifest says that it needs
CONTROL_STOP_S = 5


def one(kind: str, name: str) -> dict[str, Any]:
    (found,) = [m for m in manifests(FILE) if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    return found


def pod() -> dict[str, Any]:
    return dict(one("Deployment", "gateway")["spec"]["template"]["spec"])


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


def settings() -> Settings:
    return load_settings(str(ROOT / "config/replicas.yaml"), {}, {})


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("manifest", manifests(FILE), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_each_manifest_is_valid(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_the_configuration_is_the_shipped_one_to_the_letter() -> None:
    embedded = one("ConfigMap", "gateway")["data"]["gateway.yaml"]
    assert embedded == (ROOT / "config/replicas.yaml").read_text()


def test_ports_and_paths_agree_with_the_configuration() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    variables = {variable["name"]: variable.get("value") for variable in container()["env"]}
    assert [address.port for address in settings().listen] == [ports["http"]]
    assert settings().ops_listen.port == ports["ops"]
    assert settings().ops_listen.host == "0.0.0.0"  # the kubelet asks from outside the pod
    assert variables == {"GATEWAY_CONFIG": f"{mounts['config']}/gateway.yaml", "PGPASSWORD": None}
    assert settings().secrets.pepper_file == f"{mounts['pepper']}/pepper"
    assert f"sslrootcert={mounts['postgres']}/ca.crt" in (settings().store_url or "")
    assert mounts.keys() == {volume["name"] for volume in pod()["volumes"]}


def test_the_database_s_certificate_is_verified() -> None:
    assert "sslmode=verify-full" in (settings().store_url or "")


def test_no_secret_stands_in_a_manifest() -> None:
    assert "Secret" not in {manifest["kind"] for manifest in manifests(FILE)}
    assert "password" not in (settings().store_url or "")


def test_probes_ask_the_ops_port() -> None:
    asked = [container()[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert [get["path"] for get in asked] == ["/startupz", "/readyz", "/livez"]
    assert {get["port"] for get in asked} == {"ops"}


def test_nothing_runs_with_more_rights_than_it_needs() -> None:
    assert pod()["enableServiceLinks"] is False
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    context = container()["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_an_update_and_a_drained_node_leave_gateways_that_serve() -> None:
    deployment = one("Deployment", "gateway")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert one("PodDisruptionBudget", "gateway")["spec"]["maxUnavailable"] < deployment["replicas"]


def test_labels_meet_selectors() -> None:
    labels = one("Deployment", "gateway")["spec"]["template"]["metadata"]["labels"]
    selectors = [m["spec"]["selector"] for m in manifests(FILE) if m["kind"] == "Service"]
    selectors += [
        one(kind, "gateway")["spec"]["selector"]["matchLabels"]
        for kind in ("Deployment", "PodDisruptionBudget")
    ]
    (rule,) = one("NetworkPolicy", "backend-through-gateway")["spec"]["ingress"]
    selectors += [source["podSelector"]["matchLabels"] for source in rule["from"]]
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_the_grace_period_holds_every_step_of_the_end() -> None:
    timeouts = settings().timeouts
    assert pod()["terminationGracePeriodSeconds"] > timeouts.drain_delay + timeouts.drain + CONTROL_STOP_S
