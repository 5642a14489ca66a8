"""From a run to a person: real runs, Pushgateway, Prometheus with the project's rules, Alertmanager, web hooks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.delivery import forget_job
from jobs.environment import Environment, read
from jobs.progress import Silent
from jobs.request import RunRequest, RunResult
from jobs.run import run
from jobs.spec import load
from monitoring import servers
from monitoring.ledger import Ledger
from monitoring.servers import Server
from pipelines.cancellation import Cancellation
from pipelines.report import Outcome
from tests.conftest import poll
from tests.queries import scraped, vector
from tests.tiny_job import TinyJob
from tests.webhooks import CHAT, CONFIGURATION, RETRAIN, TOKEN, Mailbox, Webhooks, as_read, configuration

NIGHT = date(2026, 11, 1)
NASTY = 'nightly/fraud "ä" \\ {{ .Labels }} 🚀\n漢字 <b>&'

Alert = dict[str, Any]


@dataclass(frozen=True, slots=True)
class House:
    """All that stands between a job and whoever is told of it."""

    gateway: Server
    prometheus: Server
    alertmanager: Server
    hooks: Webhooks

    def alerts(self, **labels: str) -> list[Alert]:
        """The alerts with these labels that Alertmanager has now."""
        answer = httpx.get(f"{self.alertmanager.url}/api/v2/alerts", trust_env=False).raise_for_status()
        return [one for one in answer.json() if labels.items() <= one["labels"].items()]

    def firing(self, **labels: str) -> list[Alert]:
        """The alerts with these labels that Prometheus finds firing now."""
        answer = httpx.get(f"{self.prometheus.url}/api/v1/alerts", trust_env=False).raise_for_status()
        alerts = answer.json()["data"]["alerts"]
        return [one for one in alerts if one["state"] == "firing" and labels.items() <= one["labels"].items()]

    def chats(self, title: str) -> list[str]:
        """The texts of the chat messages whose title begins so, as they are read."""
        messages = [message["attachments"][0] for message in self.hooks.posted(CHAT)]
        return [as_read(message["text"]) for message in messages if as_read(message["title"]).startswith(title)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with built(tmp_path_factory.mktemp("house")) as house:
        yield house


@contextmanager
def built(folder: Path) -> Iterator[House]:
    """The project's own configuration and rules, in a hurry: what takes minutes there takes a second here."""
    rules = []
    for file in sorted((CONFIGURATION.parent / "rules").glob("*.yml")):
        hurried = re.sub(r"\b(for|interval): [0-9a-z]+$", r"\1: 1s", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        rules.append(folder / file.name)
        rules[-1].write_text(hurried, encoding="utf-8")
    with (
        Webhooks() as hooks,
        Mailbox() as mailbox,
        servers.alertmanager(config=configuration(folder, hooks=hooks, mailbox=mailbox)) as alertmanager,
        servers.pushgateway() as gateway,
        servers.prometheus(
            scrape={"pushgateway": gateway.url.removeprefix("http://")},
            rules=rules,
            alertmanager=alertmanager.url.removeprefix("http://"),
        ) as prometheus,
    ):
        # An alert that fires before Prometheus has found its Alertmanager is told a minute later.
        found = f"{prometheus.url}/api/v1/alertmanagers"
        poll(lambda: httpx.get(found, trust_env=False).json()["data"]["activeAlertmanagers"])
        yield House(gateway, prometheus, alertmanager, hooks)


def tiny(folder: Path, name: str, *, wrong: int) -> TinyJob:
    """A job with 200 labelled rows, so many of which the model gets wrong."""
    job = TinyJob(folder / "job")
    job.edit({'name = "tiny"': f"name = {toml(name)}"})
    job.write_holdout(wrong=wrong)
    return job


def toml(text: str) -> str:
    """A TOML basic string: JSON's are such."""
    return json.dumps(text, ensure_ascii=False)


def go(house: House, job: TinyJob) -> RunResult:
    """Run the job. Its state reaches the gateway."""
    result = run(
        RunRequest(load(job.spec), where(house, job), logical_date=NIGHT), observer=Silent(), cancellation=Cancellation()
    )
    assert result.delivery is not None, result.push_error
    return result


def where(house: House, job: TinyJob) -> Environment:
    return read({"BATCHGAUGE_LEDGER": str(job.folder / "ledger.db"), "BATCHGAUGE_GATEWAY": house.gateway.url})


def test_a_bad_model_is_told_to_people_and_to_the_scheduler(house: House, tmp_path: Path) -> None:
    """Pending, then firing, then in Alertmanager, which tells both; once the model is good again, both hear that."""
    job = tiny(tmp_path, "bad-model", wrong=60)
    job.write_input(NIGHT.isoformat(), 300)
    assert go(house, job).report.outcome is Outcome.SUCCESS
    name = {"alertname": "ModelAccuracyLow", "job": "bad-model"}
    (alert,) = poll(lambda: house.alerts(**name))
    pending = 'count_over_time(ALERTS{alertname="ModelAccuracyLow",alertstate="pending",job="bad-model"}[5m])'
    assert float(scraped(house.prometheus, pending)[()]) >= 1
    assert alert["labels"] == name | {
        "depends_on": "gateway",
        "holdout": "labelled",
        "retrain": "candidate",
        "severity": "critical",
    }
    assert alert["annotations"] == {
        "summary": "bad-model: accuracy on labelled is below its threshold",
        "description": "Accuracy is 70%. It is at most 75.93% (upper end of the 95 % interval); the threshold is 90%.",
        "runbook_url": "monitoring/RUNBOOK.md#modelaccuracylow",
        "dashboard_url": "http://127.0.0.1:3000/d/batchgauge-quality?var-job=bad-model",
    }
    candidates = poll(lambda: told(house, alert["fingerprint"]))
    assert (candidates[0]["status"], candidates[0]["labels"]) == ("firing", alert["labels"])
    assert house.hooks.authorizations(RETRAIN) == {f"Bearer {TOKEN}"}
    poll(lambda: any(alert["annotations"]["summary"] in text for text in house.chats("CRITICAL bad-model")))

    job.write_holdout(wrong=0)
    go(house, job)
    poll(lambda: not house.alerts(**name))
    over = poll(lambda: [one for one in told(house, alert["fingerprint"]) if one["status"] == "resolved"])
    assert over[0]["startsAt"] == candidates[0]["startsAt"]
    poll(lambda: house.chats("RESOLVED bad-model"))


def told(house: House, fingerprint: str) -> list[Alert]:
    """What the scheduler was told of this alert."""
    alerts = (alert for document in house.hooks.posted(RETRAIN) for alert in document["alerts"])
    return [alert for alert in alerts if alert["fingerprint"] == fingerprint]


def test_a_failed_run_fires_until_the_job_is_forgotten(house: House, tmp_path: Path) -> None:
    """No input is a failure. `batchgauge forget` resolves what the job set off, by way of a living gateway."""
    job = tiny(tmp_path, "no-input", wrong=0)
    result = go(house, job)
    assert result.report.outcome is Outcome.FAILED
    (alert,) = poll(lambda: house.alerts(alertname="BatchRunFailed", job="no-input"))
    annotations = alert["annotations"]
    (ended,) = re.findall(r"ended at (.*) failed", annotations.pop("description"))
    assert ended.startswith(datetime.fromtimestamp(result.report.finished_at, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    assert annotations == {
        "summary": "no-input: the latest run failed",
        "runbook_url": "monitoring/RUNBOOK.md#batchrunfailed",
        "dashboard_url": "http://127.0.0.1:3000/d/batchgauge-run?var-job=no-input",
    }
    assert alert["status"]["state"] == "active"
    poll(lambda: house.chats("CRITICAL no-input"))
    with Ledger.open(where(house, job).ledger) as ledger:
        forget_job(ledger, "no-input", where(house, job))
    poll(lambda: not house.alerts(job="no-input"))
    poll(lambda: house.chats("RESOLVED no-input"))


def test_a_dead_gateway_resolves_nothing(tmp_path: Path) -> None:
    """What fired goes on without a break, muted by the one alert that says why nothing is heard."""
    with built(tmp_path) as house:
        job = tiny(tmp_path, "failed-before", wrong=0)
        assert go(house, job).report.outcome is Outcome.FAILED
        name = {"alertname": "BatchRunFailed", "job": "failed-before"}
        poll(lambda: house.alerts(**name))
        (before,) = house.firing(**name)
        house.gateway.stop()
        (down,) = poll(lambda: house.alerts(alertname="BatchGatewayDown"))
        gone = 'count_over_time((up{job="pushgateway"} == 0)[1m:1s])'
        poll(lambda: any(float(value) >= 3 for value in scraped(house.prometheus, gone).values()))
        assert vector(house.prometheus, "batch_run_state") == []
        (after,) = house.firing(**name)
        assert (after["activeAt"], after["labels"]) == (before["activeAt"], before["labels"])
        poll(lambda: [one["status"]["inhibitedBy"] for one in house.alerts(**name)] == [[down["fingerprint"]]])
        assert down["status"]["state"] == "active"


def test_names_of_any_characters_reach_people_unharmed(house: House, tmp_path: Path) -> None:
    """A job, an environment, a holdout and a slice with quotes, braces, a backslash, a newline, a slash, emoji, Chinese."""
    job = tiny(tmp_path, NASTY, wrong=60)
    labels = f"[push]\nlabels = {{ env = {toml(NASTY)} }}\n\n[thresholds]"
    job.edit({'name = "labelled"': f"name = {toml(NASTY)}", "[thresholds]": labels})
    file = job.write_holdout(wrong=60)
    table = pq.read_table(file)
    sides = pa.array([NASTY] * 100 + ["fine"] * (len(table) - 100))
    job.write(file, table.set_column(table.schema.get_field_index("side"), "side", sides))
    job.write_input(NIGHT.isoformat(), 300)
    assert go(house, job).report.outcome is Outcome.SUCCESS
    (alert,) = poll(lambda: house.alerts(alertname="ModelSliceAccuracyLow", job=NASTY))
    assert alert["labels"] == {
        "alertname": "ModelSliceAccuracyLow",
        "depends_on": "gateway",
        "dimension": "side",
        "env": NASTY,
        "holdout": NASTY,
        "job": NASTY,
        "severity": "warning",
        "value": NASTY.replace("\\", "\\\\"),  # a slice's own escape
    }
    texts = alert["annotations"]["summary"] + alert["annotations"]["description"]
    assert NASTY in texts
    assert parse_qs(urlsplit(alert["annotations"]["dashboard_url"]).query)["var-job"] == [NASTY]
    messages = poll(lambda: house.chats(f"WARNING {NASTY} ({NASTY})"))
    assert alert["annotations"]["summary"] in messages[0]
