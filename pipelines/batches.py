"""The batches of one part, added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch

from pipelines.casting import OUTPUT, REASONS, Codes
from pipelines.predictions import Predictions
from pipelines.report import BatchRecord, Reason, Stage

Array = np.ndarray[Any, Any]


_DECODED_VALUES = 2**16
"""Outputs are decoded so many values at a time: what a call costs is shared by many batches, and a cache holds so many."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, inferred: the reason of each row, int8 [N] (0: valid; None: all are), and the outputs for the n valid ones.

    `outputs` is [n, C], and may share memory with the next batch's inputs; None when no row was valid. Seconds exclude
    everything else, decoding too.
    """

    reasons: Codes | None
    outputs: torch.Tensor | None
    prepare_seconds: float
    latency_seconds: float

    @property
    def rows(self) -> int:
        """How many rows it has, valid or not."""
        return self.valid if self.reasons is None else len(self.reasons)

    @property
    def valid(self) -> int:
        """How many rows the model was asked of."""
        return 0 if self.outputs is None else len(self.outputs)


class _Inferred(NamedTuple):
    rows: int
    prepare_seconds: float
    latency_seconds: float


class _Waiting:
    """Copies of outputs, one batch's after the other's, that are to be decoded together; `rows` at most."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._values: Array = np.empty((0, 0), np.float32)
        self._count = 0

    def has_room(self, outputs: torch.Tensor) -> bool:
        """Whether those, [n, C], may wait together with what is there."""
        alike = (outputs.shape[1], outputs.numpy().dtype) == (self._values.shape[1], self._values.dtype)
        return not self._count or (alike and self._count + len(outputs) <= len(self._values))

    def take(self, outputs: torch.Tensor) -> bool:
        """Have them wait; there is room. False if they are so many that there is nothing to be won by it."""
        values = outputs.numpy()
        if not self._count:
            most = min(self._rows, _DECODED_VALUES // values.shape[1])
            if len(values) > most // 2:
                return False
            if (self._values.shape, self._values.dtype) != ((most, values.shape[1]), values.dtype):
                self._values = np.empty((most, values.shape[1]), values.dtype)
        self._values[self._count : self._count + len(values)] = values
        self._count += len(values)
        return True

    def taken(self) -> torch.Tensor:
        """All that wait, [n, C]; they do no longer, and may be overwritten by the next."""
        count, self._count = self._count, 0
        return torch.from_numpy(self._values[:count])


class Batches:
    """What the batches of a part came to. Figures are for all rows read (N) or all rows scored (n), in order.

    `decode` says what outputs [n, C] mean; it is called with those of several batches at once. `read_seconds`,
    `prepare_seconds` and `write_seconds` are what was done for the part as a whole.
    """

    def __init__(
        self,
        part: str,
        rows: int,
        decode: Callable[[torch.Tensor], Predictions],
        *,
        read_seconds: float,
        prepare_seconds: float,
    ) -> None:
        self.part = part
        self.read_seconds = read_seconds
        self.prepare_seconds = prepare_seconds
        self.write_seconds = 0.0
        self._rows = rows
        self._decoded = decode
        self._decode_seconds = 0.0
        self._waiting = _Waiting(rows)
        self._taken_rows = self._decoded_rows = 0
        self._scored = 0
        self._reasons: Codes | None = None
        self._index: Array = np.empty(rows, np.int64)
        self._score: Array = np.empty(0, np.float32)
        self._probabilities: Array = np.empty((0, 0), np.float32)
        self._inferred: list[_Inferred] = []
        self._seconds_without_rows = 0.0

    def add(self, first: int, batch: Batch) -> None:
        """Take the batch that begins at row `first`, where the one before ended."""
        outputs = batch.outputs
        if outputs is not None and not self._waiting.has_room(outputs):
            self.decode()
        self._taken_rows = first + batch.rows
        if batch.reasons is not None:
            self._known_reasons()[first : self._taken_rows] = batch.reasons
        if outputs is None:
            self._seconds_without_rows += batch.prepare_seconds
            return
        self._inferred.append(_Inferred(batch.valid, batch.prepare_seconds, batch.latency_seconds))
        if not self._waiting.take(outputs):
            self._say(outputs)

    def decode(self) -> None:
        """Decode what waits for it; no batch comes after the last call. Rows with an output of NaN or infinity are rejected."""
        outputs = self._waiting.taken()
        if len(outputs):
            self._say(outputs)

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
            Stage.INFER: self._decode_seconds + sum(one.latency_seconds for one in self._inferred),
            Stage.WRITE: self.write_seconds,
        }

    def records(self) -> tuple[BatchRecord, ...]:
        """One record for each batch that was inferred; what was done for several at once is shared out by rows inferred."""
        total = sum(one.rows for one in self._inferred)
        return tuple(
            BatchRecord(
                part=self.part,
                batch=number,
                rows=one.rows,
                latency_seconds=one.latency_seconds + self._decode_seconds * one.rows / total,
                read_seconds=self.read_seconds * one.rows / total,
                prepare_seconds=one.prepare_seconds + self.prepare_seconds * one.rows / total,
                write_seconds=self.write_seconds * one.rows / total,
            )
            for number, one in enumerate(self._inferred)
        )

    def _say(self, outputs: torch.Tensor) -> None:
        """Decode outputs: those of the valid rows that were taken and not decoded yet."""
        started = perf_counter()
        found = self._decoded(outputs)
        if found.finite is not None:
            reasons = self._known_reasons()[self._decoded_rows : self._taken_rows]
            reasons[reasons == 0] = np.where(found.finite, np.int8(0), OUTPUT)
        self._decoded_rows = self._taken_rows
        self._keep(found)
        self._decode_seconds += perf_counter() - started

    def _known_reasons(self) -> Codes:
        if self._reasons is None:
            self._reasons = np.zeros(self._rows, np.int8)
        return self._reasons

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
