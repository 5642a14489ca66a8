"""Retrainings whose process died: whoever looks next says what became of them, and tidies up."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import time

from jobs.retrain.workplace import workplace
from monitoring.ledger import Cause, Ledger, LockHeld, RetrainOutcome, RetrainRecord
from pipelines import versions
from pipelines.errors import ModelError

DEAD = "the process died before it could finish the retraining (killed, out of memory, or power lost); the model stays as it is"
SWITCHED = "; the process died right after it had switched the model"


def settle_retrains(ledger: Ledger, job: str) -> None:
    """A retraining that is marked as in progress, but whose lock nobody holds, has ended. Raises `LedgerError`."""
    if not ledger.unfinished_retrains(job):
        return
    try:
        with ledger.lock("retrain", job):
            settle_under_lock(ledger, job)
    except LockHeld:
        return  # it lives


def settle_under_lock(ledger: Ledger, job: str) -> None:
    """The same for who holds the job's retrain lock. One whose end can't be told is left to somebody who may read the model."""
    for record in ledger.unfinished_retrains(job):
        workplace(ledger, job, record.retrain_id).remove()
        versions.remove_leftovers(Path(record.model_path), tag=record.retrain_id)
        with suppress(ModelError):
            ledger.finish_retrain(_settled(record, now=time()))


def _settled(record: RetrainRecord, *, now: float) -> RetrainRecord:
    """The one step that puts a model in place is a rename, so the file itself says whether it was done."""
    ended = replace(record, finished_at=max(now, record.started_at))
    if record.after is None or _found(Path(record.model_path)) != record.after.sha256:
        return replace(ended, outcome=RetrainOutcome.STOPPED, reason=DEAD)
    outcome = RetrainOutcome.ROLLED_BACK if record.cause is Cause.ROLLBACK else RetrainOutcome.PROMOTED
    return replace(ended, outcome=outcome, reason=f"{record.reason or ''}{SWITCHED}")


def _found(model: Path) -> str | None:
    """Which model lies there; None when there is none. Raises `ModelError` when that can't be told."""
    try:
        return versions.digest(model)
    except ModelError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
