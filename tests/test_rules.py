"""Prometheus's configuration, rules and runbook: valid, complete, about metrics that exist, and right on a real Prometheus."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import promql_parser as promql
import pyarrow as pa
import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.delivery import register_job
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring import servers
from monitoring.ledger import Ledger
from monitoring.names import ALERT_LABELS, TABLE
from monitoring.servers import Server
from pipelines.cancellation import Cancellation
from tests.conftest import poll
from tests.queries import vector
from tests.tiny_job import TinyJob, rows_table

MONITORING = Path(__file__).parent.parent / "monitoring"
CONFIGURATION = MONITORING / "prometheus"
RULES = sorted((CONFIGURATION / "rules").glob("*.yml"))
CASES = sorted((CONFIGURATION / "tests").glob("*.yml"))
RUNBOOK = (MONITORING / "RUNBOOK.md").read_text(encoding="utf-8")
GRAFANA = "http://127.0.0.1:3000/d/batchgauge-"

SERVERS = {
    "node_cpu_seconds_total",
    "process_start_time_seconds",
    "push_failure_time_seconds",
    "push_time_seconds",
    "up",
}
"""Metrics of the servers themselves that rules may use."""

ADDED = {"env", "instance", "job"}
"""Labels that a sample may have beside its family's own: the group's, and a textfile's target."""

TROUBLE = {
    "job:batch_push_owed:timestamp_seconds",
    "job:batch_run_stuck:started_timestamp_seconds",
    "job:batch_state_deleted:timestamp_seconds",
    "job:batch_state_lost:timestamp_seconds",
    "job:model_slice_accuracy_upper_bound:low",
    "job:model_slice_recall_upper_bound:low",
    "job:model_slices_unsure:count",
}
"""Recorded only while something is wrong."""

Rule = dict[str, Any]


def rules(kind: str) -> dict[str, Rule]:
    """All rules of a kind, `alert` or `record`, by name."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    found = [rule for group in groups for rule in group["rules"] if kind in rule]
    assert len({rule[kind] for rule in found}) == len(found), "a name is taken twice"
    return {rule[kind]: rule for rule in found}


ALERTS, RECORDED = rules("alert"), rules("record")
TESTS = [test for file in CASES for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression with the name of its rule: what rules evaluate, and what the texts of alerts ask for."""
    for name, rule in (ALERTS | RECORDED).items():
        yield name, rule["expr"]
        for text in rule.get("annotations", {}).values():
            for template in re.findall(r"printf [\"`](.*?)[\"`] \$labels\.job \| query", text):
                yield name, template.replace("%q", '"x"')


def nodes(expression: str) -> list[promql.Expr]:
    """All nodes of the expression's tree."""
    found: list[promql.Expr] = []
    promql.walk(promql.parse(expression), found.append)
    return found


def selectors(expression: str) -> list[promql.VectorSelector]:
    """All vector selectors of the expression, those of ranges too."""
    found = nodes(expression)
    ranges = [node.vector_selector for node in found if isinstance(node, promql.MatrixSelector)]
    return [*ranges, *(node for node in found if isinstance(node, promql.VectorSelector))]


