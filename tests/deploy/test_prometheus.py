"""The scrape configuration and the alerts, judged by Prometheus' own tool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import Start
from tests.deploy.manifests import ROOT, manifests, ports, program
from tests.wire.product import Product

PLACE = ROOT / "deploy/prometheus"
RULES = PLACE / "gateway.rules.yml"
CASES = Path(__file__).parent / "gateway.rules.test.yml"


def promtool(*arguments: str) -> str:
    run = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def test_scrape_configuration_and_rules_are_valid() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "config", str(PLACE / "prometheus.yml"))


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "case.yml").write_text(CASES.read_text().replace("@RULES@", str(RULES)))
    promtool("test", "rules", str(tmp_path / "case.yml"))


def test_every_alert_is_exercised() -> None:
    assert alerts() == set(re.findall(r"alertname: (\w+)", CASES.read_text()))


def test_scrapes_find_the_ops_port_of_the_manifest() -> None:
    jobs = yaml.safe_load((PLACE / "prometheus.yml").read_text())["scrape_configs"]
    (by_name,) = next(job["dns_sd_configs"] for job in jobs if "dns_sd_configs" in job)
    (name,) = by_name["names"]
    services = {m["metadata"]["name"]: m["spec"] for m in manifests() if m["kind"] == "Service"}
    service = services[name.split(".")[0]]
    assert by_name["port"] == ports()["ops"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("name", sorted(set(re.findall(r"gateway_[a-z_]+", RULES.read_text()))))
def test_metrics_of_the_alerts_exist(name: str, paired: Product) -> None:
    assert re.search(rf"^# TYPE {name} ", paired.ops("/metrics")[1], re.M), name


@pytest.fixture(scope="module")
def paired(start_shared: Start) -> Product:
    """A gateway of two workers, which has all the metrics that there are."""
    return start_shared({"workers": 2})
