"""Jobs that a ledger knows, each with one run that ended well: for what lists, renders and pushes them."""

from __future__ import annotations

from datetime import UTC, datetime

from monitoring.ledger import Ledger, RunStart
from monitoring.state import Destination, JobDefinition, Thresholds
from pipelines.report import Estimate, HoldoutReport, Outcome, RunReport, SliceReport, Trigger

_DAY_SECONDS = 86_400
_AT = datetime(2026, 11, 22, 2, 15, tzinfo=UTC)


def add(ledger: Ledger, job: str, *, gateway: str | None = None, slices: int = 0) -> None:
    """Make the ledger know the job, its run and its holdout with so many slices."""
    now = _AT.timestamp()
    definition = JobDefinition(
        job=job,
        spec_path=f"/jobs/{job}.toml",
        schedule="15 2 * * *",
        timezone="UTC",
        grace_seconds=1_800.0,
        thresholds=Thresholds(accuracy=0.9),
        holdouts=("labelled",),
        destination=Destination(gateway),
    )
    start = RunStart(f"run of {job}", job, Trigger.CRON, _AT.date(), "host", 1, now)
    ledger.register(definition, now=now, next_expected_at=now + _DAY_SECONDS)
    ledger.start_run(start, next_expected_at=now + _DAY_SECONDS)
    ledger.finish_run(_report(start, slices))


def _report(start: RunStart, slices: int) -> RunReport:
    holdout = HoldoutReport(
        "labelled",
        min_examples=30,
        evaluated_at=start.started_at,
        examples=1_000,
        correct=900,
        accuracy=_estimate(0.9),
        recall=_estimate(0.9),
        slices=tuple(map(_slice, range(slices))),
    )
    return RunReport(
        run_id=start.run_id,
        job=start.job,
        trigger=start.trigger,
        logical_date=start.logical_date,
        host=start.host,
        started_at=start.started_at,
        finished_at=start.started_at + 60,
        elapsed_seconds=60.0,
        scoring_seconds=50.0,
        outcome=Outcome.SUCCESS,
        holdouts=(holdout,),
    )


def _slice(number: int) -> SliceReport:
    correct = 600 + number % 300
    found = _estimate(correct / 1_000)
    return SliceReport("region", f"region {number}", 1_000, correct, found, found, judged=True)


def _estimate(value: float) -> Estimate:
    """With bounds of as many digits as real ones have."""
    return Estimate(value, value - 1 / 37, value + 1 / 37)
