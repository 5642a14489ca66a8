"""Nights of the tiny job in children that can be killed, and what must be true of one once its next run has ended.

The parent must have no kernel run and no thread of its own started: only then can it be forked safely, and a child
then starts in milliseconds. What a night imports as it goes is imported here, so that not every child does it again.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import sqlalchemy.dialects.sqlite  # noqa: F401  the ledger's

from jobs.environment import Environment
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring import names
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.report import RunReport
from tests.tiny_job import TinyJob, rows_table

INVALID_EVERY = 40
"""Every so-many-th row has no valid features, so that there are rejected rows too."""
GROUP_ROWS = 30
"""Rows of a row group: with parts of one group there are so many parts that several are committed together."""


@dataclass(frozen=True, slots=True)
class Night:
    """One logical date of the job: `rows` of input, which `times` runs have scored whole by the end.

    `flipped`: the model then says 1 where x < y, so that nobody can mistake another model's predictions for its own.
    """

    job: TinyJob
    environment: Environment
    day: date
    rows: int
    times: int = 1
    flipped: bool = False

    @property
    def output(self) -> Path:
        """Where its predictions go."""
        return self.job.folder / "scored" / f"date={self.day}"

    def write_input(self) -> None:
        """Its drop, in two files, with some rows that must be rejected."""
        for name in ("one", "two"):
            table = rows_table(self.rows // 2, prefix=f"{self.day}-{name}", seed=self.day.toordinal())
            x = table["x"].to_numpy().copy()
            x[::INVALID_EVERY] = np.nan
            table = table.set_column(1, "x", pa.array(x))
            self.job.write(self.job.folder / "inbox" / f"date={self.day}" / f"{name}.parquet", table, group_rows=GROUP_ROWS)

    def score(self) -> RunReport:
        """Run it. With its rejected rows it is partial."""
        request = RunRequest(load(self.job.spec), self.environment, logical_date=self.day)
        return run(request, observer=Silent(), cancellation=Cancellation()).report

    def torn(self) -> list[str]:
        """What a reader of the output folder would stumble over right now."""
        return [f"{path.name} is visible, but not whole" for path in self.output.rglob("[!.]*.parquet") if not _whole(path)]

    def unclaimed(self) -> int:
        """How many parts lie in the output, whole, that the ledger doesn't vouch for."""
        with Ledger.open(self.environment.ledger) as ledger:
            committed = ledger.committed_parts("tiny", str(self.output)) if "tiny" in ledger.jobs() else {}
        return sum(path.name not in {Path(output).name for output in committed} for path in self.output.glob("[!.]*.parquet"))

    def violations(self, *, earlier: int = 0) -> list[str]:
        """What is wrong once its last run has ended. `earlier` runs of other nights like it are in the ledger."""
        return [*self.torn(), *self._wrong_rows(), *self._wrong_ledger(earlier), *self._leftovers()]

    def _wrong_rows(self) -> Iterator[str]:
        given = pq.read_table(self.job.folder / "inbox" / f"date={self.day}", partitioning=None)
        x, y = given["x"].to_numpy(), given["y"].to_numpy()
        wanted = {
            name: None if np.isnan(a) else int((a < b) if self.flipped else (a > b))
            for name, a, b in zip(given["id"].to_pylist(), x, y, strict=True)
        }
        scored = self.job.output(str(self.day))
        rejected = pq.read_table(self.output / "_rejects")["id"].to_pylist()
        found = Counter(scored["id"].to_pylist()) + Counter(rejected)
        if twice := [name for name, count in found.items() if count > 1]:
            yield f"{len(twice)} rows are there more than once, such as {twice[0]}"
        if lost := wanted.keys() - found.keys():
            yield f"{len(lost)} rows are lost, such as {min(lost)}"
        said: dict[str, int | None] = dict(zip(scored["id"].to_pylist(), scored["prediction"].to_pylist(), strict=True))
        if wrong := [
            name for name, prediction in (said | dict.fromkeys(rejected)).items() if wanted.get(name, -1) != prediction
        ]:
            yield f"{len(wrong)} rows have another prediction than the model's, such as {wrong[0]}"

    def _wrong_ledger(self, earlier: int) -> Iterator[str]:
        with sqlite3.connect(self.environment.ledger) as connection:
            (intact,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        if intact != "ok":
            yield f"the ledger is damaged: {intact}"
        with Ledger.open(self.environment.ledger) as ledger:
            state = ledger.state("tiny")
        rejected = 2 * -(-self.rows // 2 // INVALID_EVERY)
        counted = {name: sum(value for (key, _), value in state.counters.items() if key == name) for name in _COUNTED}
        nights = self.times + earlier
        expected = {names.REQUESTS.name: nights * (self.rows - rejected), names.ROWS_REJECTED.name: nights * rejected}
        if counted != expected:
            yield f"the counters say {counted}, on disk are {expected}"
        if state.running is not None:
            yield "a run is still marked as in progress"

    def _leftovers(self) -> list[str]:
        folders = (self.output, self.environment.folder)
        left = [name for folder in folders for _, _, names in os.walk(folder) for name in names if name.endswith(".tmp")]
        return [f"{len(left)} temporary files stay, such as {left[0]}"] if left else []


_COUNTED = (names.REQUESTS.name, names.ROWS_REJECTED.name)


def fork(work: Callable[[], object]) -> int:
    """Do the work in a child of this process; returns its process id. Its exit code is 1 when the work raised."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001  a child must never return into its parent's code
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201  it is a program's child
        os._exit(1)


def asked(question: Callable[[], list[str]]) -> list[str]:
    """What a child answers; that it failed is an answer too."""
    reader, writer = os.pipe()
    pid = fork(lambda: _write(writer, question()))
    os.close(writer)
    with os.fdopen(reader) as text:
        answers = text.read().splitlines()
    _, status = os.waitpid(pid, 0)
    return answers if status == 0 else [*answers, f"the child ended with {os.waitstatus_to_exitcode(status)}"]


def _write(writer: int, lines: list[str]) -> None:
    os.write(writer, "".join(f"{line}\n" for line in lines).encode())


def _whole(path: Path) -> bool:
    try:
        pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException):
        return False
    return True
