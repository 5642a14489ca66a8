"""A process that runs one job's parts through a ledger: `python -m tests.ledger_writer LEDGER JOB RUN_ID PARTS`.

It prints the number of parts after each commit, so that whoever kills it knows what had been promised.
"""

from __future__ import annotations

import sys

from monitoring.ledger import Ledger
from tests.reports import definition, part, run_start


def main(location: str, job: str, run_id: str, parts: int) -> None:
    """Register the job, start a run, and add its parts; the run is left in progress."""
    with Ledger.open(location) as ledger:
        ledger.register(definition(job), now=1.0, next_expected_at=None)
        ledger.start_run(run_start(run_id, job), next_expected_at=None)
        for number in range(parts):
            ledger.add_parts(run_id, job, [part(f"{run_id}-{number}.parquet", rows=10, latencies=(0.001, 0.02))])
            print(number + 1, flush=True)  # noqa: T201  the test reads it


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
