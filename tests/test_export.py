"""The configuration for elsewhere: what is written is what Prometheus and Alertmanager accept, with the addresses put in."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path, PurePosixPath

import pytest
import yaml

from monitoring import deployment, servers
from monitoring.deployment import AddressError, Addresses

ROOT = Path(__file__).parent.parent

ELSEWHERE = Addresses(
    prometheus="[2001:db8::1]:9091",
    gateway="push.example.org:9090",  # where another server is by default
    alertmanager="alerts.example.org:443",
    node_exporter="node.example.org:9100",
    scheduler="scoring.example.org:80",
    grafana_url="https://grafana.example.org/sub/",
    runbook_url="https://wiki.example.org/page?title=batchgauge",
    secrets="/run/secrets of ours",
)


def export(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "batchgauge"), "export", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check(*command: str | Path) -> str:
    tool, *arguments = command
    done = subprocess.run([servers.find(str(tool)), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_written_is_accepted(tmp_path: Path) -> None:
    """By promtool and amtool; nothing is said on stdout, and how much was written on stderr."""
    done = export(tmp_path / "monitoring", "--gateway", "push.example.org:9091", "--runbook-url", "https://wiki.example.org/r")
    assert (done.returncode, done.stdout) == (0, "")
    written = sorted(file for file in (tmp_path / "monitoring").rglob("*") if file.is_file())
    assert f"wrote {len(written)} files to {tmp_path / 'monitoring'}" in done.stderr
    assert "rules found" in check("promtool", "check", "config", tmp_path / "monitoring" / "prometheus.yml")
    check("amtool", "check-config", tmp_path / "monitoring" / "alertmanager.yml")
    text = (tmp_path / "monitoring" / "prometheus.yml").read_text()
    assert "push.example.org:9091" in text
    assert "127.0.0.1:9091" not in text


def test_every_file_that_people_need_is_there() -> None:
    """And no other: the tests of the rules are about the rules."""
    written = {str(path) for path in deployment.files(Addresses())}
    assert {"prometheus.yml", "alertmanager.yml", "rules/alerts.yml", "rules/recording.yml", "RUNBOOK.md"} < written
    assert {f"dashboards/{file.name}" for file in (ROOT / "dashboards").glob("*.json")} < written
    provisioning = ROOT / "dashboards" / "provisioning"
    assert {f"dashboards/provisioning/{file.relative_to(provisioning)}" for file in provisioning.rglob("*.yml")} < written
    assert not [name for name in written if "tests" in name]


def test_without_addresses_files_are_as_they_stand() -> None:
    """They are valid on loopback."""
    for path, text in deployment.files(Addresses()).items():
        sources = (ROOT / place / path for place in (".", "monitoring", "monitoring/prometheus"))
        assert text == next(file for file in sources if file.exists()).read_text(), path


def test_every_address_is_put_in_everywhere(tmp_path: Path) -> None:
    """All at once: one may be another's default. The result is accepted, whatever the addresses look like."""
    written = deployment.files(ELSEWHERE)
    deployment.write(tmp_path, written, force=False)
    check("promtool", "check", "config", tmp_path / "prometheus.yml")
    check("amtool", "check-config", tmp_path / "alertmanager.yml")
    everything = "\n".join(written.values())
    for field in fields(Addresses):
        assert str(field.default) not in everything, field.name
        assert str(getattr(ELSEWHERE, field.name)).rstrip("/") in everything, field.name
    config = yaml.safe_load(written[PurePosixPath("prometheus.yml")])
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {
        "prometheus": ["[2001:db8::1]:9091"],
        "pushgateway": ["push.example.org:9090"],
        "node": ["node.example.org:9100"],
        "alertmanager": ["alerts.example.org:443"],
        "scheduler": ["scoring.example.org:80"],
    }
    datasources = yaml.safe_load(written[PurePosixPath("dashboards/provisioning/datasources/prometheus.yml")])
    assert datasources["datasources"][0]["url"] == "http://[2001:db8::1]:9091"
    rules = yaml.safe_load(written[PurePosixPath("rules/alerts.yml")])["groups"]
    annotations = [rule["annotations"] for group in rules for rule in group["rules"] if "alert" in rule]
    assert annotations
    for annotation in annotations:
        assert annotation["runbook_url"].startswith("https://wiki.example.org/page?title=batchgauge#")
        assert annotation["dashboard_url"].startswith("https://grafana.example.org/sub/d/batchgauge-")


