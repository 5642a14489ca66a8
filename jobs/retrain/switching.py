"""Putting another model in place, and saying so in the ledger, so that neither can be had without the other.

keep the old model → describe the new one → ledger: what is meant → switch (one rename) → ledger: what was done

Whoever dies on the way has left the old model or the new one in place, whole, and both in the versions folder or the
workplace; from the ledger and the file it can be told which (`jobs.retrain.settling`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from monitoring.ledger import Ledger, ModelId, RetrainOutcome, RetrainRecord
from pipelines import versions
from pipelines.errors import ModelError
from pipelines.versions import Version


@dataclass(frozen=True, slots=True)
class Move:
    """The content of `source`, called `model`, is to replace the content `before` of the job's model file.

    `description` is None for a model that needs none, since it was in use before.
    """

    source: Path
    before: ModelId
    model: ModelId
    description: Version | None


def put_in_place(ledger: Ledger, record: RetrainRecord, move: Move) -> None:
    """Make the move. `record` is in progress, and is noted with the models of the move.

    Raises `ModelError` (the old model is still in place) when the file isn't the one it should be, or can't be written.
    """
    file, tag = Path(record.model_path), record.retrain_id
    versions.check_replaceable(file)
    if versions.digest(file) != move.before.sha256:
        raise ModelError(f"model {file}: was replaced by somebody else meanwhile, and stays")
    versions.keep(file, move.before.sha256, tag=tag)
    if move.description is not None:
        versions.describe(file, move.description, tag=tag)
    ledger.update_retrain(replace(record, before=move.before, after=move.model))
    try:
        versions.switch(move.source, file, move.model.sha256, tag=tag)
    except ModelError:
        if versions.digest(file) != move.model.sha256:
            raise
        # Only the flush after the rename has failed: the new model is in place, and the ledger must say so.


def chain(retrains: Iterable[RetrainRecord]) -> list[RetrainRecord]:
    """The promotions that are still in effect, oldest first, from a job's retrainings, newest first.

    Each promotion lies on top of those before it; a rollback takes the topmost away.
    """
    stack: list[RetrainRecord] = []
    for record in reversed(list(retrains)):
        if record.outcome is RetrainOutcome.PROMOTED:
            stack.append(record)
        elif record.outcome is RetrainOutcome.ROLLED_BACK and stack:
            stack.pop()
    return stack


def prune(ledger: Ledger, job: str, file: Path, *, keep: int) -> None:
    """Remove the models that can no longer be gone back to: all but those that the newest `keep` promotions replaced."""
    kept = [record for record in chain(ledger.retrains(job, limit=None)) if record.model_path == str(file)][-keep:]
    spare = {model.sha256 for record in kept for model in (record.before, record.after) if model is not None}
    versions.prune(file, spare | {versions.digest(file)})
