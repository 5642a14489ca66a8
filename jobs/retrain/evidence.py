"""What the policy must know of a job, from its ledger and its file."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from jobs.retrain.policy import Evaluation, JobFacts
from jobs.retrain.settling import settle_retrains
from jobs.spec import JobSpec
from monitoring.ledger import Ledger, RunRecord

_FEWEST_DAYS = 14
_RUNS_A_DAY = 20
"""The last ones, in which the last is looked for that could judge anything."""


def gather(ledger: Ledger, spec: JobSpec) -> JobFacts:
    """The facts as of now. Dead retrainings are settled first. Raises `LedgerError` for a job that never ran nor registered."""
    job, settings = spec.job.name, spec.retrain
    settle_retrains(ledger, job)
    state = ledger.state(job)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)  # somewhere it is already; a later day has not been
    days = max(_FEWEST_DAYS, settings.after if settings else 1)
    runs = ledger.last_runs_of_days(job, days=days, each=_RUNS_A_DAY, until=tomorrow)
    return JobFacts(
        job=job,
        settings=settings,
        thresholds=state.definition.thresholds,
        labels=state.definition.destination.labels,
        evaluations=_evaluations(runs),
        retrains=ledger.retrains(job, limit=None),
    )


def _evaluations(runs: Iterable[RunRecord]) -> tuple[Evaluation, ...]:
    """The last evaluation of each day, the newest day first. `runs` are in that order, of each day the last first."""
    by_day: dict[date, Evaluation] = {}
    for run in runs:
        report = run.report
        judged = {one.name: one for one in report.holdouts if one.error is None} if report else {}
        if report is not None and report.model is not None and judged and run.logical_date not in by_day:
            by_day[run.logical_date] = Evaluation(
                run.logical_date, report.started_at, report.finished_at, report.model.sha256, judged
            )
    return tuple(by_day.values())
