"""Many at once on one ledger: nothing is counted twice or lost, and nobody waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from monitoring.gateway import Gateway
from monitoring.ledger import Ledger
from monitoring.servers import Server
from tests.faults.conftest import Tally
from tests.tiny_job import SPEC, TinyJob

ROOT = Path(__file__).parents[2]
JOBS, NIGHT, ROWS = 20, "2026-11-01", 300


def crowd(folder: Path) -> list[TinyJob]:
    """Jobs that differ in their names, with many small parts each."""
    jobs = []
    for number in range(JOBS):
        job = TinyJob(folder / f"job-{number}", spec=SPEC.replace('"tiny"', f'"tiny-{number}"'))
        job.edit({"part_rows = 100": "part_rows = 20", "{date}": NIGHT})
        jobs.append(job)
    return jobs


@pytest.mark.timeout(600)
def test_twenty_jobs_at_once_on_one_ledger(tmp_path: Path, pushgateway: Server, tally: Tally) -> None:
    """Each is a process: all succeed, every count is right, and the gateway shows each job's newest state."""
    jobs, ledger = crowd(tmp_path), tmp_path / "ledger.db"
    variables = {**os.environ, "BATCHGAUGE_LEDGER": str(ledger), "BATCHGAUGE_GATEWAY": pushgateway.url}
    command = [sys.executable, "-m", "tests.many_starts", "1", *(str(job.spec) for job in jobs)]
    rounds = 20 if tally.soak else 1
    for number in range(1, rounds + 1):
        for job in jobs:
            job.write_input(NIGHT, ROWS, name=f"drop-{number}", group_rows=20)
        done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True)
        assert Counter(done.stdout.split("\n")[:-1]) == {"success": JOBS}, done.stdout
        with Ledger.open(ledger) as opened:
            states = {state.definition.job: state for state in map(opened.state, opened.jobs())}
        assert len(states) == JOBS
        for job in jobs:
            ids = job.output(NIGHT)["id"].to_pylist()
            state = states[job.folder.name.replace("job", "tiny")]
            assert len(set(ids)) == len(ids) == state.counters["inference_requests_total", ()] == number * ROWS
            assert (state.counters["batch_runs_total", ("success",)], state.running) == (number, None)
        shown = {group.labels["job"]: group.sequence for group in Gateway(pushgateway.url).groups()}
        assert shown == {name: state.sequence for name, state in states.items()}
    tally.add("20 jobs at once on one ledger", tries=rounds * JOBS, losses=0)
