"""A scoring process that the kernel ends because memory ran out: a failed run, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx

from jobs.environment import read
from jobs.scheduler.bookkeeping import register
from jobs.spec import load
from monitoring.ledger import Ledger
from pipelines.report import Outcome
from tests.conftest import poll
from tests.test_schedule_command import Schedule
from tests.tiny_job import MODEL, TinyJob

# What the kernel does to a process when memory runs out, at the worst moment: parts are out, and others in the making.
KILLED = """
import os
import signal

import torch


class Greedy(torch.nn.Linear):
    batches = 0

    def forward(self, x):
        Greedy.batches += 1
        if Greedy.batches > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


def build():
    return Greedy(2, 2)
"""


def ended(ledger: Ledger, job: str) -> bool:
    return bool(runs := ledger.runs(job)) and runs[0].outcome is not None


def test_the_daemon_records_it_with_its_signal_and_runs_the_next(tmp_path: Path) -> None:
    """Two jobs are due, and one may run at a time."""
    schedule = Schedule(tmp_path, TinyJob(tmp_path / "jobs"))
    due = schedule.due_a_minute_ago(rows=3000)
    other = schedule.job.folder / "well.toml"
    text = schedule.job.spec.read_text()
    other.write_text(text.replace('"tiny"', '"well"').replace("scored/", "scored-well/").replace("tiny.py", "well.py"))
    (schedule.job.folder / "well.py").write_text(MODEL)
    (schedule.job.folder / "tiny.py").write_text(KILLED)
    environment = read({"BATCHGAUGE_LEDGER": schedule.variables["BATCHGAUGE_LEDGER"]})
    register(schedule.ledger, load(other), environment, now=due - 3600)
    with schedule.running() as daemon:
        poll(lambda: ended(schedule.ledger, "tiny") and ended(schedule.ledger, "well"), deadline_seconds=60)
        assert httpx.get(f"{schedule.url()}/healthz", trust_env=False).json() == {"ok": True, "reasons": []}
        assert daemon.poll() is None
    (killed,), (well,) = schedule.ledger.runs("tiny"), schedule.ledger.runs("well")
    assert killed.report is not None
    reason = "the run was not finished: its process was killed by SIGKILL (out of memory, or by hand)"
    assert (killed.outcome, killed.report.reason) == (Outcome.FAILED, reason)
    assert well.outcome is Outcome.SUCCESS
    counters = schedule.ledger.state("tiny").counters
    assert counters["batch_runs_total", ("failed",)] == 1
    assert counters["inference_requests_total", ()] == killed.rows_scored < 3000
    assert reason in schedule.log.read_text()
