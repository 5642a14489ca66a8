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
from tests.faults.memory_group import kills, memory_group
from tests.test_schedule_command import Schedule
from tests.tiny_job import MODEL, TinyJob

# At the worst moment: parts are out, and others in the making.
GREEDY = """
import os
import signal

import torch

GROUP = {group!r}


def run_out_of_memory():
    if GROUP is None:  # no such group can be made here: what the kernel would do
        os.kill(os.getpid(), signal.SIGKILL)
    with open(GROUP + "/cgroup.procs", "w") as processes:
        processes.write(str(os.getpid()))
    taken = []
    while True:
        taken.append(b"x" * 2**20)


class Greedy(torch.nn.Linear):
    batches = 0

    def forward(self, x):
        Greedy.batches += 1
        if Greedy.batches > 20:
            run_out_of_memory()
        return super().forward(x)


def build():
    return Greedy(2, 2)
"""


SHORT_BYTES = 200 * 2**20


def ended(ledger: Ledger, job: str) -> bool:
    return bool(runs := ledger.runs(job)) and runs[0].outcome is not None


def test_the_daemon_records_it_with_its_signal_and_runs_the_next(tmp_path: Path) -> None:
    """Two jobs are due, and one may run at a time. The kernel kills the first itself, where a group for that can be made."""
    schedule = Schedule(tmp_path, TinyJob(tmp_path / "jobs"))
    due = schedule.due_a_minute_ago(rows=3000)
    other = schedule.job.folder / "well.toml"
    text = schedule.job.spec.read_text()
    other.write_text(text.replace('"tiny"', '"well"').replace("scored/", "scored-well/").replace("tiny.py", "well.py"))
    (schedule.job.folder / "well.py").write_text(MODEL)
    environment = read({"BATCHGAUGE_LEDGER": schedule.variables["BATCHGAUGE_LEDGER"]})
    register(schedule.ledger, load(other), environment, now=due - 3600)
    with memory_group(SHORT_BYTES) as group:
        (schedule.job.folder / "tiny.py").write_text(GREEDY.format(group=None if group is None else str(group)))
        with schedule.running() as daemon:
            poll(lambda: ended(schedule.ledger, "tiny") and ended(schedule.ledger, "well"), deadline_seconds=60)
            assert httpx.get(f"{schedule.url()}/healthz", trust_env=False).json() == {"ok": True, "reasons": []}
            assert daemon.poll() is None
        assert group is None or kills(group) == 1
    (killed,), (well,) = schedule.ledger.runs("tiny"), schedule.ledger.runs("well")
    assert killed.report is not None
    reason = "the run was not finished: its process was killed by SIGKILL (out of memory, or by hand)"
    assert (killed.outcome, killed.report.reason) == (Outcome.FAILED, reason)
    assert well.outcome is Outcome.SUCCESS
    counters = schedule.ledger.state("tiny").counters
    assert counters["batch_runs_total", ("failed",)] == 1
    assert counters["inference_requests_total", ()] == killed.rows_scored < 3000
    assert reason in schedule.log.read_text()
