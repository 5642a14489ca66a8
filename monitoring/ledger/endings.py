"""What the end of a run, or of a retraining, changes in the ledger: in one transaction, which is the caller's."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection

from monitoring.ledger import counters, jobs, retrains, runs
from monitoring.ledger.retrains import InPlace, RetrainRecord
from pipelines.report import HoldoutReport, Outcome, RunReport


def of_run(connection: Connection, report: RunReport) -> None:
    """Put down how the run ended, count it, and show it and its figures as the job's latest."""
    jobs.raise_sequence(connection, report.job)
    runs.finish(connection, report)
    counters.add(connection, report.job, counters.of_run(report))
    jobs.set_values(connection, report.job, latest_run_id=report.run_id)
    if report.outcome is Outcome.SUCCESS:
        jobs.set_values(connection, report.job, last_success_at=report.finished_at)
    switched_to = retrains.switched_to(connection, report.job, since=report.started_at)
    if switched_to and (report.model is None or report.model.sha256 != switched_to):
        return  # what it says is of a model that is no longer in use
    if report.model is not None:
        jobs.set_model(connection, report.job, report.model)
    for holdout in report.holdouts:
        if holdout.error is None:
            _keep_quality(connection, report.job, holdout, logical_date=report.logical_date, at=report.finished_at)


def of_retrain(connection: Connection, record: RetrainRecord, in_place: InPlace | None) -> None:
    """Put down how the retraining ended, and count it; a model that it has put in place is shown, with how good that is."""
    assert record.outcome is not None  # the caller has looked
    jobs.raise_sequence(connection, record.job)
    retrains.update_one(connection, record)
    counters.add(connection, record.job, counters.of_retrain(record.outcome))
    retrains.prune(connection, record.job)
    if in_place is not None:
        jobs.set_model(connection, record.job, in_place.model)
        at = record.finished_at or record.started_at
        for holdout, day in in_place.judged:
            _keep_quality(connection, record.job, holdout, logical_date=day or record.logical_date, at=at)


def _keep_quality(connection: Connection, job: str, holdout: HoldoutReport, *, logical_date: date, at: float) -> None:
    today = datetime.fromtimestamp(at, UTC).date() + timedelta(days=1)  # somewhere it is already
    jobs.keep_quality(connection, job, holdout, logical_date=logical_date, today=today)
