"""Runs in the ledger: from their start, over their rows so far, to the report they end with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from monitoring.ledger import records, schema
from monitoring.ledger.counters import NANOSECONDS, nanoseconds
from monitoring.ledger.records import RunOutline, RunRecord, RunStart
from monitoring.ledger.store import only
from monitoring.state import RunningRun
from pipelines.errors import LedgerError
from pipelines.report import ModelReport, Outcome, PartReport, Reason, RunReport, Stage, Trigger

_runs = schema.runs


def start(connection: Connection, run: RunStart | RunReport) -> None:
    """Put down a run in progress. Raises `LedgerError` when the run id is taken."""
    if connection.execute(select(_runs.c.job).where(_runs.c.run_id == run.run_id)).first() is not None:
        raise LedgerError(f"run {run.run_id!r} is in the ledger already; give every run an id of its own")
    connection.execute(insert(_runs).values(_columns(run)))


def never_began(connection: Connection, report: RunReport) -> None:
    """Put down a run that never began. Raises `LedgerError` when the run id is taken."""
    start(connection, report)
    finish(connection, report)


def missed(connection: Connection, reports: Sequence[RunReport]) -> None:
    """Put down many runs that never began, at once."""
    connection.execute(insert(_runs), [_columns(report) | _ended(report) for report in reports])


def _columns(run: RunStart | RunReport) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "job": run.job,
        "trigger": run.trigger.value,
        "logical_date": run.logical_date.isoformat(),
        "host": run.host,
        "pid": run.pid if isinstance(run, RunStart) else None,
        "started_at": run.started_at,
        **dict.fromkeys(("parts_done", "batches", "rows_read", "rows_scored"), 0),
        **dict.fromkeys(("rejected", "stages"), "{}"),
    }


def in_progress(connection: Connection, run_id: str, job: str) -> Row[Any]:
    """The row of a run in progress. Raises `LedgerError` when it was never started, is another job's, or has ended."""
    found = connection.execute(select(_runs).where(_runs.c.run_id == run_id)).first()
    if found is None or found.job != job:
        raise LedgerError(
            f"run {run_id!r} of job {job!r} was never started (or its job was forgotten meanwhile); start it first"
        )
    if found.outcome is not None:
        raise LedgerError(f"run {run_id!r} of job {job!r} has ended already ({found.outcome}); nothing was added to it")
    return found


def job_of(connection: Connection, run_id: str) -> str:
    """The job of a run. Raises `LedgerError` when it was never started."""
    job: str | None = connection.execute(select(_runs.c.job).where(_runs.c.run_id == run_id)).scalar()
    if job is None:
        raise LedgerError(f"run {run_id!r} was never started; start it first")
    return job


def set_model(connection: Connection, run_id: str, model: ModelReport) -> None:
    """Note the model of a run in progress."""
    text = records.written(records.MODEL, model, f"the model of run {run_id!r}")
    connection.execute(update(_runs).where(_runs.c.run_id == run_id).values(model=text))


def add_parts(connection: Connection, run_id: str, job: str, reports: Sequence[PartReport]) -> None:
    """Add parts to the run's rows so far. Raises `LedgerError` when the run isn't in progress."""
    found = in_progress(connection, run_id, job)
    rejected, stages = Counter(_rejected(found)), Counter(_stages(found))
    for report in reports:
        rejected.update(report.rows_rejected)
        stages.update({stage: nanoseconds(seconds) for stage, seconds in report.stage_seconds.items()})
    values = {
        "parts_done": found.parts_done + sum(report.error is None for report in reports),
        "batches": found.batches + sum(len(report.batches) for report in reports),
        "rows_read": found.rows_read + sum(report.rows_read for report in reports),
        "rows_scored": found.rows_scored + sum(report.rows_scored for report in reports),
        "rejected": records.REJECTED.dump_json(dict(rejected)).decode(),
        "stages": records.STAGES.dump_json(dict(stages)).decode(),
    }
    connection.execute(update(_runs).where(_runs.c.run_id == run_id).values(values))


