"""A run that does nothing, but claims its scheduled time as a real one does.

`python -m benchmarks.claim JOB DUE LEDGER CLAIMS`: it starts in a fraction of the time that a real one needs to import torch.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from monitoring.ledger import Ledger, LockHeld, RunStart
from pipelines.report import Outcome, RunReport, Trigger


def main(job: str, due_at: float, location: str, claims: Path) -> int:
    """Exits as `batchgauge run` does: 0 success, 5 skipped."""
    now, day = time.time(), datetime.fromtimestamp(due_at, UTC).date()
    start = RunStart(uuid4().hex, job, Trigger.SCHEDULER, day, socket.gethostname(), os.getpid(), now)
    with Ledger.open(location) as ledger:
        try:
            with ledger.lock("run", job):
                accounted = ledger.accounted_until(job)
                if accounted is None or accounted >= due_at:
                    return 5
                ledger.start_run(start, next_expected_at=None, due_at=due_at)
                with claims.open("a") as file:
                    file.write(f"{job} {due_at:.0f}\n")
                ledger.finish_run(_report(start))
        except LockHeld:
            return 5
    return 0


def _report(start: RunStart) -> RunReport:
    return RunReport(
        run_id=start.run_id,
        job=start.job,
        trigger=start.trigger,
        logical_date=start.logical_date,
        host=start.host,
        started_at=start.started_at,
        finished_at=time.time(),
        elapsed_seconds=0.0,
        scoring_seconds=0.0,
        outcome=Outcome.SUCCESS,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3], Path(sys.argv[4])))
