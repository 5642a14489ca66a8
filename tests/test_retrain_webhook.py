"""From Alertmanager to a better model: a real Alertmanager with this repository's routes, a real scheduler, real training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring import deployment, servers
from monitoring.ledger import Cause, RetrainOutcome, RetrainRecord
from monitoring.server import free_port
from pipelines.cancellation import Cancellation
from tests.conftest import poll
from tests.retrained_job import RetrainedJob
from tests.test_retrain_alerts import FIRING
from tests.test_schedule_command import Schedule

TOKEN = "nobody guesses this one"  # noqa: S105  of this test


class World:
    """A job whose model was found surely too bad today, its scheduler, and an Alertmanager that knows the scheduler."""

    def __init__(self, folder: Path) -> None:
        job = RetrainedJob(folder / "job")
        today = datetime.now(UTC).date()
        for age in range(3):
            job.write_labels(today - timedelta(days=age))
        job.edit({'schedule = "15 2 * * *"\n': ""})  # nothing is due while we look
        job.write_input(str(today), 100)
        self.schedule = Schedule(folder, job)
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        (self.secrets / "retrain_token").write_text(TOKEN)
        self.schedule.variables["BATCHGAUGE_ALERTS_TOKEN_FILE"] = str(self.secrets / "retrain_token")
        environment = read({"BATCHGAUGE_LEDGER": self.schedule.variables["BATCHGAUGE_LEDGER"]})
        run(RunRequest(load(job.spec), environment, logical_date=today), observer=Silent(), cancellation=Cancellation())
        self.listen = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.listen}"

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.schedule.running("--listen", self.listen):
            self.schedule.until("tiny: scheduled")
            yield

    @contextmanager
    def alertmanager(self) -> Iterator[servers.Server]:
        """With the repository's configuration, the addresses put in."""
        files = deployment.files(deployment.Addresses(scheduler=self.listen, secrets=str(self.secrets)))
        config = self.schedule.folder / "config"
        deployment.write(config, files, force=False)
        with servers.alertmanager(config=config / "alertmanager.yml") as alertmanager:
            yield alertmanager

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", trust_env=False)

    def ended(self) -> list[RetrainRecord]:
        return [record for record in self.schedule.ledger.retrains("tiny") if record.outcome]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_alert_that_is_right_leads_to_a_better_model(world: World) -> None:
    """Told by Alertmanager, decided by the ledger, done in a process of its own, shown by all that the scheduler serves."""
    labels = {**FIRING["labels"], "severity": "critical"}
    with world.running(), world.alertmanager() as alertmanager:
        poll(lambda: world.get("/readyz").status_code == 200)
        alert = {"labels": labels, "startsAt": datetime.now(UTC).isoformat()}
        httpx.post(f"{alertmanager.url}/api/v2/alerts", json=[alert], trust_env=False).raise_for_status()
        (record,) = poll(world.ended, deadline_seconds=90)
        world.schedule.until("tiny: retraining promoted after")
        poll(lambda: "batch_scheduler_retrains_running 0.0" in world.get("/metrics").text)
        assert "batch_scheduler_retrains_started_total 1.0" in world.get("/metrics").text
        assert "tiny" in world.get("/").text
    assert (record.outcome, record.cause) == (RetrainOutcome.PROMOTED, Cause.ALERT)
    assert len(record.alerts) == 1
    assert world.schedule.ledger.state("tiny").counters["model_retrains_total", ("promoted",)] == 1
    log = world.schedule.log.read_text()
    assert "tiny: an alert came, and asks for a retraining: ModelAccuracyLow on labelled: surely below its threshold" in log
    assert TOKEN not in log
    assert "Traceback" not in log


def test_a_stranger_gets_nothing_done(world: World) -> None:
    """Without the token, with a wrong one, with garbage, for a job that isn't here: one clear answer each."""
    with world.running():
        for headers, body, status, words in (
            ({}, b"{}", 401, "the token is missing or wrong"),
            ({"Authorization": "Bearer guess"}, b"{}", 401, "the token is missing or wrong"),
            ({"Authorization": f"Bearer {TOKEN}"}, b"{}", 400, "not a webhook message"),
            ({"Authorization": f"Bearer {TOKEN}"}, b" " * (10 << 20), 413, "let fewer alerts into a group"),
        ):
            answer = httpx.post(f"{world.url}/alerts", content=body, headers=headers, trust_env=False)
            assert answer.status_code == status
            assert words in answer.json()["error"]
    assert world.ended() == []
    assert not world.schedule.log.read_text().count("an alert came")
