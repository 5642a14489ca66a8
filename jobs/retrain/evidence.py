"""What the policy must know of a job, from its ledger and its file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jobs.retrain.policy import Evaluation, JobFacts
from jobs.retrain.settling import settle_retrains
from jobs.spec import JobSpec
from monitoring.ledger import Ledger, RunRecord

_FEWEST_DAYS = 30


def gather(ledger: Ledger, spec: JobSpec) -> JobFacts:
    """The facts as of now. Dead retrainings are settled first. Raises `LedgerError` for a job that never ran nor registered."""
    job, settings = spec.job.name, spec.retrain
    settle_retrains(ledger, job)
    state = ledger.state(job)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)  # somewhere it is already; a later day has not been
    runs = ledger.last_runs_of_days(job, days=max(_FEWEST_DAYS, settings.after if settings else 1), until=tomorrow)
    return JobFacts(
        job=job,
        settings=settings,
        thresholds=state.definition.thresholds,
        labels=state.definition.destination.labels,
        evaluations=tuple(filter(None, map(_evaluation, runs))),
        retrains=ledger.retrains(job, limit=None),
    )


def _evaluation(run: RunRecord) -> Evaluation | None:
    report = run.report
    judged = {one.name: one for one in report.holdouts if one.error is None} if report else {}
    if report is None or report.model is None or not judged:
        return None
    return Evaluation(run.logical_date, report.started_at, report.finished_at, report.model.sha256, judged)
