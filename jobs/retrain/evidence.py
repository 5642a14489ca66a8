"""What the policy must know of a job, from its ledger and its file."""

from __future__ import annotations

from jobs.retrain.policy import Evaluation, JobFacts
from jobs.retrain.settling import settle_retrains
from jobs.spec import JobSpec
from monitoring.ledger import Ledger, RunRecord

_RUNS_FOR_EACH_DAY = 10
_FEWEST_RUNS = 50


def gather(ledger: Ledger, spec: JobSpec) -> JobFacts:
    """The facts as of now. Dead retrainings are settled first. Raises `LedgerError` for a job that never ran nor registered."""
    job, settings = spec.job.name, spec.retrain
    settle_retrains(ledger, job)
    state = ledger.state(job)
    days = settings.after if settings else 1
    runs = ledger.runs(job, limit=max(_FEWEST_RUNS, days * _RUNS_FOR_EACH_DAY))
    return JobFacts(
        job=job,
        settings=settings,
        thresholds=state.definition.thresholds,
        labels=state.definition.destination.labels,
        evaluations=_evaluations(runs),
        retrains=ledger.retrains(job, limit=None),
    )


def _evaluations(runs: tuple[RunRecord, ...]) -> tuple[Evaluation, ...]:
    """The last evaluation of each day, the newest day first. `runs` are newest first."""
    by_day: dict[object, Evaluation] = {}
    for run in runs:
        report = run.report
        judged = {one.name: one for one in report.holdouts if one.error is None} if report else {}
        if report is not None and report.model is not None and judged and run.logical_date not in by_day:
            by_day[run.logical_date] = Evaluation(
                run.logical_date, report.started_at, report.finished_at, report.model.sha256, judged
            )
    return tuple(sorted(by_day.values(), key=lambda one: one.logical_date, reverse=True))
