"""A run without a model: `python -m tests.recording_run DEFINITION DATE DUE BEHAVIOUR`.

It takes the lock, claims its scheduled time and finishes, as `jobs.run` does, but starts in a fraction of the time. In
between it does as BEHAVIOUR says: `exit`; `hang` (until it is killed); `stop` (until SIGTERM, then it fails).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

from jobs.environment import read
from jobs.spec import load
from monitoring.ledger import Ledger, LockHeld, RunStart
from pipelines.report import Outcome, Trigger
from tests.reports import finished


def main(definition: Path, logical_date: date, due_at: float, behaviour: str) -> int:
    """Exits as `batchgauge run` does: 0 success, 1 failed, 5 skipped."""
    spec, now = load(definition), time.time()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    start = RunStart(
        f"{spec.job.name}-{os.getpid()}",
        spec.job.name,
        Trigger.SCHEDULER,
        logical_date,
        socket.gethostname(),
        os.getpid(),
        now,
    )
    report = replace(
        finished(start.run_id, start.job, started_at=now), logical_date=logical_date, trigger=Trigger.SCHEDULER, host=start.host
    )
    with Ledger.open(read(os.environ).ledger) as ledger:
        try:
            with ledger.lock("run", start.job):
                ledger.start_run(start, next_expected_at=spec.next_expected(datetime.fromtimestamp(due_at, UTC)), due_at=due_at)
                while behaviour == "hang" or (behaviour == "stop" and not stopped):
                    time.sleep(0.01)
                outcome = Outcome.FAILED if stopped else Outcome.SUCCESS
                ledger.finish_run(replace(report, outcome=outcome, reason="stopped by SIGTERM" if stopped else None))
        except LockHeld:
            ledger.skip_run(replace(report, outcome=Outcome.SKIPPED), due_at=due_at)
            return 5
    return 1 if stopped else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), date.fromisoformat(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
