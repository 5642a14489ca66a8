"""`batchgauge schedule` as a process, with the runs that it really starts."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

import httpx
import psutil
import pytest

from jobs.environment import read
from jobs.scheduler.bookkeeping import register
from jobs.spec import load
from monitoring.ledger import Ledger
from tests.conftest import poll
from tests.tiny_job import TinyJob

ROOT = Path(__file__).parent.parent


Job = TypeVar("Job", bound=TinyJob)


class Schedule(Generic[Job]):
    """The command, on the folder's job and `ledger.db`; its log is a file."""

    program = "jobs.cli"

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder = folder
        self.job = job
        self.variables = {**os.environ, "BATCHGAUGE_LEDGER": str(folder / "ledger.db")}
        self.log = folder / "scheduler.log"
        self.ledger = Ledger.open(folder / "ledger.db")

    def due_a_minute_ago(self, *, rows: int) -> float:
        """Make the job due once: a minute ago, and tomorrow. The ledger has known it for an hour. Returns when it was due."""
        due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
        self.job.edit({'"15 2 * * *"': f'"{due.minute} {due.hour} * * *"'})
        self.job.write_input(due.date().isoformat(), rows)
        environment = read({"BATCHGAUGE_LEDGER": self.variables["BATCHGAUGE_LEDGER"]})
        register(self.ledger, load(self.job.spec), environment, now=due.timestamp() - 3600)
        return due.timestamp()

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon; at the end it is stopped if it still runs."""
        command = [
            sys.executable,
            "-m",
            self.program,
            "schedule",
            str(self.job.folder),
            "--max-running",
            "1",
            "--listen",
            "127.0.0.1:0",
            *options,
        ]
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, env=self.variables, cwd=ROOT, stderr=log, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)

    def until(self, words: str, *, count: int = 1) -> str:
        """Wait for words in the log, so many times; returns the log."""
        try:
            return poll(lambda: text if (text := self.log.read_text()).count(words) >= count else "", deadline_seconds=60)
        except AssertionError:
            sys.stderr.write(self.log.read_text())
            raise

    def url(self) -> str:
        """Where it serves, once it does."""
        return next(word for word in self.until("serves http").split() if word.startswith("http")).removesuffix("/,")

    def outcomes(self) -> list[str]:
        """The job's history, oldest first."""
        return [str(run.outcome) for run in reversed(self.ledger.runs("tiny", limit=200))]


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule[TinyJob]:
    return Schedule(tmp_path, TinyJob(tmp_path / "job"))


