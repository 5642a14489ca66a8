"""From what is known to the documents that say it. Other people's words are cut, so that each document is bounded."""

from __future__ import annotations

from typing import cast, overload

from jobs.scheduler.snapshot import Snapshot
from jobs.web.attention import concerns
from jobs.web.board import JobNow, Overview
from jobs.web.documents import (
    BoundedDocument,
    BrokenDocument,
    ConcernDocument,
    HoldoutDocument,
    JobDocument,
    JobsDocument,
    MissedDocument,
    OneJobDocument,
    PushDocument,
    QueuedDocument,
    RetrainingDocument,
    RunDocument,
    RunningDocument,
    RunsDocument,
    SchedulerDocument,
    StartedDocument,
    StateName,
    SyncDocument,
    ThresholdsDocument,
    WaitingDocument,
)
from monitoring.ledger import RunRecord
from pipelines.report import Estimate, HoldoutReport, RunReport

_LONGEST = 2_000


def jobs_document(overview: Overview) -> JobsDocument:
    """All jobs."""
    return JobsDocument(
        at=overview.at,
        jobs=tuple(job_document(job, overview.at) for job in overview.jobs),
        unreadable={job: _cut(error) for job, error in overview.unreadable.items()},
    )


def one_job_document(job: JobNow, at: float) -> OneJobDocument:
    """One job, and the time of the answer."""
    return OneJobDocument(at=at, job=job_document(job, at))


def job_document(job: JobNow, at: float) -> JobDocument:
    """One job at that time."""
    state, definition = job.state, job.state.definition
    return JobDocument(
        job=job.job,
        state=cast(StateName, job.name),
        concerns=tuple(ConcernDocument(level=one.level, line=one.line) for one in concerns(job, at)),
        schedule=definition.schedule,
        timezone=definition.timezone,
        grace_seconds=definition.grace_seconds,
        next_due_at=job.next_due_at,
        late=job.late,
        running=_running(job),
        waiting=None if job.turn is None else WaitingDocument(place=job.turn.place, due_at=job.turn.due_at),
        retraining=None if job.retraining is None else RetrainingDocument.model_validate(job.retraining, from_attributes=True),
        last_success_at=state.last_success_at,
        latest=None if state.latest is None else _ended(state.latest),
        quality=tuple(_holdout(one) for one in state.quality.values()),
        thresholds=ThresholdsDocument(
            latency_seconds=definition.thresholds.latency_seconds,
            accuracy=definition.thresholds.accuracy,
            recall=definition.thresholds.recall,
        ),
        push=PushDocument(owed=state.owed, pushed_at=state.pushed_at, error=_cut(state.push_error)),
        scheduled=job.scheduled is not None,
        file=definition.spec_path if job.scheduled is None else str(job.scheduled.file.path),
        file_error=None if job.scheduled is None else _cut(job.scheduled.error),
    )


def _running(job: JobNow) -> RunningDocument | None:
    run, process = job.state.running, job.started
    if run is None and process is None:
        return None
    return RunningDocument(
        run_id=run.run_id if run else None,
        pid=process.pid if process else None,
        due_at=process.due_at if process else None,
        started_at=run.started_at if run else None,
        rows_read=run.rows_read if run else 0,
        rows_scored=run.rows_scored if run else 0,
        rows_rejected=run.rows_rejected if run else 0,
    )


def runs_document(runs: tuple[RunRecord, ...]) -> RunsDocument:
    """Runs in the order in which they are given."""
    return RunsDocument(runs=tuple(_in_progress(run) if run.report is None else _ended(run.report) for run in runs))


def _in_progress(run: RunRecord) -> RunDocument:
    return RunDocument(
        job=run.job,
        run_id=run.run_id,
        trigger=run.trigger,
        logical_date=run.logical_date,
        host=run.host,
        outcome="running",
        started_at=run.started_at,
        rows_read=run.rows_read,
        rows_scored=run.rows_scored,
        rows_rejected=run.rows_rejected,
    )


def _ended(report: RunReport) -> RunDocument:
    model = report.model
    return RunDocument(
        job=report.job,
        run_id=report.run_id,
        trigger=report.trigger,
        logical_date=report.logical_date,
        host=report.host,
        outcome=report.outcome.value,
        started_at=report.started_at,
        finished_at=report.finished_at,
        reason=_cut(report.reason),
        rows_read=report.rows_read,
        rows_scored=report.rows_scored,
        rows_rejected=report.rows_rejected_total,
        elapsed_seconds=report.elapsed_seconds,
        scoring_seconds=report.scoring_seconds,
        throughput_rows_per_second=report.throughput_rows_per_second,
        latency_seconds=report.latency_seconds,
        batch_latency_p95_seconds=report.latency_quantiles.get(0.95),
        model_version=model.version if model else None,
        model_sha256=model.sha256 if model else None,
        quality=tuple(_holdout(one) for one in report.holdouts),
        warnings=len(report.warnings),
    )


def _holdout(report: HoldoutReport) -> HoldoutDocument:
    return HoldoutDocument(
        holdout=report.name,
        evaluated_at=report.evaluated_at,
        examples=report.examples,
        correct=report.correct,
        accuracy=_bounded(report.accuracy),
        recall=_bounded(report.recall),
        precision=report.precision,
        f1_score=report.f1_score,
        error=_cut(report.error),
    )


def _bounded(estimate: Estimate | None) -> BoundedDocument | None:
    return None if estimate is None else BoundedDocument(value=estimate.value, lower=estimate.lower, upper=estimate.upper)


def scheduler_document(now: Snapshot, at: float) -> SchedulerDocument:
    """The scheduler at that time."""
    return SchedulerDocument(
        at=at,
        began_at=now.began_at,
        ready=now.ready,
        jobs=len(now.jobs),
        max_running=now.max_running,
        running=tuple(StartedDocument(job=one.job, pid=one.pid, due_at=one.due_at) for one in now.running),
        waiting=tuple(QueuedDocument(job=one.job, due_at=one.due_at) for one in now.waiting),
        retraining=tuple(RetrainingDocument.model_validate(one, from_attributes=True) for one in now.retraining),
        missed=tuple(MissedDocument(job=one.job, due_at=one.due_at, reason=_cut(one.reason)) for one in now.missed),
        broken=tuple(BrokenDocument(file=_cut(one.file), error=_cut(one.error), running=one.running) for one in now.broken),
        runs_started=now.runs_started,
        runs_missed=now.runs_missed,
        retrains_started=now.retrains_started,
        sync=SyncDocument(last_good_at=now.last_good_sync_at, failures=now.sync_failures),
        trouble=_cut(now.trouble),
    )


@overload
def _cut(words: str) -> str: ...
@overload
def _cut(words: None) -> None: ...
@overload
def _cut(words: str | None) -> str | None: ...
def _cut(words: str | None) -> str | None:
    """Somebody's words, as far as there is room and as UTF-8 can say them; what is left out is said."""
    if words is None:
        return None
    words = words.encode(errors="backslashreplace").decode()
    if len(words) <= _LONGEST:
        return words
    return f"{words[:_LONGEST]}… and {len(words) - _LONGEST:,} more characters"