def finish(connection: Connection, report: RunReport) -> None:
    """Put down how a run ended. Raises `LedgerError` when it isn't in progress."""
    in_progress(connection, report.run_id, report.job)
    connection.execute(update(_runs).where(_runs.c.run_id == report.run_id).values(_ended(report)))


def _ended(report: RunReport) -> dict[str, Any]:
    text = records.written(records.RUN, report, f"the report of run {report.run_id!r}")
    return {"outcome": report.outcome.value, "finished_at": report.finished_at, "report": text}


def dead_reports(connection: Connection, job: str, *, now: float, reason: str) -> tuple[RunReport, ...]:
    """A report of failure, with the rows so far, for every run of the job that is marked as in progress."""
    found = connection.execute(select(_runs).where(_runs.c.job == job, _runs.c.outcome.is_(None)).order_by(_runs.c.ordinal))
    return tuple(_dead_report(row, now=now, reason=reason) for row in found)


def _dead_report(row: Row[Any], *, now: float, reason: str) -> RunReport:
    return RunReport(
        run_id=row.run_id,
        job=row.job,
        trigger=records.parsed(Trigger, row.trigger, f"the trigger of run {row.run_id!r}"),
        logical_date=records.day(row.logical_date, f"the day of run {row.run_id!r}"),
        host=row.host,
        started_at=row.started_at,
        finished_at=max(now, row.started_at),
        elapsed_seconds=max(0.0, now - row.started_at),
        scoring_seconds=0.0,
        outcome=Outcome.FAILED,
        reason=reason,
        model=_model(row),
        parts_done=row.parts_done,
        rows_read=row.rows_read,
        rows_scored=row.rows_scored,
        rows_rejected=_rejected(row),
        batches=row.batches,
        stage_seconds={stage: value / NANOSECONDS for stage, value in _stages(row).items()},
    )


def running(connection: Connection, job: str | None = None) -> dict[str, RunningRun]:
    """The run in progress (the newest, should dead ones be marked so too) of each job, or of one, that has any."""
    query = only(select(_runs).where(_runs.c.outcome.is_(None)).order_by(_runs.c.ordinal), _runs.c.job, job)
    return {row.job: _running(row) for row in connection.execute(query)}


def _running(row: Row[Any]) -> RunningRun:
    model = _model(row)
    return RunningRun(
        run_id=row.run_id,
        trigger=row.trigger,
        host=row.host,
        model_version=model.version if model else "",
        started_at=row.started_at,
        rows_read=row.rows_read,
        rows_scored=row.rows_scored,
        rows_rejected=row.rows_read - row.rows_scored,
    )


def latest_reports(connection: Connection, job: str | None = None) -> dict[str, RunReport]:
    """The report that the latest run of each job, or of one, ended with, where there is one."""
    query = select(_runs.c.job, _runs.c.run_id, _runs.c.report).join(schema.jobs, schema.jobs.c.latest_run_id == _runs.c.run_id)
    found = connection.execute(only(query, schema.jobs.c.job, job))
    return {
        row.job: records.read(records.RUN, row.report, f"the report of run {row.run_id!r}")
        for row in found
        if row.report is not None
    }


def history(connection: Connection, job: str, *, limit: int) -> tuple[RunRecord, ...]:
    """The job's latest runs, newest first."""
    query = select(_runs).where(_runs.c.job == job).order_by(_runs.c.ordinal.desc()).limit(limit)
    return tuple(_record(row) for row in connection.execute(query))


def latest(
    connection: Connection, *, limit: int, job: str | None, outcome: Outcome | Literal["running"] | None
) -> tuple[RunRecord, ...]:
    """See `Ledger.latest_runs`."""
    query = select(_runs).order_by(_runs.c.ordinal.desc()).limit(limit)
    if job is not None:
        query = query.where(_runs.c.job == job)
    if outcome is not None:
        query = query.where(_runs.c.outcome.is_(None) if outcome == "running" else _runs.c.outcome == outcome)
    return tuple(_record(row) for row in connection.execute(query))


