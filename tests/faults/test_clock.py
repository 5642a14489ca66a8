"""Clocks that are set, and the two nights a year on which the wall clock skips or repeats an hour."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from jobs.environment import read
from jobs.progress import Silent
from jobs.request import RunRequest
from jobs.run import run
from jobs.spec import load
from monitoring.exposition import render
from monitoring.ledger import Ledger
from pipelines.cancellation import Cancellation
from pipelines.report import RunReport
from tests.scheduling import Scheduler, WallClock
from tests.tiny_job import SPEC, TinyJob

BERLIN = 'timezone = "Europe/Berlin"'
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
"""At 01:00 UTC the clock of Berlin goes from 02:00 to 03:00, and from 03:00 to 02:00."""


def utc(day: date, hour: int, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def clock_of(*readings: datetime) -> type:
    """What stands in for `datetime`: its readings come one after the other, the last for ever."""
    left: Iterator[datetime] = iter(readings)

    class Wrong(datetime):
        _latest = readings[0]

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            cls._latest = next(left, cls._latest)
            return cls._latest.astimezone(tz)

    return Wrong


@pytest.fixture
def job(tmp_path: Path) -> TinyJob:
    return TinyJob(tmp_path / "job", spec=SPEC.replace('"15 2 * * *"', f'"30 2 * * *"\n{BERLIN}'))


def go(job: TinyJob, monkeypatch: pytest.MonkeyPatch, *readings: datetime) -> RunReport:
    """A run by such a clock."""
    monkeypatch.setattr("jobs.run.datetime", clock_of(*readings))
    environment = read({"BATCHGAUGE_LEDGER": str(job.folder / "ledger.db")})
    return run(RunRequest(load(job.spec), environment), observer=Silent(), cancellation=Cancellation()).report


def shown(job: TinyJob) -> dict[str, float]:
    """The job's series as they would be pushed."""
    with Ledger.open(job.folder / "ledger.db") as ledger:
        text = render(ledger.state("tiny"), pushed_at=0.0).decode()
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in pairs}


@pytest.mark.parametrize(
    ("day", "readings"),
    [
        (SPRING, [utc(SPRING, 0, 59), utc(SPRING, 1, 1), utc(SPRING, 2, 30)]),
        (AUTUMN, [utc(AUTUMN, 0, 31), utc(AUTUMN, 1, 31), utc(AUTUMN, 0, 31), utc(AUTUMN, 2, 30)]),
        (AUTUMN, [utc(AUTUMN, 5, 0), utc(AUTUMN, 4, 0), utc(AUTUMN, 3, 0)]),
    ],
    ids=["forward", "back", "set back by an hour, twice"],
)
def test_runs_around_a_change_of_the_clock(
    job: TinyJob, monkeypatch: pytest.MonkeyPatch, day: date, readings: list[datetime]
) -> None:
    """The run before has another date, those after it have this one; no counter falls, and nothing is negative."""
    job.write_input(str(day - timedelta(days=1)), 100)
    before: dict[str, float] = {}
    dates = []
    for number, reading in enumerate(readings, 1):
        job.write_input(str(day), 100, name=f"drop-{number}")
        report = go(job, monkeypatch, reading)
        dates.append(report.logical_date)
        assert report.finished_at >= report.started_at == reading.timestamp()
        after = shown(job)
        assert all(after[series] >= value for series, value in before.items() if "_total" in series or "_bucket" in series)
        assert min(after.values()) >= 0
        before = after
    assert dates == sorted(dates)
    assert dates[-1] == day
    assert set(dates) <= {day, day - timedelta(days=1)}
    assert before['batch_run_parts{disposition="skipped"}'] + before['batch_run_parts{disposition="done"}'] >= 1


def test_a_run_that_died_in_the_future_takes_no_negative_time(job: TinyJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who settles it has a clock that is an hour behind its own."""
    noon = utc(AUTUMN, 12, 0)
    job.write_input(str(AUTUMN), 100)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "finish_run", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            go(job, patch, noon)
    go(job, monkeypatch, noon - timedelta(hours=1))
    with Ledger.open(job.folder / "ledger.db") as ledger:
        settled, dead = ledger.runs("tiny")
    assert (settled.outcome, dead.outcome) == ("success", "failed")
    assert dead.finished_at == dead.started_at == noon.timestamp()
    assert dead.report is not None
    assert dead.report.elapsed_seconds == 0.0
    assert min(shown(job).values()) >= 0


def _power_cut(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("start", "due"),
    [
        pytest.param(utc(SPRING, 0, 50), utc(SPRING, 1, 0), id="forward"),
        pytest.param(utc(AUTUMN, 0, 20), utc(AUTUMN, 0, 30), id="back"),
    ],
)
def test_a_scheduler_runs_a_night_once_when_the_clock_changes(tmp_path: Path, start: datetime, due: datetime) -> None:
    """02:30 comes never or twice in Berlin. It is run once, also when this machine's clock is set back by an hour then."""
    scheduler = Scheduler(tmp_path)
    scheduler.clock = WallClock(start)
    scheduler.known_since("churn", "30 2 * * *", BERLIN, hours=0.2)
    with scheduler:
        assert not scheduler.events("started")
        scheduler.clock.set_by(minutes=15)
        (started,) = scheduler.until("started", "churn")
        assert started["due_at"] == due.timestamp()
        scheduler.until("ended", "churn")
        for number, step in enumerate((1.0, -1.0, 1.0, 1.0), 2):
            scheduler.clock.set_by(hours=step)
            scheduler.until("clock", count=number)
        assert len(scheduler.events("started")) == 1
        assert not scheduler.events("missed")
        (job,) = scheduler.now.jobs
        assert (job.next_due_at or 0) > scheduler.clock()
    assert scheduler.counted("churn", "failed") == 1  # the script records nothing itself
    assert all(value >= 0 for value in scheduler.ledger.state("churn").counters.values())