def test_dashboards_stay_json() -> None:
    """Whatever is put in."""
    for path, text in deployment.files(ELSEWHERE).items():
        if path.suffix == ".json":
            assert json.loads(text)["uid"].startswith("batchgauge-")


def test_an_interval_is_put_in_where_prometheus_has_one(tmp_path: Path) -> None:
    """Also in groups of rules; a comment beside it stays."""
    written = deployment.files(Addresses(), interval="1s")
    deployment.write(tmp_path, written, force=False)
    check("promtool", "check", "config", tmp_path / "prometheus.yml")
    config = yaml.safe_load(written[PurePosixPath("prometheus.yml")])
    assert (config["global"]["scrape_interval"], config["global"]["evaluation_interval"]) == ("1s", "1s")
    for name in ("alerts", "recording"):
        groups = yaml.safe_load(written[PurePosixPath(f"rules/{name}.yml")])["groups"]
        assert {group.get("interval", "1s") for group in groups} == {"1s"}
    assert written[PurePosixPath("alertmanager.yml")] == deployment.files(Addresses())[PurePosixPath("alertmanager.yml")]


def test_nothing_is_overwritten_in_silence(tmp_path: Path) -> None:
    """What would be is named, and then nothing at all is written; the same again is no change."""
    assert export(tmp_path).returncode == 0
    assert export(tmp_path).returncode == 0
    (tmp_path / "alertmanager.yml").write_text("ours")
    (tmp_path / "RUNBOOK.md").unlink()
    done = export(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path} has other files already: alertmanager.yml; --force overwrites them\n"
    assert not (tmp_path / "RUNBOOK.md").exists()
    assert export(tmp_path, "--force").returncode == 0
    assert (tmp_path / "alertmanager.yml").read_text() != "ours"


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--gateway", "http://127.0.0.1:9091", r"give host:port, .*; a scheme goes into prometheus.yml \(scheme: https\)"),
        ("--gateway", "push.example.org", "give host:port"),
        ("--prometheus", "push.example.org:65536", "give host:port"),
        ("--alertmanager", 'a"b:1', "give host:port"),
        ("--scheduler", "", "give host:port"),
        ("--grafana-url", "grafana.example.org", "give a URL"),
        ("--grafana-url", "https://grafana.example.org/{{x}}", "give a URL"),
        ("--runbook-url", "our wiki", "give a URL or path without spaces"),
        ("--runbook-url", "*wiki", "give a URL or path"),  # a reference in YAML
        ("--runbook-url", "https://wiki.example.org/$HOME", "give a URL or path"),  # Grafana puts variables in
        ("--secrets", "secrets", "give an absolute path"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, option: str, value: str, wanted: str) -> None:
    """Before anything is written, with what to write instead."""
    with pytest.raises(AddressError, match=f"^{option} '.*': {wanted}"):
        Addresses(**{option.removeprefix("--").replace("-", "_"): value})
    assert not list(tmp_path.iterdir())


def test_a_wrong_address_is_a_usage_error(tmp_path: Path) -> None:
    """Exit code 2."""
    done = export(tmp_path / "x", "--gateway", "push.example.org")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --gateway 'push.example.org': give host:port, as in monitoring.example.org:9091\n",
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("interval", ["", "0s", "1", "1h", "-1s", "1.5s", "1s\n"])
def test_an_interval_that_is_none_is_refused(interval: str) -> None:
    """It goes into files that Prometheus would refuse later."""
    with pytest.raises(AddressError, match=r"^--scrape-interval '.*': give a whole number"):
        deployment.files(Addresses(), interval=interval)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One clear error."""
    (tmp_path / "file").write_text("")
    done = export(tmp_path / "file")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'file'} can't be written: File exists\n"
    (tmp_path / "folder" / "prometheus.yml").mkdir(parents=True)
    done = export(tmp_path / "folder", "--force")
    assert done.stderr == f"error: {tmp_path / 'folder' / 'prometheus.yml'} can't be written: Is a directory\n"
