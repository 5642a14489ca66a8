"""The batches of one part, added up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipelines.casting import OUTPUT, REASONS, Codes
from pipelines.predictions import Predictions
from pipelines.report import BatchRecord, Reason, Stage

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, inferred: the reason of each row, int8 [N] (0: valid), and predictions for the valid ones.

    `predictions` is None when no row was valid. Seconds exclude everything else.
    """

    reasons: Codes
    predictions: Predictions | None
    prepare_seconds: float
    latency_seconds: float

    @property
    def input_flaws(self) -> bool:
        """Whether a row has an invalid feature."""
        return bool(self.reasons.any())


@dataclass(slots=True)
class Batches:
    """What the batches of a part came to. Figures are for all rows read (N) or all rows scored (n), in order."""

    part: str
    read_seconds: float
    write_seconds: float = 0.0
    _batches: list[Batch] = field(default_factory=list)

    def add(self, batch: Batch, *, keep_probabilities: bool) -> None:
        """Take the next batch. Rows for which the model returned NaN or infinity are rejected here."""
        found = batch.predictions
        if found is not None:
            kept = found.finite
            reasons = batch.reasons.copy()
            reasons[reasons == 0] = np.where(kept, np.int8(0), OUTPUT)
            probabilities = found.probabilities[kept] if keep_probabilities else found.probabilities[:0]
            found = Predictions(found.index[kept], found.score[kept], probabilities, kept)
            batch = replace(batch, reasons=reasons, predictions=found)
        self._batches.append(batch)

    def reasons(self) -> Codes:
        """int8 [N], 0 for a row that was scored."""
        return np.concatenate([np.zeros(0, np.int8), *(batch.reasons for batch in self._batches)])

    def rejected(self) -> dict[Reason, int]:
        """Rows that were not scored, by reason; reasons without rows are absent."""
        counts = np.bincount(self.reasons(), minlength=len(REASONS)).tolist()
        return {reason: rows for reason, rows in zip(REASONS, counts, strict=True) if reason is not None and rows}

    def predicted(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Positions in the classes, int64 [n]."""
        return np.concatenate([np.zeros(0, np.int64), *(found.index for found in self._found())])

    def score(self) -> Array:
        """Scores, float [n]."""
        return np.concatenate([np.zeros(0, np.float32), *(found.score for found in self._found())])

    def probabilities(self) -> Array:
        """Probabilities, float [n, C], if they were kept; [0, 0] when nothing was scored."""
        return np.concatenate([found.probabilities for found in self._found()] or [np.zeros((0, 0), np.float32)])

    def stage_seconds(self) -> dict[Stage, float]:
        """Seconds by stage."""
        return {
            Stage.READ: self.read_seconds,
            Stage.PREPARE: sum(batch.prepare_seconds for batch in self._batches),
            Stage.INFER: sum(batch.latency_seconds for batch in self._batches),
            Stage.WRITE: self.write_seconds,
        }

    def records(self) -> tuple[BatchRecord, ...]:
        """One record for each batch that was inferred; the part's reading and writing shared out by rows inferred."""
        rows = [len(found.finite) for found in self._found()]
        total = sum(rows)
        inferred = [batch for batch in self._batches if batch.predictions is not None]
        return tuple(
            BatchRecord(
                part=self.part,
                batch=number,
                rows=count,
                latency_seconds=batch.latency_seconds,
                read_seconds=self.read_seconds * count / total,
                prepare_seconds=batch.prepare_seconds,
                write_seconds=self.write_seconds * count / total,
            )
            for number, (batch, count) in enumerate(zip(inferred, rows, strict=True))
        )

    def _found(self) -> list[Predictions]:
        return [batch.predictions for batch in self._batches if batch.predictions is not None]
