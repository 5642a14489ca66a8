"""The batches of one part, added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipelines.casting import OUTPUT, REASONS, Codes
from pipelines.predictions import Predictions
from pipelines.report import BatchRecord, Reason, Stage

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, inferred: the reason of each row, int8 [N] (0: valid; None: all are), and predictions for the valid ones.

    `predictions` is None when no row was valid. Seconds exclude everything else.
    """

    reasons: Codes | None
    predictions: Predictions | None
    prepare_seconds: float
    latency_seconds: float


class _Inferred(NamedTuple):
    rows: int
    prepare_seconds: float
    latency_seconds: float


class Batches:
    """What the batches of a part came to. Figures are for all rows read (N) or all rows scored (n), in order.

    `read_seconds`, `prepare_seconds` and `write_seconds` are what was done for the part as a whole.
    """

    def __init__(self, part: str, rows: int, *, read_seconds: float, prepare_seconds: float) -> None:
        self.part = part
        self.read_seconds = read_seconds
        self.prepare_seconds = prepare_seconds
        self.write_seconds = 0.0
        self._rows = rows
        self._scored = 0
        self._reasons: Codes | None = None
        self._index: Array = np.empty(rows, np.int64)
        self._score: Array = np.empty(0, np.float32)
        self._probabilities: Array = np.empty((0, 0), np.float32)
        self._inferred: list[_Inferred] = []
        self._seconds_without_rows = 0.0

    def add(self, first: int, batch: Batch) -> None:
        """Take the batch that begins at row `first`. Rows for which the model returned NaN or infinity are rejected here."""
        found, reasons = batch.predictions, batch.reasons
        if found is None:
            self._seconds_without_rows += batch.prepare_seconds
        else:
            self._inferred.append(_Inferred(len(found.index), batch.prepare_seconds, batch.latency_seconds))
            if found.finite is not None:
                reasons = np.zeros(len(found.index), np.int8) if reasons is None else reasons.copy()
                reasons[reasons == 0] = np.where(found.finite, np.int8(0), OUTPUT)
            self._keep(found)
        if reasons is not None:
            if self._reasons is None:
                self._reasons = np.zeros(self._rows, np.int8)
            self._reasons[first : first + len(reasons)] = reasons

    def reasons(self) -> Codes | None:
        """int8 [N], 0 for a row that was scored; None when all were."""
        return self._reasons

    def rejected(self) -> dict[Reason, int]:
        """Rows that were not scored, by reason; reasons without rows are absent."""
        if self._reasons is None:
            return {}
        counts = np.bincount(self._reasons, minlength=len(REASONS)).tolist()
        return {reason: rows for reason, rows in zip(REASONS, counts, strict=True) if reason is not None and rows}

    def predicted(self) -> Array:
        """Positions in the classes, int64 [n]."""
        return self._index[: self._scored]

    def score(self) -> Array:
        """Scores, float [n]."""
        return self._score[: self._scored]

    def probabilities(self) -> Array:
        """Probabilities, float [n, C], if the predictions had them; [0, 0] when nothing was scored."""
        return self._probabilities[: self._scored]

    def stage_seconds(self) -> dict[Stage, float]:
        """Seconds by stage."""
        preparing = sum(one.prepare_seconds for one in self._inferred)
        return {
            Stage.READ: self.read_seconds,
            Stage.PREPARE: self.prepare_seconds + self._seconds_without_rows + preparing,
            Stage.INFER: sum(one.latency_seconds for one in self._inferred),
            Stage.WRITE: self.write_seconds,
        }

    def records(self) -> tuple[BatchRecord, ...]:
        """One record for each batch that was inferred; what was done for the part as a whole is shared out by rows inferred."""
        total = sum(one.rows for one in self._inferred)
        return tuple(
            BatchRecord(
                part=self.part,
                batch=number,
                rows=one.rows,
                latency_seconds=one.latency_seconds,
                read_seconds=self.read_seconds * one.rows / total,
                prepare_seconds=one.prepare_seconds + self.prepare_seconds * one.rows / total,
                write_seconds=self.write_seconds * one.rows / total,
            )
            for number, one in enumerate(self._inferred)
        )

    def _keep(self, found: Predictions) -> None:
        """Append what was said of the rows that the model could say something of."""
        if not self._scored:
            self._score = np.empty(self._rows, found.score.dtype)
            if found.probabilities is not None:
                self._probabilities = np.empty((self._rows, found.probabilities.shape[1]), found.probabilities.dtype)
        kept = slice(None) if found.finite is None else found.finite
        index = found.index[kept]
        rows = slice(self._scored, self._scored + len(index))
        self._index[rows] = index
        self._score[rows] = found.score[kept]
        if found.probabilities is not None:
            self._probabilities[rows] = found.probabilities[kept]
        self._scored += len(index)
