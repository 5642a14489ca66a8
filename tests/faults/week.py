"""A scheduler's week in minutes: `python -m tests.faults.week FOLDER JOBS STEPS`.

Each job is due every four hours; the wall clock is set forward by as much, so many times, and each time all that is due
is run to its end (its process does nothing). Prints a sample of this process as JSON after each step.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from tests.conftest import poll
from tests.faults.samples import Sample, own
from tests.scheduling import Scheduler

HOURS = 4


def main(folder: Path, jobs: int, steps: int) -> None:
    """Live it."""
    scheduler = Scheduler(folder)
    for number in range(jobs):
        scheduler.known_since(f"job-{number:03}", f"0 */{HOURS} * * *", "keep_runs = 20", hours=0.005)
    began, process, ledger = monotonic(), own(), Path(scheduler.environment.ledger)
    with scheduler:
        poll(lambda: len(scheduler.now.jobs) == jobs, deadline_seconds=120)
        for step in range(1, steps + 1):
            scheduler.clock.set_by(hours=HOURS)
            poll(lambda step=step: _idle(scheduler) and scheduler.now.runs_started >= step * jobs, deadline_seconds=120)  # type: ignore[misc]  # it is bound
            scheduler.stream.seek(0)  # the log of a test is kept in memory, which is no fault of the scheduler's
            scheduler.stream.truncate()
            sample = Sample.of([process], ledger, at=monotonic() - began)
            found = {**asdict(sample), "started": scheduler.now.runs_started, "missed": scheduler.now.runs_missed}
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
    histories = [len(scheduler.ledger.runs(name, limit=1000)) for name in scheduler.ledger.jobs()]
    counted = [scheduler.counted(name, "failed") for name in scheduler.ledger.jobs()]
    sys.stdout.write(json.dumps({"longest_history": max(histories), "counted": sum(counted)}) + "\n")


def _idle(scheduler: Scheduler) -> bool:
    return not scheduler.now.running and not scheduler.now.waiting


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
