"""How late the scheduler starts what is due, beside so many job files: the number due a minute is set separately.

    python -m benchmarks.lag [--files 200 1000 2000 5000] [--due 40] [--minutes 1] [--json FILE] [--figures FOLDER]

Each job is due once a day: the first `due` of them in one minute, the next ones in the minute after, and so on while files
last. Its command does nothing and records no run, so the scheduler does, which is one transaction more for each run than usual.
One run goes on at a time. Each number of files has a scheduler in a process of its own, on an empty ledger in a file. Figures
belong to a machine; how they grow, to the program.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import psutil

from benchmarks import machine
from benchmarks.curves import curve
from benchmarks.scheduler import SPEC
from jobs.environment import read
from jobs.report.figures.axis import amount_axis, seconds_axis
from jobs.scheduler import Daemon, Settings
from jobs.scheduler.folder import JobFile
from jobs.scheduler.log import Log
from jobs.web.board import Board
from monitoring.ledger import Ledger

FILES = (200, 1_000, 2_000, 5_000)
_DAY_MINUTES = 1_440
_EVERY_MINUTE = 'schedule = "* * * * *"'
_AHEAD_SECONDS = 5.0
"""The last minute ends so much earlier, before the next one's runs are due."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What came of `files` job files, `due` of them a minute. `first_look_seconds`: until all were read and registered.

    `runs` are those that were started, `unstarted` those that were due, and not; lags are theirs, from when they were due.
    `page_seconds` is a page's first look at all jobs, `cpu_share` the scheduler's share of one core, once it had read them.
    """

    files: int
    due: int
    runs: int
    unstarted: int
    mean_seconds: float
    most_seconds: float
    first_look_seconds: float
    page_seconds: float
    memory_bytes: int
    cpu_share: float


def measure(folder: Path, *, files: int, due: int, minutes: int) -> Lag:
    """For so many whole minutes, once all files are read, and all states for the first sync."""
    write_jobs(folder / "jobs", files, due)
    environment = read({"BATCHGAUGE_LEDGER": str(folder / "ledger.db")})
    settings = Settings(paths=(folder / "jobs",), environment=environment, max_running=1, command=_nothing)
    process, log = psutil.Process(), StringIO()
    with Ledger.open(environment.ledger) as ledger:
        daemon = Daemon(settings, ledger, Log(log, as_json=True))
        thread = threading.Thread(target=daemon.run)
        began = time.monotonic()
        thread.start()
        while thread.is_alive() and not daemon.snapshot().ready:
            thread.join(0.05)
        first_look = time.monotonic() - began
        while thread.is_alive() and daemon.snapshot().last_good_sync_at is None:
            thread.join(0.05)  # it reads every state once; what is measured is what comes after the start
        first = 60.0 * (time.time() // 60 + 1)
        time.sleep(first - time.time())
        cpu_began = _cpu_seconds(process)
        thread.join(first + 60 * minutes - _AHEAD_SECONDS - time.time())
        cpu_share = (_cpu_seconds(process) - cpu_began) / (60 * minutes - _AHEAD_SECONDS)
        memory = process.memory_info().rss
        looked = time.monotonic()
        Board(ledger, daemon.snapshot, time.time).look()
        page = time.monotonic() - looked
        daemon.stop("benchmark")
        thread.join()
    lags = lags_in(log.getvalue(), first, first + 60 * minutes)
    return Lag(
        files,
        due,
        len(lags),
        due * minutes - len(lags),
        fmean(lags) if lags else 0.0,
        max(lags, default=0.0),
        first_look,
        page,
        memory,
        cpu_share,
    )


def write_jobs(folder: Path, files: int, due: int) -> None:
    """The first `due` of them are due in the current minute of each day, the next ones a minute later."""
    folder.mkdir()
    now = datetime.now(UTC)
    began = now.hour * 60 + now.minute
    for number in range(files):
        hour, minute = divmod((began + number // due) % _DAY_MINUTES, 60)
        text = SPEC.format(number=number).replace(_EVERY_MINUTE, f'schedule = "{minute} {hour} * * *"')
        (folder / f"{number}.toml").write_text(text)


def _nothing(_file: JobFile, _logical_date: date, _due_at: float) -> Sequence[str]:
    return ["/bin/true"]


def _cpu_seconds(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def lags_in(log: str, first: float, end: float) -> list[float]:
    """Of the runs that were started, and due from `first` on and before `end`."""
    events = map(json.loads, log.splitlines())
    return [event["lag_seconds"] for event in events if event["event"] == "started" and first <= event["due_at"] < end]


def _alone(files: int, due: int, minutes: int) -> Lag:
    """In a process of its own: memory is not given back."""
    command = [sys.executable, "-m", "benchmarks.lag", "--alone", "--files", str(files), "--due", str(due)]
    done = subprocess.run([*command, "--minutes", str(minutes)], check=True, stdout=subprocess.PIPE, text=True)
    return Lag(**json.loads(done.stdout))


def _table(found: Sequence[Lag]) -> str:
    """As Markdown."""
    lines = [
        "| job files | due a minute | lag, mean | most | not started | first look | a page's | memory | CPU of a core |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.files:,} | {one.due:,} | {one.mean_seconds:.2f} s | {one.most_seconds:.2f} s | {one.unstarted} "
            f"| {one.first_look_seconds:.1f} s | {one.page_seconds:.1f} s | {one.memory_bytes / 2**20:,.0f} MiB "
            f"| {100 * one.cpu_share:.0f} % |"
            for one in found
        ),
    ]
    return "\n".join(lines)


def _draw(found: Sequence[Lag], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lags = [(one.files, one.most_seconds) for one in found]
    memory = [(one.files, one.memory_bytes / 2**20) for one in found]
    figures = {
        "lag": ("Longest lag of a minute's runs", seconds_axis(max(y for _, y in lags)), lags),
        "scheduler_memory": ("Memory of the scheduler, MiB", amount_axis(max(y for _, y in memory)), memory),
    }
    for name, (title, axis, values) in figures.items():
        (folder / f"{name}.svg").write_text(curve(title, "job files", axis, values), encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=FILES, help="how many job files; one measurement for each")
    parser.add_argument("--due", type=int, default=40, help="jobs that are due in a minute")
    parser.add_argument("--minutes", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write the curves there, as SVG")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # what each measurement starts
    given = parser.parse_args(arguments)
    few = [files for files in given.files if files // given.due <= given.minutes + 1]
    if few:
        parser.error(f"{few[0]} files, {given.due} a minute, are due within {given.minutes} minutes: too short to measure")
    if given.alone:
        with TemporaryDirectory() as folder:
            found = measure(Path(folder), files=given.files[0], due=given.due, minutes=given.minutes)
        print(json.dumps(asdict(found)))
        return
    measured = [_alone(files, given.due, given.minutes) for files in given.files]
    print(f"{machine.facts()}\n\n{_table(measured)}")
    if given.json:
        document = {"machine": machine.facts(), "lags": [*map(asdict, measured)]}
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if given.figures:
        _draw(measured, given.figures)


if __name__ == "__main__":
    main(sys.argv[1:])
