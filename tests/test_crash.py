"""A run that is killed loses nothing and counts nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from monitoring.ledger import Ledger
from tests.tiny_job import TinyJob

ROOT = Path(__file__).parent.parent
TRIALS = 10
SEED = 20261122


def test_killed_at_any_moment_the_next_run_finishes_exactly_what_is_missing(tmp_path: Path) -> None:
    """SIGKILL at ten random moments: afterwards each row is there once, and the counters equal the rows on disk."""
    job = TinyJob(tmp_path / "job")
    environment = {**os.environ, "BATCHGAUGE_LEDGER": str(tmp_path / "ledger.db")}
    command = [sys.executable, "-m", "tests.killed_runs", str(job.spec), str(TRIALS), str(SEED)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(trials) == TRIALS
    assert [trial["exit"] for trial in trials] == [0] * TRIALS, done.stderr
    killed = sum(trial["killed"] for trial in trials)
    assert killed >= TRIALS // 2, "most kills must hit a run that is still going"
    nights = sorted((job.folder / "scored").iterdir())
    assert len(nights) == TRIALS + 1
    for folder in nights:
        ids = job.output(folder.name.removeprefix("date="))["id"].to_pylist()
        assert (len(ids), len(set(ids))) == (3000, 3000), folder
    leftovers = [name for _, _, names in os.walk(tmp_path) for name in names if ".tmp" in name]
    assert leftovers == []
    with Ledger.open(environment["BATCHGAUGE_LEDGER"]) as ledger:
        counters = ledger.state("tiny").counters
        runs = ledger.runs("tiny", limit=100)
    assert counters["inference_requests_total", ()] == 3000 * (TRIALS + 1)
    assert {run.outcome for run in runs} <= {"success", "failed"}
    died = [run for run in runs if run.outcome == "failed"]
    assert counters["batch_runs_total", ("failed",)] == len(died) <= killed