def families() -> dict[str, set[str]]:
    """Every series name of the metric table, with its labels."""
    found = {metric.name: set(metric.labels) for metric in TABLE if metric.kind != "histogram"}
    for metric in TABLE:
        if metric.kind == "histogram":
            labels = set(metric.labels)
            found |= {f"{metric.name}_bucket": labels | {"le"}, f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
    return found


KNOWN = families().keys() | RECORDED.keys() | SERVERS


def promtool(*arguments: str | Path) -> str:
    """What promtool says. It has nothing to complain of."""
    done = subprocess.run([servers.find("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_configuration_and_finds_all_rules() -> None:
    """The file refers to its rules by itself, wherever it lies."""
    said = promtool("check", "config", CONFIGURATION / "prometheus.yml")
    assert f"{len(RULES)} rule files found" in said


def test_promtool_finds_no_fault_in_the_rules() -> None:
    """No duplicates, no bad names."""
    said = promtool("check", "rules", *RULES)
    assert sum(map(int, re.findall(r"(\d+) rules found", said))) == len(ALERTS) + len(RECORDED)


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_every_rule_does_what_its_cases_say(file: Path) -> None:
    """`promtool test rules`."""
    promtool("test", "rules", file)


@pytest.mark.parametrize(("name", "expression"), sorted(set(expressions())))
def test_rules_are_about_metrics_that_exist(name: str, expression: str) -> None:
    """A name is in the metric table, recorded by a rule, or a server's own; a label it selects by is one of its labels."""
    for selector in selectors(expression):
        assert selector.name in KNOWN, f"{name} uses {selector.name}"
        if selector.name in families():
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= families()[selector.name] | ADDED, f"{name}: {selector}"


@pytest.mark.parametrize(("name", "expression"), sorted(set(expressions())))
def test_nothing_merges_or_clashes_when_a_job_is_there_twice(name: str, expression: str) -> None:
    """Jobs may have labels that we can't know: name those to leave out, never those to keep."""
    for node in nodes(expression):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            by = node.modifier.type == promql.AggModifierType.By
            assert not by, f"{name}: {node.prettify()}"
        if isinstance(node, promql.BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
            matching = node.modifier.matching
            kept = set(matching.labels) if matching.type == promql.LabelModifierType.Include else set()
            assert kept <= {"instance"}, f"{name}: {node.prettify()}"


def test_the_configuration_finds_the_servers_where_they_are_by_default() -> None:
    """Whoever deploys it elsewhere replaces these addresses as text, so they are spelled just so."""
    text = (CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8")
    configuration = yaml.safe_load(text)
    targets = {scrape["job_name"]: scrape["static_configs"][0]["targets"] for scrape in configuration["scrape_configs"]}
    assert targets == {
        "prometheus": ["127.0.0.1:9090"],
        "pushgateway": ["127.0.0.1:9091"],
        "node": ["127.0.0.1:9100"],
        "alertmanager": ["127.0.0.1:9093"],
        "scheduler": ["127.0.0.1:9195"],
    }
    honoured = {scrape["job_name"] for scrape in configuration["scrape_configs"] if scrape.get("honor_labels")}
    assert honoured == {"pushgateway", "node"}
    (alertmanager,) = configuration["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"] == [{"targets": ["127.0.0.1:9093"]}]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_grave_it_is_and_where_to_look(name: str) -> None:
    """Severity, `for`, what depends on the gateway, the runbook's heading, a dashboard of the job."""
    rule = ALERTS[name]
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    gateway = {} if name == "BatchGatewayDown" else {"depends_on": "gateway"}
    retrain = {"retrain": "candidate"} if name in {"ModelAccuracyLow", "ModelRecallLow"} else {}
    assert rule["labels"] == {"severity": rule["labels"]["severity"]} | gateway | retrain
    assert rule["labels"].keys() < ALERT_LABELS  # none of which a job's own label can be called
    assert re.fullmatch(r"\d+m", rule["for"])
    assert notes["summary"]
    assert notes["description"]
    assert notes["runbook_url"] == f"monitoring/RUNBOOK.md#{name.lower()}"
    board = "quality" if name.startswith("Model") else "run"
    of_job = f"{GRAFANA}{board}?var-job={{{{ $labels.job | urlquery }}}}"
    assert notes["dashboard_url"] == (f"{GRAFANA}fleet" if name == "BatchGatewayDown" else of_job)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_cases_quiet_before_firing_after_and_not_firing_when(name: str) -> None:
    """Somebody has thought of when it must not fire, and said so in a sentence."""
    quiet_then_firing, does_not_fire = False, False
    for test in TESTS:
        mine = [case for case in test.get("alert_rule_test", ()) if case["alertname"] == name]
        quiet = [minutes(case["eval_time"]) for case in mine if not case["exp_alerts"]]
        firing = [minutes(case["eval_time"]) for case in mine if case["exp_alerts"]]
        quiet_then_firing |= bool(quiet and firing) and min(quiet) < max(firing)
        does_not_fire |= bool(quiet) and bool(re.search(rf"\b{name}\b[^;]*\b(does|do) not fire", test["name"]))
    assert quiet_then_firing, f"no case is quiet before {name} and fires after"
    assert does_not_fire, f"no case is called '… {name} does not fire when …'"


def minutes(text: str) -> int:
    """A time of a case."""
    match = re.fullmatch(r"(\d+)([mh])", text)
    assert match, text
    return int(match[1]) * {"m": 1, "h": 60}[match[2]]


def test_cases_are_about_alerts_and_series_that_exist() -> None:
    """A misspelt alert is always quiet, and a series with a label missing matches nothing."""
    for test in TESTS:
        for case in test.get("alert_rule_test", ()):
            assert case["alertname"] in ALERTS, test["name"]
        for series in test["input_series"]:
            (selector,) = selectors(series["series"])
            assert selector.name in KNOWN, f"{test['name']}: {selector}"
            labels = {matcher.name for matcher in selector.matchers.matchers} - ADDED
            assert labels == families().get(selector.name, labels), f"{test['name']}: {selector}"


def test_the_runbook_has_a_heading_for_every_alert_and_for_nothing_else() -> None:
    """Its anchor is what the alert's link points to."""
    assert sorted(re.findall(r"^## (.*)$", RUNBOOK, re.MULTILINE)) == sorted(ALERTS)
    for section in RUNBOOK.split("\n## ")[1:]:
        parts = re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE)
        assert parts == ["Meaning", "Look", "Do"], section.splitlines()[0]
    assert set(re.findall(r"\]\(#(\w+)\)", RUNBOOK)) <= {name.lower() for name in ALERTS}


def test_the_runbook_has_true_commands_and_metrics() -> None:
    """Whoever pastes at night what it says is not told that there is no such thing."""
    spans = [*re.findall(r"`([^`\n]+)`", RUNBOOK), *re.findall(r"^    (batchgauge .*?)\s+#", RUNBOOK, re.MULTILINE)]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    called = [shlex.split(span)[1:] for span in spans if span.startswith("batchgauge ")]
    assert len(called) > len(ALERTS)
    for name, *words in called:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, (name, words)
    metrics = {
        name for span in spans for name in re.findall(r"\b(?:job:|batch_|inference_|model_|push_|cpu_)[a-z0-9_:]+", span)
    }
    assert len(metrics) > len(ALERTS)
    assert metrics <= KNOWN


def test_the_command_that_an_alert_names_shows_what_it_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the run failed; which files were rejected whole."""
    job = TinyJob(tmp_path / "job")
    place = {"BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db"), "BATCHGAUGE_GATEWAY": ""}
    for name, value in place.items():
        monkeypatch.setenv(name, value)

    def promised(alert: str, promise: str, *options: str) -> str:
        command = re.search(rf"`batchgauge (\w+)` {promise}", ALERTS[alert]["annotations"]["description"])
        assert command, alert
        return CliRunner().invoke(app, [command[1], "tiny", *options]).stdout

    def run_night() -> None:
        run(RunRequest(load(job.spec), read(place), logical_date=night), observer=Silent(), cancellation=Cancellation())

    night = date(2026, 11, 1)
    run_night()
    assert "no Parquet files" in promised("BatchRunFailed", "has the reason")
    job.write_input(night.isoformat(), 100)
    job.write_input(night.isoformat(), 100, name="torn").write_bytes(b"PAR1")
    run_night()
    assert "torn.parquet" in promised("InferenceRowsRejected", "names them", "--output", "-")


def hurried(folder: Path) -> list[Path]:
    """The rules, with what is evaluated once a minute evaluated once a second."""
    copies = [folder / file.name for file in RULES]
    for file, copy in zip(RULES, copies, strict=True):
        text = file.read_text(encoding="utf-8")
        copy.write_text(re.sub(r"^( +interval): 1m$", r"\1: 1s", text, flags=re.MULTILINE), encoding="utf-8")
    return copies


class Place:
    """One environment's host: the tiny job, and a ledger of its own."""

    def __init__(self, folder: Path, env: str, gateway: Server) -> None:
        self.job = TinyJob(folder)
        self.job.edit({"[thresholds]": f'[push]\nlabels = {{ env = "{env}" }}\n\n[thresholds]'})
        self.environment: Environment = read(
            {"BATCHGAUGE_LEDGER": str(folder / "ledger.db"), "BATCHGAUGE_GATEWAY": gateway.url}
        )

    def register(self) -> None:
        """Push the zeros."""
        with Ledger.open(self.environment.ledger) as ledger:
            assert register_job(ledger, load(self.job.spec), self.environment).error is None

    def run(self, night: date) -> None:
        """Score a hundred rows and three that are no numbers."""
        self.job.write_input(night.isoformat(), 100)
        broken = rows_table(3, prefix="broken", seed=1).set_column(1, "x", pa.nulls(3, pa.float32()))
        self.job.write(self.job.folder / "inbox" / f"date={night}" / "broken.parquet", broken)
        request = RunRequest(load(self.job.spec), self.environment, logical_date=night)
        result = run(request, observer=Silent(), cancellation=Cancellation())
        assert result.delivery is not None, result.push_error


def test_two_environments_of_a_job_give_every_recorded_series_and_break_no_rule(tmp_path: Path) -> None:
    """Real runs through a real gateway: each rule of the repository is healthy, and each recording one has data for both."""
    with (
        servers.pushgateway() as gateway,
        servers.node_exporter() as node,
        servers.prometheus(
            scrape={"pushgateway": gateway.address, "node": node.address}, rules=hurried(tmp_path)
        ) as prometheus,
    ):
        places = [Place(tmp_path / env, env, gateway) for env in ("dev", "prod")]
        for place in places:
            place.register()
        poll(lambda: both(prometheus, "inference_requests_total == 0"))
        for age in range(3):  # as many as a median wants
            for place in places:
                place.run(date(2026, 11, 1) + timedelta(days=age))
            seen = f"changes(job:batch_run_whole:history[5m]) == {age}"
            poll(partial(both, prometheus, seen))
        usual = sorted(RECORDED.keys() - TROUBLE - {"cpu_usage"})
        poll(lambda: [name for name in usual if not both(prometheus, name)] == [])
        (cpu,) = poll(lambda: vector(prometheus, "cpu_usage"))
        assert 0 <= float(cpu["value"][1]) <= 100
        assert [name for name in sorted(TROUBLE) if vector(prometheus, name)] == []
        poll(lambda: both(prometheus, 'ALERTS{alertname="InferenceRowsRejected"}'))
        answer = httpx.get(f"{prometheus.url}/api/v1/rules", trust_env=False).json()
        health = {rule["name"]: rule["health"] for group in answer["data"]["groups"] for rule in group["rules"]}
        assert health == dict.fromkeys([*ALERTS, *RECORDED], "ok")


def both(prometheus: Server, expression: str) -> bool:
    """Whether it has an answer for each of the two environments."""
    return {one["metric"].get("env") for one in vector(prometheus, expression)} == {"dev", "prod"}