def test_a_killed_scheduler_leaves_its_run_to_the_next_one(schedule: Schedule[TinyJob]) -> None:
    """The run goes on, the next scheduler watches it to its end, and its time is not run again.

    On the way: a second scheduler is refused, SIGHUP reads the job files, SIGTERM ends it with 0.
    """
    schedule.due_a_minute_ago(rows=3000)
    schedule.job.slow_down(seconds_for_each_batch=0.2)
    with schedule.running() as first:
        poll(lambda: schedule.ledger.state("tiny").running, deadline_seconds=60)
        first.kill()
        first.wait()
    with schedule.running("--sync-every", "1s") as second:
        schedule.until("tiny: goes on from before the scheduler began")
        refused = subprocess.run(
            [sys.executable, "-m", "jobs.cli", "schedule", str(schedule.job.folder), "--max-running", "1"],
            env=schedule.variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "error: ledger" in refused.stderr
        assert "another scheduler is at work on it" in refused.stderr
        schedule.until("tiny: success after")
        schedule.job.spec.write_text(schedule.job.spec.read_text().replace("version", "versoin"))
        second.send_signal(signal.SIGHUP)
        schedule.until("did you mean 'version'?")
        second.terminate()
        assert second.wait(60) == 0
    assert schedule.outcomes() == ["success"]
    text = schedule.log.read_text()
    assert text.count("tiny: started (trigger scheduler, due ") == 1
    assert "Traceback" not in text
    assert text.splitlines()[-1].endswith("stopped (0 runs started, 0 missed)")


def test_killed_between_start_and_claim_a_run_is_still_done_once(schedule: Schedule[TinyJob]) -> None:
    """Two processes come for one scheduled time: the ledger gives it to one of them."""
    due_at = schedule.due_a_minute_ago(rows=300)
    with schedule.running() as first:
        schedule.until("tiny: started")
        first.kill()
        first.wait()
    assert schedule.ledger.accounted_until("tiny") != due_at, "killed too late to test anything"
    with schedule.running():
        poll(lambda: len(schedule.outcomes()) == 2 and "None" not in schedule.outcomes(), deadline_seconds=60)
    assert sorted(schedule.outcomes()) == ["skipped", "success"]
    assert len(set(schedule.job.output(datetime.fromtimestamp(due_at, UTC).date().isoformat())["id"].to_pylist())) == 300


def test_of_fifty_starts_at_once_one_runs(schedule: Schedule[TinyJob]) -> None:
    """By cron, by hand, and by the scheduler: the others are skipped, and counted."""
    schedule.due_a_minute_ago(rows=2000)
    schedule.job.slow_down(seconds_for_each_batch=1.0)
    command = [sys.executable, "-m", "tests.many_starts", "49", str(schedule.job.spec)]
    with (
        schedule.running(),
        subprocess.Popen(command, env=schedule.variables, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starts,
    ):
        schedule.until(" after ")
        assert starts.stdout is not None
        said = starts.stdout.read().splitlines()
    assert len(said) == 49
    outcomes = schedule.outcomes()
    assert sorted(outcomes) == ["skipped"] * 49 + ["success"]
    assert sorted(said).count("success") + schedule.log.read_text().count("tiny: success") == 1
    counters = schedule.ledger.state("tiny").counters
    assert (counters["batch_runs_total", ("skipped",)], counters["batch_runs_total", ("success",)]) == (49, 1)
    assert counters["inference_requests_total", ()] == 2000


GATED_MODEL = """
import time
from pathlib import Path

import torch


class Gated(torch.nn.Linear):
    def forward(self, x):
        while not Path({gate!r}).exists():
            time.sleep(0.01)
        return super().forward(x)


def build():
    return Gated(2, 2)
"""


def test_started_at_once_by_cron_text_scheduler_and_hand_one_runs_and_the_others_exit_5(schedule: Schedule[TinyJob]) -> None:
    """What the crontab runs, the command, the daemon: whoever comes first holds the job until both others gave up."""
    schedule.due_a_minute_ago(rows=300)
    gate = schedule.folder / "gate"
    (schedule.job.folder / "tiny.py").write_text(GATED_MODEL.format(gate=str(gate)))
    batchgauge = str(Path(sys.executable).parent / "batchgauge")
    printed = subprocess.run(
        [batchgauge, "crontab", str(schedule.job.folder)], env=schedule.variables, capture_output=True, text=True, check=True
    )
    (cron,) = re.findall(r"\$\((batchgauge run .*) 2>&1\)", printed.stdout)
    (path,) = re.findall(r"^PATH=(.*)$", printed.stdout, re.MULTILINE)
    variables = {**schedule.variables, "PATH": path}
    with schedule.running("--log-json"):
        processes = [
            subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in (shlex.split(cron), [batchgauge, "run", str(schedule.job.spec)])
        ]
        try:
            poll(lambda: schedule.outcomes().count("skipped") == 2, deadline_seconds=60)
        finally:
            gate.touch()
            codes: list[int | None] = [process.wait(60) for process in processes]
        schedule.until('"event": "ended"')
    ended = next(event for event in map(json.loads, schedule.log.read_text().splitlines()) if event["event"] == "ended")
    assert sorted([*codes, ended["exit_code"]]) == [0, 5, 5]
    assert sorted(schedule.outcomes()) == ["skipped", "skipped", "success"]
    counters = schedule.ledger.state("tiny").counters
    assert (counters["batch_runs_total", ("skipped",)], counters["inference_requests_total", ()]) == (2, 300)


def test_stopping_lets_the_run_finish_its_part_and_records_it(schedule: Schedule[TinyJob]) -> None:
    """Control-C in a terminal: the runs are in a group of their own, and are asked once."""
    schedule.due_a_minute_ago(rows=5000)
    schedule.job.slow_down(seconds_for_each_batch=0.2)
    with schedule.running("--log-json", "--log-dir", str(schedule.folder / "output")) as process:
        poll(lambda: state.rows_scored if (state := schedule.ledger.state("tiny").running) else 0, deadline_seconds=60)
        (pid,) = [child.pid for child in psutil.Process(process.pid).children()]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not psutil.pid_exists(pid)
    (run,) = schedule.ledger.runs("tiny")
    assert run.trigger == "scheduler"
    assert run.report is not None
    assert (run.outcome, run.report.reason) == ("failed", "stopped by SIGTERM")
    assert 0 < run.rows_scored < 5000
    assert "stopped by SIGTERM" in (schedule.folder / "output" / "tiny.log").read_text()
    assert '"event": "stopped"' in schedule.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent"], "absent: no such job file or folder"),
        (["job", "--sync-every", "soon"], "--sync-every 'soon': must be a duration"),
        (["job", "--shutdown-timeout", "5"], "--shutdown-timeout '5': must be a duration"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(schedule: Schedule[TinyJob], arguments: list[str], words: str) -> None:
    """With exit code 2."""
    command = [sys.executable, "-P", "-m", "jobs.cli", "schedule", *arguments, "--max-running", "1"]
    done = subprocess.run(command, env=schedule.variables, cwd=schedule.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_prometheus_can_scrape_it(schedule: Schedule[TinyJob]) -> None:
    """Its own metrics, in Prometheus's format; a port that is taken is one clear error, and it doesn't begin."""
    with schedule.running():
        url = schedule.url()
        assert "batch_scheduler_jobs 1.0" in poll(
            lambda: text if "batch_scheduler_jobs 1.0" in (text := httpx.get(f"{url}/metrics", trust_env=False).text) else ""
        )
        taken = url.removeprefix("http://")
        folder = schedule.folder / "other"
        other = Schedule(folder, TinyJob(folder / "job"))
        with other.running("--listen", taken) as process:
            assert process.wait(60) == 2
        assert f"error: can't listen on '{taken}' " in other.log.read_text()
