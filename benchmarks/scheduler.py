"""The scheduler under load: many jobs, all due each minute, with a command that does next to nothing.

    python -m benchmarks.scheduler [--jobs 200] [--minutes 5] [--max-running 1]

The command only writes down for which job and which scheduled time it was started, and records no run: so the
scheduler does it, which is one ledger transaction more for each run than usual. What counts: nothing lost, nothing
twice, how late the last of a minute's runs starts, what it costs.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from jobs.environment import read
from jobs.scheduler import Daemon, Settings
from jobs.scheduler.folder import JobFile
from jobs.scheduler.log import Log
from monitoring.ledger import Ledger
from monitoring.names import LAG_BUCKETS

SPEC = """
[job]
name = "job-{number}"
schedule = "* * * * *"

[model]
factory = "model.py:build"
weights = "model.safetensors"
task = "binary"

[input]
path = "{number}/inbox"
features = ["x"]

[output]
path = "{number}/scored"
"""


def main() -> None:
    """Run it, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--max-running", type=int, default=1)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        measure(Path(folder), jobs=given.jobs, minutes=given.minutes, max_running=given.max_running)


def measure(folder: Path, *, jobs: int, minutes: int, max_running: int) -> None:
    """Schedule for so many whole minutes."""
    (folder / "jobs").mkdir()
    for number in range(jobs):
        (folder / "jobs" / f"{number}.toml").write_text(SPEC.format(number=number))
    starts = folder / "starts"

    def command(file: JobFile, _logical_date: date, due_at: float) -> Sequence[str]:
        return ["/bin/sh", "-c", f"echo {file.path.stem} {due_at:.0f} >> {starts}"]

    environment = read({"BATCHGAUGE_LEDGER": str(folder / "ledger.db")})
    settings = Settings(paths=(folder / "jobs",), environment=environment, max_running=max_running, command=command)
    process = psutil.Process()
    with Ledger.open(environment.ledger) as ledger:
        daemon = Daemon(settings, ledger, Log(StringIO()))
        thread = threading.Thread(target=daemon.run)
        began = time.monotonic()
        thread.start()
        while thread.is_alive() and len(daemon.snapshot().jobs) < jobs:
            thread.join(0.05)
        print(f"{jobs} job files read and registered in {time.monotonic() - began:.1f} s")
        first = 60 * (int(time.time()) // 60 + 1)
        cpu_before = sum(process.cpu_times()[:2])
        thread.join(first + 60 * minutes - 5 - time.time())
        cpu_seconds = sum(process.cpu_times()[:2]) - cpu_before
        memory = process.memory_info().rss / 2**20
        daemon.stop("benchmark")
        thread.join()
        report(daemon, starts, first=first, jobs=jobs, minutes=minutes)
        print(f"scheduler's memory {memory:.0f} MiB, its CPU {100 * cpu_seconds / (60 * minutes):.0f} % of one core")
        recorded = Counter(str(run.outcome) for job in ledger.jobs() for run in ledger.runs(job, limit=minutes + 2))
        print(f"runs in the ledger: {dict(recorded)}")


def report(daemon: Daemon, starts: Path, *, first: int, jobs: int, minutes: int) -> None:
    """Print what was started when; exit 1 if anything was lost or came twice."""
    began = Counter(starts.read_text().splitlines())
    wanted = {f"{number} {first + 60 * minute}" for number in range(jobs) for minute in range(minutes)}
    lost, twice = wanted - began.keys(), [key for key, count in began.items() if count > 1]
    snapshot = daemon.snapshot()
    print(f"{len(wanted)} runs due, {len(wanted & began.keys())} started, {len(lost)} lost, {len(twice)} twice")
    print(f"counted as missed: {snapshot.runs_missed}; still waiting: {len(snapshot.waiting)}")
    bounds = [f"{bound:g} s" for bound in LAG_BUCKETS] + ["more"]
    print("started within: " + ", ".join(f"{bound} {count}" for bound, count in zip(bounds, snapshot.lags.counts, strict=True)))
    print(f"mean lag {snapshot.lags.sum_seconds / max(1, sum(snapshot.lags.counts)):.2f} s")
    if lost or twice:
        sys.exit(1)


if __name__ == "__main__":
    main()
