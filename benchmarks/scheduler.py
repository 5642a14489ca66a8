"""The scheduler under load: many jobs, all due each minute, with a command that does next to nothing.

    python -m benchmarks.scheduler [--jobs 200] [--minutes 5] [--max-running 1] [--kill]

The command only writes down for which job and which scheduled time it was started, and records no run: so the
scheduler does it, which is one ledger transaction more for each run than usual. What counts: nothing lost, nothing
twice, how late the last of a minute's runs starts, what it costs.

With --kill the scheduler is a process of its own, which is killed (SIGKILL) in the middle of a minute's runs and started
again a little later. The command then claims its scheduled time in the ledger, as a real run does (see `claim`). What counts:
each due run is done once, or counted as missed.
"""

from __future__ import annotations

import argparse
import subprocess
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

from jobs import schedule
from jobs.environment import read
from jobs.scheduler import Daemon, Settings
from jobs.scheduler.folder import JobFile
from jobs.scheduler.log import Log
from monitoring.ledger import Ledger
from monitoring.names import LAG_BUCKETS
from pipelines.report import Outcome

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
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)  # what --kill starts
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, max_running=given.max_running)
        return
    with TemporaryDirectory() as folder:
        act = measure_killed if given.kill else measure
        act(Path(folder), jobs=given.jobs, minutes=given.minutes, max_running=given.max_running)


def write_jobs(folder: Path, jobs: int) -> None:
    """The job files."""
    (folder / "jobs").mkdir()
    for number in range(jobs):
        (folder / "jobs" / f"{number}.toml").write_text(SPEC.format(number=number))


def serve(folder: Path, *, max_running: int) -> None:
    """Schedule the folder's jobs until SIGTERM, each run by `claim`."""

    def command(file: JobFile, _logical_date: date, due_at: float) -> Sequence[str]:
        arguments = (f"job-{file.path.stem}", repr(due_at), str(folder / "ledger.db"), str(folder / "claims"))
        return [sys.executable, "-m", "benchmarks.claim", *arguments]

    environment = read({"BATCHGAUGE_LEDGER": str(folder / "ledger.db")})
    settings = Settings(paths=(folder / "jobs",), environment=environment, max_running=max_running, command=command)
    schedule.serve(settings, stream=sys.stdout, log_json=False)


def measure_killed(folder: Path, *, jobs: int, minutes: int, max_running: int) -> None:
    """Schedule for so many whole minutes, with a killed scheduler in the middle of one of them."""
    write_jobs(folder, jobs)
    with Ledger.open(folder / "ledger.db") as ledger, (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "benchmarks.scheduler", "--serve", str(folder), "--max-running", str(max_running)]
        process = subprocess.Popen(command, stdout=log)
        while len(ledger.jobs()) < jobs:
            time.sleep(0.1)
        first = 60 * (int(time.time()) // 60 + 1)
        time.sleep(first + 60 * (minutes // 2) + 12 - time.time())  # the minute's runs are being started
        process.kill()
        process.wait()
        claimed_by_then = len((folder / "claims").read_text().splitlines())
        time.sleep(5)
        process = subprocess.Popen(command, stdout=log)
        time.sleep(max(0.0, first + 60 * minutes - 2 - time.time()))
        process.terminate()
        process.wait()
        print(f"killed when {claimed_by_then} runs had begun, started again 5 s later")
        account(folder, ledger, first=first, jobs=jobs, minutes=minutes)


def account(folder: Path, ledger: Ledger, *, first: int, jobs: int, minutes: int) -> None:
    """Print what became of each due run; exit 1 if one was done twice, or is neither done nor missed nor waiting."""
    claims = Counter(tuple(line.rsplit(" ", 1)) for line in (folder / "claims").read_text().splitlines())
    wanted = {(f"job-{number}", f"{first + 60 * minute}") for number in range(jobs) for minute in range(minutes)}
    records = {job: ledger.runs(job, limit=10 * minutes) for job in ledger.jobs()}
    missed = {(job, f"{run.started_at:.0f}") for job, runs in records.items() for run in runs if run.outcome is Outcome.MISSED}
    waiting = {(job, due) for job, due in wanted if (ledger.accounted_until(job) or 0.0) < float(due)}
    done = wanted & claims.keys()
    lost, twice = wanted - done - missed - waiting, [key for key, count in claims.items() if count > 1 or key in missed]
    print(f"{len(wanted)} runs due: {len(done)} done, {len(wanted & missed)} missed, {len(waiting - done)} still to come")
    outcomes = Counter(str(run.outcome) for runs in records.values() for run in runs)
    print(f"{len(lost)} lost, {len(twice)} twice; in the ledger: {dict(outcomes)}")
    if lost or twice:
        sys.exit(1)


def measure(folder: Path, *, jobs: int, minutes: int, max_running: int) -> None:
    """Schedule for so many whole minutes."""
    write_jobs(folder, jobs)
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
