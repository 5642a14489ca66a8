"""What Grafana is started with: a data source, where the dashboards are, and two alert rules of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from dashboards import build
from dashboards.check import Source
from monitoring import servers
from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.names import TABLE
from monitoring.state import Thresholds
from tests.conftest import poll
from tests.dashboard_world import ENVIRONMENTS, NAMED, SURELY_BAD, TWIN, World, push_made, put
from tests.reports import definition, finished, holdout, one_run, part

PROVISIONING = build.FOLDER / "provisioning"
COMPOSE = build.FOLDER / "compose"
FILES = sorted([*PROVISIONING.rglob("*.yml"), *COMPOSE.rglob("*.yml")])
ROOT = build.FOLDER.parent

LAX = "lax"

Rule = dict[str, Any]


def as_grafana_reads(file: Path) -> Any:
    """The file with its variables replaced, as Grafana does in every value; there are none in the environment."""
    return expanded(yaml.safe_load(file.read_text(encoding="utf-8")))


def expanded(value: Any) -> Any:
    """`$$` is a dollar sign; `$NAME` and `${NAME}` are a variable's value, nothing without one."""
    if isinstance(value, dict):
        return {key: expanded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$(?:(\$)|\w+|\{\w+\})", lambda match: match[1] or "", value)


def rules() -> list[Rule]:
    document = as_grafana_reads(PROVISIONING / "alerting" / "batchgauge.yml")
    return [rule for group in document["groups"] for rule in group["rules"]]


def question(rule: Rule) -> str:
    """The rule's PromQL."""
    expression: str = rule["data"][0]["model"]["expr"]
    return expression


def test_there_is_one_file_for_each_thing() -> None:
    """In the folders where Grafana looks for them."""
    assert [str(file.relative_to(build.FOLDER)) for file in FILES] == [
        "compose/datasources/prometheus.yml",
        "provisioning/alerting/batchgauge.yml",
        "provisioning/dashboards/batchgauge.yml",
        "provisioning/datasources/prometheus.yml",
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_nothing_depends_on_grafanas_environment(file: Path) -> None:
    """What Grafana would replace is written with two dollar signs."""
    text = file.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["apiVersion"] == 1
    assert re.search(r"\$(?!\$)", text.replace("$$", "")) is None


def test_the_data_source_is_the_one_that_the_rules_name() -> None:
    (source,) = as_grafana_reads(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    assert (source["uid"], source["type"], source["url"]) == ("prometheus", "prometheus", "http://127.0.0.1:9090")
    assert source["jsonData"]["timeInterval"] == "30s"
    used = {step["datasourceUid"] for rule in rules() for step in rule["data"]}
    assert used == {source["uid"], "__expr__"}


def test_in_a_container_only_the_address_is_another() -> None:
    here = as_grafana_reads(PROVISIONING / "datasources" / "prometheus.yml")
    there = as_grafana_reads(COMPOSE / "datasources" / "prometheus.yml")
    assert there["datasources"][0].pop("url") == "http://prometheus:9090"
    here["datasources"][0].pop("url")
    assert there == here


def test_dashboards_come_from_files_and_stay_as_they_are() -> None:
    (provider,) = as_grafana_reads(PROVISIONING / "dashboards" / "batchgauge.yml")["providers"]
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["title"])
def test_a_rule_is_whole(rule: Rule) -> None:
    """A query, its last value, a threshold; no data is no alert; and a person is told what, how bad and where."""
    query, reduce, threshold = rule["data"]
    assert [step["refId"] for step in rule["data"]] == ["A", "B", "C"]
    assert all(step["model"]["refId"] == step["refId"] for step in rule["data"])
    assert all(step["relativeTimeRange"] == {"from": 600, "to": 0} for step in rule["data"])
    assert all(step["model"]["datasource"]["uid"] == step["datasourceUid"] for step in rule["data"])
    assert (query["model"]["instant"], query["model"]["range"]) == (True, False)
    assert (reduce["model"]["type"], reduce["model"]["expression"], reduce["model"]["reducer"]) == ("reduce", "A", "last")
    assert (threshold["model"]["type"], threshold["model"]["expression"]) == ("threshold", "B")
    assert threshold["model"]["conditions"][0]["evaluator"] == {"type": "gt", "params": [0]}
    assert rule["condition"] == "C"
    assert (rule["noDataState"], rule["execErrState"], rule["for"], rule["isPaused"]) == ("OK", "Error", "1m", False)
    assert "{{ $labels.job }}" in rule["annotations"]["summary"]
    assert "$values.B.Value" in rule["annotations"]["description"]
    promql_parser.parse(question(rule))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["title"])
def test_a_rule_leads_to_its_runbook_and_dashboard_and_bears_its_namesakes_severity(rule: Rule) -> None:
    """It is a copy of a rule of Prometheus: whoever knows that one knows this one."""
    alerts = yaml.safe_load((ROOT / "monitoring/prometheus/rules/alerts.yml").read_text(encoding="utf-8"))
    (namesake,) = [one for group in alerts["groups"] for one in group["rules"] if one.get("alert") == rule["title"]]
    assert rule["labels"]["severity"] == namesake["labels"]["severity"]
    for name in ("runbook_url", "dashboard_url"):
        assert rule["annotations"][name] == namesake["annotations"][name]


def test_the_rules_ask_for_metrics_that_exist() -> None:
    words = {word for rule in rules() for word in re.findall(r"\b(?:inference|model|batch)_\w+", question(rule))}
    assert words <= {metric.name for metric in TABLE}
    assert len(words) == 4


def push_without_thresholds(folder: Path, gateway: Gateway) -> None:
    """A job that sets no limits: a request takes 2 s, and 95 % of its predictions are right."""
    with Ledger.open(folder / "lax.db") as ledger:
        ledger.register(replace(definition(LAX), thresholds=Thresholds()), now=0.0, next_expected_at=None)
        parts = (part(rows=10, latencies=(20.0,)),)
        one_run(ledger, finished("run", LAX, parts=parts, holdouts=(holdout(),)), parts)
        put(gateway, ledger.state(LAX), {"job": LAX})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A Prometheus that knows some jobs: good ones, a bad one, one without thresholds."""
    folder = tmp_path_factory.mktemp("world")
    with servers.pushgateway() as gateway:
        push_made(folder, Gateway(gateway.url))
        push_without_thresholds(folder, Gateway(gateway.url))
        with servers.prometheus(scrape={"pushgateway": gateway.url.removeprefix("http://")}) as prometheus:
            world = World(gateway, prometheus)
            poll(lambda: world.count("count(model_accuracy)") == 7)
            with Source(prometheus.url) as opened:
                yield opened


def test_latency_over_its_threshold_or_a_second_is_an_alert(source: Source) -> None:
    """Each job has a figure, below 0 while all is well, so that Grafana shows a state for each."""
    (latency,) = [rule for rule in rules() if rule["title"] == "InferenceLatencyHigh"]
    found = source.instant(question(latency), at=time.time())
    assert {one.labels["job"]: one.value for one in found if one.value > 0} == {LAX: 1.0}
    assert sorted(one.labels["env"] for one in found if one.labels["job"] == TWIN) == sorted(ENVIRONMENTS)
    assert {one.labels["job"] for one in found} >= {SURELY_BAD, NAMED}


def test_accuracy_below_its_threshold_or_90_percent_is_an_alert(source: Source) -> None:
    """On each holdout by itself."""
    (accuracy,) = [rule for rule in rules() if rule["title"] == "ModelAccuracyLow"]
    found = source.instant(question(accuracy), at=time.time())
    (low,) = [one for one in found if one.value > 0]
    assert low.labels == {"job": SURELY_BAD, "holdout": "labelled"}
    assert low.value == pytest.approx(0.4)
    assert [one.value for one in found if one.labels["job"] == LAX] == [pytest.approx(-0.05)]
    assert sorted(one.labels["env"] for one in found if one.labels["job"] == TWIN) == sorted(ENVIRONMENTS)
    assert len([one for one in found if one.labels["job"] == NAMED]) == 2