def last_of_days(connection: Connection, job: str, *, days: int, each: int, until: date) -> tuple[RunRecord, ...]:
    """See `Ledger.last_runs_of_days`."""
    wanted = (_runs.c.job == job) & _runs.c.outcome.in_([Outcome.SUCCESS, Outcome.PARTIAL])
    newest = select(_runs.c.logical_date).where(wanted, _runs.c.logical_date <= until.isoformat()).distinct()
    dates = newest.order_by(_runs.c.logical_date.desc()).limit(days)
    place = func.row_number().over(partition_by=_runs.c.logical_date, order_by=_runs.c.ordinal.desc()).label("place")
    ranked = select(_runs.c.ordinal, place).where(wanted, _runs.c.logical_date.in_(dates)).subquery()
    query = select(_runs).where(_runs.c.ordinal.in_(select(ranked.c.ordinal).where(ranked.c.place <= each)))
    found = connection.execute(query.order_by(_runs.c.logical_date.desc(), _runs.c.ordinal.desc()))
    return tuple(_record(row) for row in found)


def outlines(connection: Connection, job: str, *, limit: int) -> tuple[RunOutline, ...]:
    """See `Ledger.outlines`."""
    columns = (_runs.c.outcome, _runs.c.started_at, _runs.c.rows_scored)
    query = select(*columns).where(_runs.c.job == job).order_by(_runs.c.ordinal.desc()).limit(limit)
    return tuple(RunOutline(_outcome(outcome), started_at, rows) for outcome, started_at, rows in connection.execute(query))


def more_than(connection: Connection, job: str, keep: int) -> bool:
    """Whether the job's history has more runs than that."""
    query = select(_runs.c.ordinal).where(_runs.c.job == job).order_by(_runs.c.ordinal.desc()).offset(keep).limit(1)
    return connection.execute(query).first() is not None


def prune(connection: Connection, job: str, *, keep: int, latest: str | None) -> None:
    """Delete all but the newest `keep` runs; the one that is shown as `latest` and those in progress stay."""
    newest = select(_runs.c.ordinal).where(_runs.c.job == job).order_by(_runs.c.ordinal.desc()).limit(keep)
    old = delete(_runs).where(_runs.c.job == job, _runs.c.outcome.is_not(None), _runs.c.ordinal.not_in(newest))
    connection.execute(old.where(_runs.c.run_id != (latest or "")))


def _model(row: Row[Any]) -> ModelReport | None:
    return None if row.model is None else records.read(records.MODEL, row.model, f"the model of run {row.run_id!r}")


def _record(row: Row[Any]) -> RunRecord:
    return RunRecord(
        run_id=row.run_id,
        job=row.job,
        trigger=records.parsed(Trigger, row.trigger, f"the trigger of run {row.run_id!r}"),
        logical_date=records.day(row.logical_date, f"the day of run {row.run_id!r}"),
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        finished_at=row.finished_at,
        outcome=_outcome(row.outcome),
        rows_read=row.rows_read,
        rows_scored=row.rows_scored,
        rows_rejected=row.rows_read - row.rows_scored,
        report=None if row.report is None else records.read(records.RUN, row.report, f"the report of run {row.run_id!r}"),
    )


def _outcome(text: str | None) -> Outcome | None:
    return None if text is None else records.parsed(Outcome, text, "the outcome of a run")


def _rejected(row: Row[Any]) -> dict[Reason, int]:
    return records.read(records.REJECTED, row.rejected, f"the rejected rows of run {row.run_id!r}")


def _stages(row: Row[Any]) -> dict[Stage, int]:
    return records.read(records.STAGES, row.stages, f"the stages of run {row.run_id!r}")
