"""Retrainings in the ledger: from their start, over the model they mean to put in place, to how they ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, delete, insert, select, update

from monitoring.ledger import records, schema
from monitoring.ledger.store import only
from pipelines.errors import LedgerError
from pipelines.report import HoldoutReport, ModelReport

_retrains = schema.retrains
KEPT = 1000
"""Of each job, of those that put a model in place and of the others."""


class RetrainOutcome(StrEnum):
    """How a retraining ended.

    promoted: the candidate is in use; refused: it isn't good enough; failed: there is none, or none that can be judged;
    stopped: nobody knows, since it was asked to end, or its process died; dry_run: it was only looked at;
    rolled_back: nothing was trained, the model of before was put back.
    """

    PROMOTED = "promoted"
    REFUSED = "refused"
    FAILED = "failed"
    STOPPED = "stopped"
    DRY_RUN = "dry_run"
    ROLLED_BACK = "rolled_back"


SWITCHES = (RetrainOutcome.PROMOTED, RetrainOutcome.ROLLED_BACK)
"""After these another model is in place."""


class Cause(StrEnum):
    """What started it."""

    HAND = "hand"
    ALERT = "alert"
    ROLLBACK = "rollback"


class AlertId(NamedTuple):
    """One firing of one alert: its fingerprint, and since when (ISO 8601, UTC)."""

    fingerprint: str
    starts_at: str


class ModelId(NamedTuple):
    """A model: what it is called, and the SHA-256 of its file."""

    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RetrainRecord:
    """One retraining, or rollback, of a job. `outcome` and `finished_at` are None while it is in progress.

    `model_path` is the file that it may switch. `before` is the champion, `after` the candidate (for a rollback: the model
    put back), as far as they were known. `figures` are those of the comparison. Timestamps are Unix seconds.
    """

    retrain_id: str
    job: str
    cause: Cause
    logical_date: date
    model_path: str
    started_at: float
    alerts: tuple[AlertId, ...] = ()
    finished_at: float | None = None
    outcome: RetrainOutcome | None = None
    reason: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    before: ModelId | None = None
    after: ModelId | None = None


@dataclass(frozen=True, slots=True)
class InPlace:
    """A model that a retraining or rollback has put in place, and how it was judged: on each holdout, and of which day.

    No day: on a holdout without dates.
    """

    model: ModelReport
    judged: tuple[tuple[HoldoutReport, date | None], ...] = ()


_ALERTS = TypeAdapter(tuple[AlertId, ...])
_FIGURES = TypeAdapter(dict[str, Any])


def start(connection: Connection, record: RetrainRecord) -> None:
    """Put down a retraining in progress. Raises `LedgerError` when its id is taken."""
    if connection.execute(select(_retrains.c.job).where(_retrains.c.retrain_id == record.retrain_id)).first() is not None:
        raise LedgerError(f"retraining {record.retrain_id!r} is in the ledger already; give every one an id of its own")
    begun = {
        "retrain_id": record.retrain_id,
        "job": record.job,
        "cause": record.cause.value,
        "alerts": records.written(_ALERTS, record.alerts, f"the alerts of retraining {record.retrain_id!r}"),
        "logical_date": record.logical_date.isoformat(),
        "model_path": record.model_path,
        "started_at": record.started_at,
    }
    connection.execute(insert(_retrains).values(begun | _findings(record)))


def update_one(connection: Connection, record: RetrainRecord) -> None:
    """Put down what is known of a retraining in progress. Raises `LedgerError` when there is none of that id."""
    in_progress = _retrains.c.outcome.is_(None) & (_retrains.c.job == record.job)
    changed = update(_retrains).where(_retrains.c.retrain_id == record.retrain_id, in_progress).values(_findings(record))
    if connection.execute(changed).rowcount == 0:
        raise LedgerError(
            f"retraining {record.retrain_id!r} of job {record.job!r} is not in progress (was its job forgotten meanwhile?)"
        )


def _findings(record: RetrainRecord) -> dict[str, Any]:
    values = {
        "finished_at": record.finished_at,
        "outcome": None if record.outcome is None else record.outcome.value,
        "reason": record.reason,
        "figures": records.written(_FIGURES, record.figures, f"the figures of retraining {record.retrain_id!r}"),
    }
    for side, model in (("before", record.before), ("after", record.after)):
        values |= {f"{side}_version": model.version if model else None, f"{side}_sha256": model.sha256 if model else None}
    return values


def prune(connection: Connection, job: str) -> None:
    """Delete all but the newest; those that put a model in place are counted by themselves, since a rollback follows them."""
    ended = (_retrains.c.job == job) & _retrains.c.outcome.is_not(None)
    switched = _retrains.c.outcome.in_(SWITCHES)
    for which in (switched, ~switched):
        newest = select(_retrains.c.ordinal).where(ended, which).order_by(_retrains.c.ordinal.desc()).limit(KEPT)
        connection.execute(delete(_retrains).where(ended, which, _retrains.c.ordinal.not_in(newest)))


def history(connection: Connection, job: str, *, limit: int | None) -> tuple[RetrainRecord, ...]:
    """The job's latest retrainings, newest first; None: all of them."""
    query = select(_retrains).where(_retrains.c.job == job).order_by(_retrains.c.ordinal.desc()).limit(limit)
    return tuple(_record(row) for row in connection.execute(query))


def failed(connection: Connection, job: str) -> RetrainRecord | None:
    """The job's latest retraining that has ended, if it failed."""
    ended = select(_retrains).where(_retrains.c.job == job, _retrains.c.outcome.is_not(None))
    row = connection.execute(ended.order_by(_retrains.c.ordinal.desc()).limit(1)).first()
    return None if row is None or row.outcome != RetrainOutcome.FAILED else _record(row)


def switched_to(connection: Connection, job: str, *, since: float) -> str | None:
    """The SHA-256 of the model that was put in place last, if that was later than then."""
    switched = _retrains.c.outcome.in_(SWITCHES)
    query = select(_retrains.c.after_sha256).where(_retrains.c.job == job, switched, _retrains.c.finished_at > since)
    return connection.execute(query.order_by(_retrains.c.ordinal.desc()).limit(1)).scalar_one_or_none()


def unfinished(connection: Connection, job: str | None) -> tuple[RetrainRecord, ...]:
    """Those marked as in progress, oldest first, of a job or of all: of each, one that lives, at most, and those that died."""
    query = only(select(_retrains).where(_retrains.c.outcome.is_(None)).order_by(_retrains.c.ordinal), _retrains.c.job, job)
    return tuple(_record(row) for row in connection.execute(query))


def _record(row: Row[Any]) -> RetrainRecord:
    what = f"retraining {row.retrain_id!r}"
    return RetrainRecord(
        retrain_id=row.retrain_id,
        job=row.job,
        cause=records.parsed(Cause, row.cause, f"the cause of {what}"),
        logical_date=records.day(row.logical_date, f"the day of {what}"),
        model_path=row.model_path,
        started_at=row.started_at,
        alerts=records.read(_ALERTS, row.alerts, f"the alerts of {what}"),
        finished_at=row.finished_at,
        outcome=None if row.outcome is None else records.parsed(RetrainOutcome, row.outcome, f"the outcome of {what}"),
        reason=row.reason,
        figures=records.read(_FIGURES, row.figures, f"the figures of {what}"),
        before=_model(row.before_version, row.before_sha256),
        after=_model(row.after_version, row.after_sha256),
    )


def _model(version: str | None, sha256: str | None) -> ModelId | None:
    return None if version is None or sha256 is None else ModelId(version, sha256)
