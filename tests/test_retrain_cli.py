"""The commands `retrain`, `retrains` and `rollback`, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobs.retrain.settling import DEAD
from monitoring.ledger import Ledger
from tests.conftest import poll
from tests.retrained_job import DAY, GOOD, WORSE, RetrainedJob
from tests.test_cli import Command
from tests.test_retrain import gone
from tests.test_retrain_alerts import FIRING, MESSAGE


@pytest.fixture
def job(tmp_path: Path) -> RetrainedJob:
    return RetrainedJob(tmp_path / "job")


@pytest.fixture
def batchgauge(tmp_path: Path) -> Command:
    return Command(tmp_path)


def retrain(batchgauge: Command, job: RetrainedJob, *options: str | Path) -> subprocess.CompletedProcess[str]:
    return batchgauge("retrain", job.spec, "--date", str(DAY), *options)


def test_promoted_shown_rolled_back(batchgauge: Command, job: RetrainedJob) -> None:
    """By a hand, from the first dry run to the way back; every command has its word for it."""
    dry = retrain(batchgauge, job, "--dry-run")
    assert (dry.returncode, "would be promoted: better" in dry.stdout) == (0, True), dry.stderr
    done = retrain(batchgauge, job, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    after = document["retrain"]["after"]
    assert (document["retrain"]["outcome"], after["version"]) == ("promoted", f"v1+{DAY}.{after['sha256'][:8]}")
    assert retrain(batchgauge, job).returncode == 6  # the same candidate again is the champion again
    assert "training wrote the champion again" in batchgauge("retrains", "tiny").stdout
    back = batchgauge("rollback", "tiny")
    assert (back.returncode, "rolled_back" in back.stdout) == (0, True), back.stderr
    again = batchgauge("rollback", job.spec)
    assert (again.returncode, "nothing to go back to" in again.stderr) == (1, True)
    listed = batchgauge.json("retrains", job.spec)
    assert [one["outcome"] for one in listed] == ["rolled_back", "refused", "promoted", "dry_run"]
    assert "retrained     rolled_back" in batchgauge("status", "tiny").stdout
    assert batchgauge.json("status", "tiny")["retrained"]["outcome"] == "rolled_back"
    assert job.leftovers() == []


def test_exit_codes_and_what_training_prints(batchgauge: Command, job: RetrainedJob) -> None:
    """Stdout is for the report: 1 failed, 2 usage, 6 refused."""
    job.write_trainer(f"print('debugging')\n{WORSE}")
    refused = retrain(batchgauge, job, "--json")
    assert refused.returncode == 6
    assert json.loads(refused.stdout)["reason"].startswith("not better with confidence")
    job.write_trainer("raise RuntimeError('no')")
    failed = retrain(batchgauge, job)
    assert (failed.returncode, "RuntimeError: no (trainer.py, line 19)" in failed.stdout) == (1, True)
    job.edit({"[retrain]": "[retrian]"})
    assert retrain(batchgauge, job).returncode == 2
    assert batchgauge("retrains", "unknown").returncode == 1


def message(folder: Path, **changes: Any) -> Path:
    file = folder / "message.json"
    file.write_text(json.dumps({**MESSAGE, "alerts": [{**FIRING, **changes}]}))
    return file


def test_alerts_are_answered_once_and_for_a_reason(batchgauge: Command, job: RetrainedJob, tmp_path: Path) -> None:
    """First there is nothing to go by, then a bad night, then an answer; a replay does nothing, told from the ledger alone."""
    said = message(tmp_path)
    early = retrain(batchgauge, job, "--alerts", said)
    assert (early.returncode, "surely below its threshold on 0 days" in early.stdout) == (5, True), early.stderr
    job.write_input(str(DAY), 100)
    assert batchgauge("run", job.spec, "--date", str(DAY)).returncode == 0
    resolved = retrain(batchgauge, job, "--alerts", message(tmp_path, status="resolved"))
    assert (resolved.returncode, "no alert is firing" in resolved.stdout) == (5, True)
    answered = retrain(batchgauge, job, "--alerts", message(tmp_path), "--json")
    assert answered.returncode == 0, answered.stderr
    record = json.loads(answered.stdout)["retrain"]
    assert (record["cause"], record["outcome"]) == ("alert", "promoted")
    assert record["alerts"] == [{"fingerprint": "1a30ba71cca2921f", "starts_at": "2026-11-22T02:15:45.828123+00:00"}]
    replayed = retrain(batchgauge, job, "--alerts", said)
    assert (replayed.returncode, "answered already" in replayed.stdout) == (5, True)
    (tmp_path / "message.json").write_text("{}")
    assert retrain(batchgauge, job, "--alerts", said).returncode == 1
    assert retrain(batchgauge, job, "--alerts", tmp_path / "absent").returncode == 2


def test_the_job_file_may_ask_for_a_dry_run_of_what_alerts_start(
    batchgauge: Command, job: RetrainedJob, tmp_path: Path
) -> None:
    """By hand it is promoted all the same."""
    job.edit({'timeout = "60s"': 'timeout = "60s"\ndry_run = true'})
    job.write_input(str(DAY), 100)
    assert batchgauge("run", job.spec, "--date", str(DAY)).returncode == 0
    asked = retrain(batchgauge, job, "--alerts", message(tmp_path))
    assert (asked.returncode, "dry_run" in asked.stdout) == (0, True), asked.stdout + asked.stderr
    assert "promoted" in retrain(batchgauge, job).stdout


WAIT = """
aside = training.root / "pid~"
aside.write_text(str(os.getpid()))
aside.rename(training.root / "pid")
time.sleep(600)
"""


def begun(batchgauge: Command, job: RetrainedJob) -> tuple[subprocess.Popen[str], int]:
    """The command while it trains, and its training process."""
    job.write_trainer(WAIT)
    command = [str(Path(sys.executable).parent / "batchgauge"), "retrain", str(job.spec), "--date", str(DAY)]
    process = subprocess.Popen(command, env=batchgauge.environment, stdout=subprocess.PIPE, text=True)
    poll((job.folder / "pid").exists)
    return process, int((job.folder / "pid").read_text())


def test_killed_while_it_trains_it_leaves_nothing(batchgauge: Command, job: RetrainedJob) -> None:
    """SIGKILL: training dies with it, the champion stays, whoever looks next settles it, and the next one works."""
    before = job.model.read_bytes()
    process, child = begun(batchgauge, job)
    with process:
        process.kill()
    assert poll(lambda: gone(child))
    assert "stopped" in batchgauge("status", "tiny").stdout
    with Ledger.open(batchgauge.environment["BATCHGAUGE_LEDGER"]) as ledger:
        (record,) = ledger.retrains("tiny")
    assert (record.outcome, record.reason) == ("stopped", DEAD)
    assert job.model.read_bytes() == before
    assert job.leftovers() == []
    job.write_trainer(GOOD)
    assert retrain(batchgauge, job).returncode == 0


def test_asked_to_stop_it_says_so(batchgauge: Command, job: RetrainedJob) -> None:
    """SIGTERM: training is ended, the outcome recorded, the exit code a shell's; meanwhile a second one does nothing."""
    process, child = begun(batchgauge, job)
    with process:
        second = retrain(batchgauge, job)
        assert (second.returncode, "is being retrained already" in second.stdout) == (5, True)
        assert "running" in batchgauge("retrains", "tiny").stdout
        os.kill(process.pid, signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "training was stopped: stopped by SIGTERM" in printed
    assert poll(lambda: gone(child))
    assert job.leftovers() == []


def test_the_doctor_looks_at_what_retraining_needs(batchgauge: Command, job: RetrainedJob) -> None:
    """The function, and whether the model file could be switched."""

    def finding() -> tuple[bool, str]:
        found = json.loads(batchgauge("doctor", job.spec, "--json").stdout)
        return next((one["ok"], one["detail"]) for one in found if one["subject"] == "retrain")

    assert finding() == (True, f"trainer.py:train can be called, {job.model} can be switched")
    job.edit({"trainer.py:train": "trainer.py:trian"})
    assert "did you mean 'train'?" in finding()[1]


def test_looking_imports_nothing_heavy(batchgauge: Command, job: RetrainedJob) -> None:
    """No torch, pandas or pyarrow to see what was done, to go back, or to be told that alerts ask for nothing."""
    assert batchgauge("register", job.spec).returncode == 0
    job.write_labels(DAY - timedelta(days=9))
    for arguments in (["retrains", "tiny"], ["rollback", "tiny"], ["retrain", "--help"]):
        command = [sys.executable, "-X", "importtime", "-m", "jobs.cli", *arguments]
        done = subprocess.run(command, env=batchgauge.environment, capture_output=True, text=True, check=False)
        assert done.returncode == (arguments[0] == "rollback"), done.stderr[-2000:]
        imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "import time" in line}
        assert "typer" in imported
        assert not imported & {"torch", "pandas", "pyarrow", "numpy"}
