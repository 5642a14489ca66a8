"""A scheduler in a thread of the test, with job files that are made up and commands that are quick.

Its wall clock is the test's, so that a job is due when the test says so.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Self

from jobs.environment import Environment, read
from jobs.scheduler import Daemon, Settings, Snapshot
from jobs.scheduler.bookkeeping import register
from jobs.scheduler.folder import JobFile
from jobs.scheduler.log import Log
from jobs.spec import load
from monitoring.ledger import Hold, Ledger
from tests.conftest import poll

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
HOUR = 3600.0

SPEC = """
[job]
name = "{name}"
schedule = "{schedule}"
{settings}

[model]
factory = "model.py:build"
weights = "model.safetensors"
task = "binary"

[input]
path = "{name}/inbox/date={{date}}"
features = ["x"]

[output]
path = "{name}/scored/date={{date}}"
"""


class PastRun(NamedTuple):
    """One line of the history; `at`: the minute at which it started, or was due and missed."""

    outcome: str
    at: str
    reason: str


class WallClock:
    """Goes on as time does, from `start`; a test may set it."""

    def __init__(self, start: datetime = NOON) -> None:
        self._offset = start.timestamp() - monotonic()

    def __call__(self) -> float:
        return monotonic() + self._offset

    def set_by(self, **step: float) -> None:
        """Set it forward, or back, by so many `hours`, `minutes`, …."""
        self._offset += timedelta(**step).total_seconds()


class Scheduler:
    """A daemon on the folder's `jobs` and `ledger.db`. Its commands are `/bin/sh -c` unless the test says otherwise."""

    def __init__(self, folder: Path, *, script: str = "exit 0", **settings: Any) -> None:
        self.folder = folder
        self.clock = WallClock()
        self.script = script
        self.place = Hold.KEPT
        self.environment: Environment = read({"BATCHGAUGE_LEDGER": str(folder / "state" / "ledger.db")})
        self.ledger = Ledger.open(self.environment.ledger)
        self.stream = StringIO()
        self.settings: dict[str, Any] = {
            "max_running": 8,
            "shutdown_seconds": 20.0,
            "tick_seconds": 0.02,
            "rescan_every_seconds": 0.02,
            "timeout_allowance_seconds": 0.0,
            "kill_after_seconds": 0.5,
            "command": self.command,
            **settings,
        }
        (folder / "jobs").mkdir(parents=True, exist_ok=True)
        self.daemon: Daemon
        self._thread: threading.Thread

    def command(self, file: JobFile, logical_date: date, due_at: float) -> Sequence[str]:
        """The script's arguments: job, date, due time, ledger."""
        assert file.spec is not None
        name = file.spec.job.name
        return ["/bin/sh", "-c", self.script, "sh", name, str(logical_date), repr(due_at), self.environment.ledger]

    def pushing_to(self, url: str) -> Self:
        """With a gateway."""
        self.environment = replace(self.environment, gateways=(url,))
        return self

    def write(self, name: str, schedule: str = "0 * * * *", settings: str = "", *, file: str | None = None) -> Path:
        """A job file."""
        path = self.folder / "jobs" / f"{file or name}.toml"
        path.write_text(SPEC.format(name=name, schedule=schedule, settings=settings))
        return path

    def known_since(self, name: str, schedule: str = "0 * * * *", settings: str = "", *, hours: float) -> Path:
        """A job that the ledger has known for so long."""
        path = self.write(name, schedule, settings)
        register(self.ledger, load(path), self.environment, now=self.clock() - hours * HOUR)
        return path

    def start(self) -> Self:
        """Begin, in a thread."""
        settings = Settings(paths=(self.folder / "jobs",), environment=self.environment, **self.settings)
        self.daemon = Daemon(settings, self.ledger, Log(self.stream, as_json=True, clock=self.clock), clock=self.clock)
        self._thread = threading.Thread(target=self.daemon.run, kwargs={"place": lambda: self.place}, daemon=True)
        self._thread.start()
        poll(lambda: self.events("began"))
        return self

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self.daemon.stop("test")
        self._thread.join(60)
        assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._thread.is_alive():
            self.stop()

    @property
    def now(self) -> Snapshot:
        """Its snapshot."""
        return self.daemon.snapshot()

    def events(self, event: str, job: str | None = None) -> list[dict[str, Any]]:
        """What it has logged of this kind."""
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event and (job is None or line.get("job") == job)]

    def until(self, event: str, job: str | None = None, *, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many of them."""

        def found() -> list[dict[str, Any]]:
            events = self.events(event, job)
            return events if len(events) >= count else []

        try:
            return poll(found)
        except AssertionError:
            sys.stderr.write(self.stream.getvalue())
            raise

    def runs(self, name: str) -> list[PastRun]:
        """The job's history, oldest first."""
        records = reversed(self.ledger.runs(name, limit=100_000))
        return [
            PastRun(
                record.outcome or "running",
                f"{datetime.fromtimestamp(record.started_at, UTC):%H:%M}",
                (record.report.reason if record.report else None) or "",
            )
            for record in records
        ]

    def counted(self, name: str, outcome: str) -> float:
        """`batch_runs_total`."""
        return self.ledger.state(name).counters["batch_runs_total", (outcome,)]


def recording_run(behaviour: str = "exit") -> Callable[[JobFile, date, float], Sequence[str]]:
    """The command of a small process that records its run in the ledger as `batchgauge run` does: see `tests.recording_run`."""

    def command(file: JobFile, logical_date: date, due_at: float) -> Sequence[str]:
        return [sys.executable, "-m", "tests.recording_run", str(file.copy), str(logical_date), repr(due_at), behaviour]

    return command
