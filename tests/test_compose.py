"""compose.yaml: there is no Docker where tests run, so its structure is checked, and what it runs in a shell is run."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring import servers
from monitoring.deployment import Addresses

ROOT = Path(__file__).parent.parent
FILE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
SERVERS = {name: service for name, service in SERVICES.items() if name != "config"}


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source and target of each."""
    return [(volume.split(":")[0], volume.split(":")[1]) for volume in service.get("volumes", [])]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_a_version(name: str) -> None:
    """A whole one: `latest`, or a minor version, is another image tomorrow."""
    assert re.fullmatch(r"(prom|grafana)/[a-z-]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_published_on_loopback_only_and_says_how_it_is(name: str) -> None:
    """On the port where the configuration's defaults, and links in alerts, say it is."""
    service = SERVERS[name]
    port = {"prometheus": 9090, "pushgateway": 9091, "alertmanager": 9093, "node-exporter": 9100, "grafana": 3000}[name]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert service["restart"] == "unless-stopped"
    health = service["healthcheck"]
    assert health["test"][:-1] == ["CMD", "wget", "-qO", "/dev/null"]
    assert health["test"][-1].startswith(f"http://127.0.0.1:{port}/")
    assert "network_mode" not in service
    assert "privileged" not in service


def test_what_is_mounted_is_there() -> None:
    """Files of this repository read-only, named volumes declared, and each of those used."""
    used: set[str] = set()
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)
                assert volume.endswith(":ro"), (name, volume)
            else:
                used.add(source)
    assert used == set(FILE["volumes"])


def test_servers_find_each_other_by_name(tmp_path: Path) -> None:
    """The step that puts the names in, run as it stands: no loopback address of a server is left, and both accept it."""
    (script,) = SERVICES["config"]["command"]
    assert SERVICES["config"]["entrypoint"] == ["sh", "-euc"]
    assert dict(mounts(SERVICES["config"])) == {"./monitoring/prometheus": "/source", "config": "/config"}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "stale.yml").write_text("from the last version")
    script = script.replace("/source/", f"{ROOT}/monitoring/prometheus/").replace("/config", f"{tmp_path}/config")
    subprocess.run(["/bin/sh", "-euc", script], check=True)
    written = {file.relative_to(tmp_path / "config"): file.read_text() for file in (tmp_path / "config").rglob("*.yml")}
    assert {str(path) for path in written} == {"prometheus.yml", "alertmanager.yml", "rules/alerts.yml", "rules/recording.yml"}
    config = yaml.safe_load(written[Path("prometheus.yml")])
    targets = [job["static_configs"][0]["targets"][0].split(":")[0] for job in config["scrape_configs"]]
    assert set(targets) == {"prometheus", "pushgateway", "node-exporter", "alertmanager", "host.docker.internal"}
    assert set(targets) < {*SERVICES, "host.docker.internal"}
    everything = "\n".join(written.values())
    for field in fields(Addresses):
        if field.name not in {"grafana_url", "runbook_url", "secrets"}:
            assert str(field.default) not in everything, field.name
    for tool, arguments in (
        ("promtool", ["check", "config", "prometheus.yml"]),
        ("amtool", ["check-config", "alertmanager.yml"]),
    ):
        done = subprocess.run([servers.find(tool), *arguments], cwd=tmp_path / "config", capture_output=True, check=False)
        assert done.returncode == 0, done.stdout
    for name in ("prometheus", "alertmanager"):
        service = SERVICES[name]
        assert f"--config.file=/config/{name}.yml" in service["command"]
        assert ("config", "/config") in mounts(service)
        assert service["depends_on"] == {"config": {"condition": "service_completed_successfully"}}
        assert service["extra_hosts"] == ["host.docker.internal:host-gateway"]


def test_what_is_kept_lies_in_a_volume() -> None:
    """Each server is told to put its data where its volume is mounted."""
    for name, option in {
        "prometheus": "--storage.tsdb.path=/prometheus",
        "pushgateway": "--persistence.file=/pushgateway/groups",
        "alertmanager": "--storage.path=/alertmanager",
    }.items():
        assert option in SERVICES[name]["command"]
        assert (name, f"/{name}") in mounts(SERVICES[name])
    assert ("grafana", "/var/lib/grafana") in mounts(SERVICES["grafana"])


def test_grafana_is_provisioned_and_has_no_default_password() -> None:
    """Whoever reaches it on loopback may look; there is no account whose password could be guessed."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert (environment["GF_AUTH_ANONYMOUS_ENABLED"], environment["GF_AUTH_ANONYMOUS_ORG_ROLE"]) == ("true", "Viewer")
    assert not [name for name in environment if "PASSWORD" in name]
    places = {target: ROOT / source for source, target in mounts(SERVICES["grafana"]) if source.startswith("./")}
    (datasources,) = places["/etc/grafana/provisioning/datasources"].glob("*.yml")
    assert yaml.safe_load(datasources.read_text())["datasources"][0]["url"] == "http://prometheus:9090"
    (providers,) = places["/etc/grafana/provisioning/dashboards"].glob("*.yml")
    dashboards = yaml.safe_load(providers.read_text())["providers"][0]["options"]["path"]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == dashboards
    shown = {Path(place).name: source for place, source in places.items() if str(Path(place).parent) == dashboards}
    assert home.name in shown
    assert {file.name: file for file in (ROOT / "dashboards").glob("*.json")} == shown  # and none that asks a PostgreSQL
