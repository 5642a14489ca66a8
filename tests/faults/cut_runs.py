"""Runs whose power is cut at each of their points, one after the other, and that the next run finishes.

    python -m tests.faults.cut_runs FOLDER FIRST STEP [BUG]

Two kinds of run: a first one, and one with another model over parts that are cut differently, which replaces and removes
what the first has left. Of the points of each kind the FIRST is tried, and every STEP-th after it. Prints a line of JSON for
each trial, with what was wrong afterwards. With a planted bug it ends at the first trial in which something was.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save_file

from jobs.environment import read
from pipelines.report import Outcome
from tests.faults.nights import Night, asked, fork
from tests.faults.planted import plant
from tests.faults.power import PowerCut
from tests.tiny_job import TinyJob

ROWS = 160
MOST_POINTS = 10_000
"""No run has so many."""


class Stage:
    """A place that every trial of one kind finds as it was `before`; the paths in a ledger are absolute."""

    def __init__(self, folder: Path, *, kind: str) -> None:
        self.kind = kind
        self.place = folder / "place"
        self._before = folder / f"before-{kind}"
        self._spare = folder / "spare"

    def remember(self) -> None:
        """What is there now is what trials find."""
        shutil.copytree(self.place, self._before)

    def trial(self, night: Night, number: int, *, lose_names: bool) -> dict[str, object] | None:
        """Cut the power at that point, and finish. None when the run has no such point: it was not cut."""
        for folder in (self.place, self._spare):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._before, self.place)
        self._spare.mkdir()
        reader, writer = os.pipe()
        pid = fork(lambda: self._cut(night, number, writer, lose_names=lose_names))
        os.close(writer)
        with os.fdopen(reader) as text:
            point, _, at_stake = text.read().partition("|")
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert status == 0, "the run was not cut, and has failed"
            return None
        unclaimed, *wrong = asked(lambda: _afterwards(night))
        return {
            "kind": self.kind,
            "number": number,
            "point": point,
            "names_lost": lose_names,
            "at_stake": at_stake,
            "unclaimed": int(unclaimed),
            "wrong": wrong,
        }

    def _cut(self, night: Night, number: int, writer: int, *, lose_names: bool) -> None:
        PowerCut(night.job.folder / "scored", self._spare, number, said=writer, lose_names=lose_names).install()
        report = night.score()
        assert report.outcome is Outcome.PARTIAL, report.reason


def _afterwards(night: Night) -> list[str]:
    """What is wrong now, and after the next run. The first line is how many parts lie there uncommitted."""
    unclaimed, torn = night.unclaimed(), night.torn()
    night.score()
    return [str(unclaimed), *torn, *night.violations()]


def trials(folder: Path, points: range) -> Iterator[dict[str, object]]:
    """Every point of both kinds of run; twice where folders are unflushed, with their entries lost and with them kept."""
    place = folder / "place"
    job = TinyJob(place / "job")
    job.edit({"workers = 2": "workers = 1"})  # so that points come in nearly the same order each time
    night = Night(job, read({"BATCHGAUGE_LEDGER": str(place / "state" / "ledger.db")}), date(2020, 1, 1), ROWS)
    night.write_input()
    first = Stage(folder, kind="first")
    first.remember()
    yield from _each(first, night, points)
    again = Stage(folder, kind="again")
    flip(job)
    again.remember()  # after the last trial, in which nothing was cut
    yield from _each(again, replace(night, times=2, flipped=True), points)


def _each(stage: Stage, night: Night, points: range) -> Iterator[dict[str, object]]:
    for number in points:
        found = stage.trial(night, number, lose_names=True)
        if found is None:
            return
        yield found
        if found["at_stake"] and (kept := stage.trial(night, number, lose_names=False)):
            yield kept


def flip(job: TinyJob) -> None:
    """Another model, which says 1 where x < y, and parts that are cut differently."""
    weights = {"weight": torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), "bias": torch.zeros(2)}
    save_file(weights, job.folder / "tiny.safetensors")
    job.edit({"part_rows = 100": "part_rows = 50", 'version = "v1"': 'version = "v2"'})


def main(folder: Path, points: range, bug: str | None) -> None:
    """Print what came of each."""
    if bug is not None:
        plant(bug)
    for found in trials(folder, points):
        print(json.dumps(found), flush=True)
        if found["wrong"] and bug is not None:
            return


if __name__ == "__main__":
    first, step = int(sys.argv[2]), int(sys.argv[3])
    main(Path(sys.argv[1]), range(first, MOST_POINTS, step), sys.argv[4] if len(sys.argv) > 4 else None)
