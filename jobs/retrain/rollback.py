"""The way back: the model that the last promotion replaced, put in place again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import time
from uuid import uuid4

from jobs.environment import Environment
from jobs.retrain.request import RetrainResult, delivered
from jobs.retrain.settling import settle_under_lock
from jobs.retrain.switching import Move, chain, put_in_place
from jobs.spec import JobSpec
from monitoring.ledger import Cause, InPlace, Ledger, ModelId, RetrainOutcome, RetrainRecord
from pipelines import versions
from pipelines.errors import ModelError, storable


def roll_back(ledger: Ledger, spec: JobSpec, environment: Environment) -> RetrainResult:
    """Undo the last promotion that is in effect, and push the state. What was scored meanwhile stays as it is.

    Raises `ModelError` saying why when there is nothing to go back to, or it can't be put in place; `LockHeld` while
    a retraining goes on.
    """
    job, now = spec.job.name, time()
    with ledger.lock("retrain", job):
        settle_under_lock(ledger, job)
        move = _move(ledger.retrains(job, limit=None), spec)
        record = RetrainRecord(
            retrain_id=uuid4().hex,
            job=job,
            cause=Cause.ROLLBACK,
            logical_date=spec.logical_date(datetime.fromtimestamp(now, UTC)),
            model_path=str(spec.model_file),
            started_at=now,
            before=move.before,
            reason=f"back from {move.before.version} to {move.model.version}",
        )
        ledger.start_retrain(record)
        try:
            put_in_place(ledger, record, move)
        except ModelError as error:
            failed = replace(record, outcome=RetrainOutcome.FAILED, reason=storable(str(error)))
            ledger.finish_retrain(replace(failed, finished_at=max(time(), now)))
            raise
        ended = replace(record, after=move.model, outcome=RetrainOutcome.ROLLED_BACK, finished_at=max(time(), now))
        # How good it is nobody has looked at now: the figures from before stay, with their time, until a run has.
        before = ledger.state(job).model
        model = before and replace(before, version=move.model.version, sha256=move.model.sha256)
        ledger.finish_retrain(ended, InPlace(model) if model else None)
    return delivered(ledger, ended, environment)


def _move(retrains: tuple[RetrainRecord, ...], spec: JobSpec) -> Move:
    """What to put in place of what. Raises `ModelError` when there is nothing to go back to."""
    file = spec.model_file
    promoted = chain(retrains)
    if not promoted:
        raise ModelError(f"job {spec.job.name!r}: no promotion is in effect, so there is nothing to go back to")
    last = promoted[-1]
    if last.before is None or last.after is None or last.model_path != str(file):
        raise ModelError(f"job {spec.job.name!r}: the last promotion was of {last.model_path}, and the job now uses {file}")
    found = versions.digest(file)
    if found != last.after.sha256:
        raise ModelError(
            f"model {file}: is not {last.after.version}, which was promoted last, but was put there by hand since; "
            "whoever did that knows what was there before"
        )
    if spec.model.sha256 is not None and spec.model.sha256.lower() != last.before.sha256:
        raise ModelError(f"model {file}: model.sha256 pins another model than {last.before.version}; take the pin away first")
    return Move(_kept(file, last.before), last.after, last.before, description=None)


def _kept(file: Path, model: ModelId) -> Path:
    place = versions.kept(file, model.sha256)
    if not place.is_file():
        raise ModelError(f"model {file}: {model.version} is no longer kept ({place} is gone; see retrain.keep)")
    if versions.digest(place) != model.sha256:
        raise ModelError(f"model {file}: what is kept of {model.version} is damaged ({place})")
    return place
