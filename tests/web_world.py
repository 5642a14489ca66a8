"""A scheduler's web face with a world of jobs behind it, served as it is served for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import event
from starlette.applications import Starlette

from jobs.scheduler.folder import JobFile
from jobs.scheduler.snapshot import (
    BrokenFile,
    MissedRun,
    RetrainingJob,
    RunningJob,
    ScheduledJob,
    Snapshot,
    WaitingJob,
)
from jobs.web.board import Board
from jobs.web.guard import Guard
from jobs.web.routes import looking_routes
from jobs.web.server import listening, serving
from monitoring.ledger import Ledger
from monitoring.state import Destination, Thresholds
from pipelines.report import Outcome, RunReport
from tests import report_jobs
from tests.report_jobs import HOSTILE, NOW, TONIGHT
from tests.reports import definition, finished, holdout, part

IDLE_SCHEDULER = Snapshot(began_at=NOW - 3 * 86_400, max_running=4, turned_at=0.0, ready=True, last_good_sync_at=NOW - 12)
SLASHED = 'eu/churn "beta"'
NAMES = (
    "a/b",
    "a//b/",
    "..x",
    "100%",
    "%2F",
    "a?b#c",
    "a b+c",
    "\"<&'>",
    "line\nbreak\n",
    "\x00\x1b",
    "数字🙂",
    "\u202eabc",
    HOSTILE,
)
"""Names that a job may have and an address may not, as they are."""


@contextmanager
def queries(ledger: Ledger) -> Iterator[list[str]]:
    """The statements that the ledger is asked meanwhile; how transactions begin is left out."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            asked.append(statement)

    engine = ledger._store._engine
    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


@dataclass
class World:
    """A ledger, and the scheduler's state as the test says it is."""

    ledger: Ledger
    snapshot: Snapshot = field(default=IDLE_SCHEDULER)
    now: float = NOW

    def board(self) -> Board:
        """Looks at this world."""
        return Board(self.ledger, lambda: self.snapshot, lambda: self.now)

    def application(self) -> Starlette:
        """What is looked at, without what guards it."""
        return Starlette(routes=looking_routes(self.board(), self.ledger))

    @contextmanager
    def served(self) -> Iterator[str]:
        """Behind a real server; its URL is given. A defect inside fails the test."""
        defects: list[str] = []
        guard = Guard(self.application(), loopback_only=True, defect=defects.append)
        with listening("127.0.0.1:0") as listener, serving(guard, listener) as url:
            yield url
        assert not defects, defects[0]

    def schedule(self, *names: str, error: str | None = None) -> None:
        """The scheduler has files of these jobs; each is due in the night to come."""
        due = report_jobs.night_start(TONIGHT + timedelta(days=1))
        new = tuple(ScheduledJob(name, job_file(name), "15 2 * * *", due, error) for name in names)
        self.snapshot = replace(self.snapshot, jobs=tuple(sorted((*self.snapshot.jobs, *new), key=lambda one: one.job)))


def job_file(name: str) -> JobFile:
    """A file of the scheduler's folder."""
    path = Path("/etc/batchgauge/jobs") / f"{name[:20].replace('/', '-')}.toml"
    return JobFile(path, Path("/state") / path.name, None, None)


def nights(
    ledger: Ledger, job: str, *, number: int, count: int = 6, change: Callable[[RunReport], RunReport] | None = None
) -> None:
    """A job that went well for so many nights, with rows that differ; `change` has the last word on the last night."""
    report_jobs.register(ledger, definition(job))
    for age in range(count, 0, -1):
        rows = (number % 7 + 1) * 10 ** (3 + number % 3) + age * 137 + (number * age * 7919) % 900
        parts = (part(rows=rows, latencies=(0.02, 0.03)),)
        down = -0.03 + (number * 13 % 50) / 1000
        judged = partial(replace, holdouts=(report_jobs.shifted(holdout(), down),))
        last = change if age == 1 and change else judged
        day = TONIGHT - timedelta(days=age - 1)
        report_jobs.run_of_night(ledger, job, day, f"{job}-{age}", parts=parts, change=last)


def fleet(ledger: Ledger, count: int) -> tuple[str, ...]:
    """So many jobs without a fault."""
    names = tuple(f"{_AREAS[number % len(_AREAS)]}-{number:04}" for number in range(count))
    for number, name in enumerate(names):
        nights(ledger, name, number=number, count=3)
    return names


_AREAS = ("churn", "fraud-score", "basket", "demand-forecast", "credit", "ads-ctr", "email-spam", "returns")


