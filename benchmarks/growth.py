"""What ten times the rows, and a hundred times the parts, cost: runs in processes of their own, with the memory they took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.job_runs import finished
from benchmarks.rounds import Contender, RunFailed, Timing
from benchmarks.workload import Shape, Workload
from jobs.environment import read
from monitoring.resources import ResourceMeter

FILES = 10
ROWS, TIMES_TEN, FEW_PARTS, MANY_PARTS = "one file", "ten files", "10 parts", "1,000 parts"
GROUPS = 100
"""Row groups in a file: each is a part where parts are many."""


def shape(rows: int, divisor: int) -> Shape:
    """A file of `rows` ÷ `divisor` rows in a hundred row groups."""
    return Shape("growth", group_rows=-(-max(1, rows // divisor) // GROUPS), rows_divisor=divisor)


def contenders(workload: Workload) -> tuple[Contender, ...]:
    """Runs over one file and over ten, which are the same file by ten names; their times are for each row."""
    usual, many, few = 131_072, workload.group_rows, workload.rows
    several = workload.folder / "input" / "several"
    several.mkdir()
    for number in range(FILES):
        os.link(workload.input, several / f"rows {number}.parquet")
    one = workload.rows
    return (
        _contender(workload, ROWS, "input/rows.parquet", one, usual),
        _contender(workload, TIMES_TEN, "input/several", FILES * one, usual),
        _contender(workload, FEW_PARTS, "input/several", FILES * one, few),
        _contender(workload, MANY_PARTS, "input/several", FILES * one, many),
    )


def _contender(workload: Workload, name: str, path: str, rows: int, part_rows: int) -> Contender:
    job = workload.job(name, keep_runs=60, part_rows=part_rows)
    job.write_text(job.read_text().replace('path = "input"', f'path = "{path}"'))
    settings = f"{rows:,} rows in parts of up to {part_rows:,}, a process of its own, ledger and batch records"
    return Contender(name, settings, lambda: _run(job, rows))


def _run(job: Path, rows: int) -> Timing:
    """Another process's run, its seconds for each row."""
    command = [sys.executable, "-m", "benchmarks.growth", str(job)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RunFailed(f"{job.name}: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return Timing(found["scoring"] / rows, found["elapsed"] / rows, found["batch_rows"], found["peak_bytes"])


def main(job: Path) -> None:
    """Run the job and print what it took."""
    ledger = job.parent / f"{job.stem} state" / "ledger.db"
    timing = finished(job, read({"BATCHGAUGE_LEDGER": str(ledger), "BATCHGAUGE_GATEWAY": ""}))
    peak = ResourceMeter().stop(accelerator_memory_peak_bytes=None).max_resident_memory_bytes
    values = {"scoring": timing.scoring, "elapsed": timing.elapsed, "batch_rows": timing.batch_rows, "peak_bytes": peak}
    print(json.dumps(values))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
