"""Showing a run go on, on stderr: a bar on a terminal, a plain line every 10 seconds elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn

from pipelines.pipeline import Observer
from pipelines.report import PartReport

PLAIN_EVERY_SECONDS = 10.0


class Silent:
    """Shows nothing."""

    def phase(self, name: str) -> None:
        """Ignored."""

    def planned(self, *, rows: int, rows_skipped: int) -> None:
        """Ignored."""

    def part(self, report: PartReport) -> None:
        """Ignored."""


class Bar:
    """A progress bar of rows."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def phase(self, name: str) -> None:
        """Put the phase beside the bar."""
        self._progress.update(self._task, description=name)

    def planned(self, *, rows: int, rows_skipped: int) -> None:
        """Give the bar its length."""
        del rows_skipped  # they are done: the bar shows what this run does
        self._progress.update(self._task, total=rows, rows=rows)

    def part(self, report: PartReport) -> None:
        """Move on."""
        self._progress.update(self._task, advance=report.rows_read)


class Lines:
    """A plain line now and then, for a log."""

    def __init__(self, job: str, stream: TextIO) -> None:
        self._job = job
        self._stream = stream
        self._phase = "starting"
        self._rows = 0
        self._total = 0
        self._began = monotonic()

    def phase(self, name: str) -> None:
        """Remember the phase for the next line."""
        self._phase = name

    def planned(self, *, rows: int, rows_skipped: int) -> None:
        """Remember how much there is to do."""
        del rows_skipped
        self._total, self._began = rows, monotonic()

    def part(self, report: PartReport) -> None:
        """Count the part's rows."""
        self._rows += report.rows_read

    def line(self) -> str:
        """What happens now, in one line."""
        if not self._rows:
            return f"{self._job}: {self._phase}"
        speed = self._rows / max(monotonic() - self._began, 1e-9)
        return f"{self._job}: {self._phase}, {self._rows:,} of {self._total:,} rows, {speed:,.0f} rows/s"

    def print_until(self, over: threading.Event) -> None:
        """Print a line every 10 seconds until it is over."""
        while not over.wait(PLAIN_EVERY_SECONDS):
            print(self.line(), file=self._stream, flush=True)


@contextmanager
def watching(job: str, console: Console) -> Iterator[Observer]:
    """An observer that fits the console: a bar on a terminal, else lines."""
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[job]}: {task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.fields[rows]:,} rows"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            yield Bar(progress, progress.add_task("starting", total=None, job=job, rows=0))
        return
    lines, over = Lines(job, console.file), threading.Event()  # type: ignore[arg-type]  # a console writes to text
    thread = threading.Thread(target=lines.print_until, args=(over,), daemon=True, name="progress")
    thread.start()
    try:
        yield lines
    finally:
        over.set()
        thread.join()
