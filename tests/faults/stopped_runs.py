"""Runs that are asked to stop at each of their moments, and finished by the next one.

    python -m tests.faults.stopped_runs FOLDER [all]

A moment is one at which a run tells its observer something: a phase begins, a part is done. SIGTERM comes at each of
them; the other ways to be stopped at some, or with `all` at each. Prints a line of JSON for each trial, with how the
run was recorded and what was wrong after the next one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.signals import stopping
from jobs.spec import load
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.report import PartReport
from tests.faults.nights import Night, asked, fork
from tests.tiny_job import TinyJob

FIRST_NIGHT = date(2020, 1, 1)
ROWS = 160
LIMIT_SECONDS = 0.05
SIGNALS: Mapping[str, tuple[signal.Signals, ...]] = {
    "SIGTERM": (signal.SIGTERM,),
    "SIGINT": (signal.SIGINT,),
    "SIGTERM twice": (signal.SIGTERM, signal.SIGTERM),
    "timeout": (),
}
SOME = ("loading the model", "a part", "evaluating labelled")


@dataclass(slots=True)
class Moment(Silent):
    """Stops the run at the moment `number` (from 1); says there, to the descriptor `said`, what moment that is."""

    kind: str
    number: int
    cancellation: Cancellation
    said: int
    passed: int = 0

    def phase(self, name: str) -> None:
        """A phase begins."""
        self._pass(name)

    def part(self, report: PartReport) -> None:
        """A part is done."""
        del report
        self._pass("a part")

    def _pass(self, name: str) -> None:
        self.passed += 1
        if self.passed != self.number:
            return
        os.write(self.said, name.encode())
        for number in SIGNALS[self.kind]:
            os.kill(os.getpid(), number)
        while self.kind == "timeout" and name != "pushing" and not self.cancellation.requested:
            time.sleep(0.001)


def stopped(night: Night, kind: str, number: int) -> str:
    """Run the night and stop it there, as `batchgauge run` would be. Returns the name of the moment; empty: it has fewer."""
    reader, writer = os.pipe()
    pid = fork(lambda: _run(night, kind, number, writer))
    os.close(writer)
    with os.fdopen(reader) as text:
        name = text.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, "a run that is asked to stop ends by itself"
    return name


def _run(night: Night, kind: str, number: int, said: int) -> None:
    spec, cancellation = load(night.job.spec), Cancellation()
    if kind == "timeout":
        spec = spec.model_copy(update={"job": spec.job.model_copy(update={"timeout": LIMIT_SECONDS})})
    with stopping(cancellation):
        request = RunRequest(spec, night.environment, logical_date=night.day)
        run(request, observer=Moment(kind, number, cancellation, said), cancellation=cancellation)


def _afterwards(night: Night, earlier: int) -> list[str]:
    """How the run was recorded, and what is wrong after the next one."""
    torn = night.torn()
    with Ledger.open(night.environment.ledger) as ledger:
        (record, *_) = ledger.runs("tiny")
    night.score()
    assert record.report is not None
    return [f"{record.outcome}: {record.report.reason}", *torn, *night.violations(earlier=earlier)]


def trials(folder: Path, *, everywhere: bool) -> Iterator[dict[str, object]]:
    """Every kind at its moments, each on a night of its own."""
    job = TinyJob(folder / "job")
    job.edit({"part_rows = 100": "part_rows = 50"})
    environment = read({"BATCHGAUGE_LEDGER": str(folder / "state" / "ledger.db")})
    tonight = Night(job, environment, FIRST_NIGHT, ROWS)
    nights = count(1)
    names: list[str] = []

    def trial(kind: str, number: int) -> dict[str, object] | None:
        earlier = next(nights)
        night = replace(tonight, day=FIRST_NIGHT + timedelta(days=earlier))
        night.write_input()
        name = stopped(night, kind, number)
        recorded, *wrong = asked(lambda: _afterwards(night, earlier - 1))
        if not name:
            return None
        return {"kind": kind, "number": number, "moment": name, "recorded": recorded, "wrong": wrong}

    while found := trial("SIGTERM", len(names) + 1):
        names.append(str(found["moment"]))
        yield found
    for kind in [kind for kind in SIGNALS if kind != "SIGTERM"]:
        for number in range(1, len(names) + 1) if everywhere else [names.index(name) + 1 for name in SOME]:
            if found := trial(kind, number):
                yield found


def main(folder: Path, *, everywhere: bool) -> None:
    """Print what came of each."""
    for found in trials(folder, everywhere=everywhere):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), everywhere=sys.argv[2:] == ["all"])