@contextmanager
def busy_night(ledger: Ledger, *, more: int = 0) -> Iterator[World]:
    """A night on which much goes wrong, and `more` jobs that are well."""
    world = World(ledger)
    report_jobs.busy(ledger, "digits")
    report_jobs.idle(ledger, "monthly-close")
    nights(ledger, "ads-conversion", number=2, count=9, change=_failed)
    nights(ledger, "adhoc-export", number=4, count=2, change=lambda report: report)
    by_hand = replace(definition("adhoc-export", holdouts=()), schedule=None, thresholds=Thresholds())
    report_jobs.register(ledger, by_hand, next_expected_at=None)
    nights(ledger, SLASHED, number=3, count=20, change=_partly)
    nights(
        ledger, "credit-limit", number=9, change=partial(replace, holdouts=(report_jobs.shifted(holdout(), 0.2), holdout("eu")))
    )
    _known_holdouts(ledger, "credit-limit", ("labelled", "eu"))
    nights(ledger, "fraud", number=5, count=20)
    nights(ledger, "basket", number=11, count=20)
    report_jobs.register(ledger, definition("new-job"))
    _misses(ledger, "monthly-close")
    fine = fleet(ledger, more)
    world.schedule("digits", "monthly-close", "ads-conversion", SLASHED, "credit-limit", "fraud", "basket", "new-job", *fine)
    world.schedule("busy", error="/etc/batchgauge/jobs/busy.toml: [batch] rows: must be a number or 'auto', was 'fast'")
    with report_jobs.running(ledger, "busy"):
        world.snapshot = replace(
            world.snapshot,
            running=(RunningJob("busy", 4711, NOW - 9060), RunningJob("fraud", 4712, NOW - 2)),
            waiting=(WaitingJob("basket", NOW - 300), WaitingJob(SLASHED, NOW - 60)),
            retraining=(RetrainingJob("credit-limit", 4713, NOW - 1260),),
            missed=(MissedRun("monthly-close", NOW - 86_400, "the scheduler was down"),),
            broken=(
                BrokenFile(
                    "/etc/batchgauge/jobs/busy.toml",
                    "/etc/batchgauge/jobs/busy.toml: [batch] rows: must be a number or 'auto', was 'fast'",
                    running=True,
                ),
                BrokenFile(
                    "/etc/batchgauge/jobs/tmp.toml",
                    "/etc/batchgauge/jobs/tmp.toml: not TOML: Expected '=' after a key (line 3, column 5)",
                    running=False,
                ),
            ),
            runs_started=42,
            runs_missed=1,
        )
        yield world


def _failed(report: RunReport) -> RunReport:
    reason = "model /models/ads/conversion.safetensors: no such file; copy it there, or set model.weights"
    return replace(report, outcome=Outcome.FAILED, reason=reason, rows_scored=0, rows_read=0, scoring_seconds=0.0, model=None)


def _partly(report: RunReport) -> RunReport:
    lost = replace(report, outcome=Outcome.PARTIAL, rows_read=report.rows_read + 77)
    return replace(lost, warnings=("holdout 'labelled': no files match /data/churn/holdout/*.parquet",))


def _known_holdouts(ledger: Ledger, job: str, holdouts: tuple[str, ...]) -> None:
    report_jobs.register(ledger, definition(job, holdouts=holdouts, destination=Destination(gateway="http://127.0.0.1:9091")))


def _misses(ledger: Ledger, job: str) -> None:
    for age in (2, 1):
        day = TONIGHT - timedelta(days=age)
        report = finished(f"missed-{age}", job, outcome=Outcome.MISSED, started_at=report_jobs.night_start(day))
        ledger.miss_runs(job, [replace(report, logical_date=day, holdouts=(), model=None)])


def hostile_world(ledger: Ledger) -> World:
    """Whatever somebody else may choose is hostile."""
    world = World(ledger)
    report_jobs.hostile(ledger)
    world.schedule(HOSTILE, error=HOSTILE * 20)
    waiting = tuple(WaitingJob(HOSTILE, NOW - 1) for _ in range(3))
    world.snapshot = replace(
        world.snapshot,
        running=(RunningJob(HOSTILE, 1, NOW),),
        waiting=waiting,
        retraining=(RetrainingJob(HOSTILE, None, NOW, waits=True),),
        broken=(BrokenFile(HOSTILE + "\udcff", HOSTILE * 100, running=False),),
        missed=(MissedRun(HOSTILE, NOW, HOSTILE * 100),),
        trouble=HOSTILE * 100,
    )
    return world
