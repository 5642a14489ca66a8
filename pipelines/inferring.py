"""Rows in memory through the model, batch by batch: prepared, for several batches at once → submitted → collected."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from pipelines.batches import Batch
from pipelines.cancellation import Cancellation
from pipelines.casting import Codes
from pipelines.devices import Pending, mapped
from pipelines.errors import ModelError, OutOfMemoryError
from pipelines.fitting import Fitting, ran_out_of_memory
from pipelines.inputs import PartInputs, Prepared
from pipelines.model import Model
from pipelines.predictions import matrix, width
from pipelines.settings import ModelSettings


class Inference:
    """A model that takes batches of what fits into memory. One for a process; safe to share between its workers.

    `width` is how many classes the model tells apart; 0 while neither the job nor a batch has said so.
    """

    def __init__(self, model: Model, settings: ModelSettings) -> None:
        self.fitting = Fitting()
        self.width = 2 if settings.task == "binary" else len(settings.classes or ())
        self._model = model
        self._settings = settings

    def batches(
        self, inputs: PartInputs, first: int, last: int, size: int, cancellation: Cancellation
    ) -> Iterator[tuple[int, Batch]]:
        """The rows from `first` up to, and without, `last`, in batches of `size` or of as many as fit, each with its first row.

        They come in order. A device that works beside the host has the next batch before this one is waited for.

        Raises:
            DataError: `collate` fails.
            ModelError: the model fails, or what it returns doesn't fit the task; a single row doesn't fit into memory.
            Cancelled: between two batches.

        """
        ahead = _Ahead(inputs, last)
        under_way: deque[_Submitted] = deque()
        while first < last or under_way:
            if first < last and len(under_way) <= self._model.device.ahead:
                cancellation.check()
                submitted = self._fitted(ahead, first, min(first + self.fitting.at_most(size), last))
                if submitted is not None:
                    under_way.append(submitted)
                    first = submitted.last
                    continue
                # What is under way needs memory too: it is collected before the rest is tried again.
                collectable = len(under_way)
            else:
                collectable = 1
            for _ in range(collectable):
                submitted = under_way.popleft()
                yield submitted.first, self._collect(submitted)

    def batch(self, inputs: PartInputs, first: int, last: int) -> Batch:
        """The rows as one batch. Raises as `batches`, but `OutOfMemoryError` where that would go on with smaller ones."""
        return self._collect(self._submit(_Ahead(inputs, last), first, last))

    def _fitted(self, ahead: _Ahead, first: int, last: int) -> _Submitted | None:
        """The rows, submitted; None if they are more than fit into memory. Raises `ModelError` if that is a single one."""
        try:
            return self._submit(ahead, first, last)
        except OutOfMemoryError as error:
            if last - first == 1:
                raise ModelError(
                    f"a batch of 1 row ran out of memory on {self._model.report.device}: free memory that others hold there, "
                    f"lower batch.workers, or use another model.device ({error.__cause__})"
                ) from error
        # Not in the handler: the error holds the frames of the model's calls, and they what was allocated.
        ahead.forget()  # the model may have written to its inputs before it failed
        self.fitting.halve(last - first)
        self._model.device.free_memory()
        return None

    def _submit(self, ahead: _Ahead, first: int, last: int) -> _Submitted:
        prepared, seconds = ahead.prepared(first, last)
        pending = self._model.submit(prepared.inputs) if prepared.valid else None
        return _Submitted(first, last, prepared, seconds, pending)

    def _collect(self, submitted: _Submitted) -> Batch:
        prepared = submitted.prepared
        if submitted.pending is None:
            return Batch(prepared.reasons, None, submitted.prepare_seconds, 0.0)
        output, seconds = self._model.collect(submitted.pending)
        outputs = matrix(output, self._settings, prepared.valid)
        self.width = width(outputs, self._settings)
        return Batch(prepared.reasons, outputs, submitted.prepare_seconds, seconds)


class _Submitted(NamedTuple):
    """A batch under way, of the rows from `first` up to `last`; `pending` is None where none of them is valid."""

    first: int
    last: int
    prepared: Prepared
    prepare_seconds: float
    pending: Pending | None


class _Ahead:
    """Inputs, up to the row `last`, prepared for as many batches at once as `PartInputs.together` says."""

    def __init__(self, inputs: PartInputs, last: int) -> None:
        self._inputs = inputs
        self._last = last
        self._stretch = _NOTHING

    def forget(self) -> None:
        """What is prepared is asked for no more: what comes next is prepared anew."""
        self._stretch = _NOTHING

    def prepared(self, first: int, last: int) -> tuple[Prepared, float]:
        """A batch of the rows from `first` up to, and without, `last`, and its seconds. Batches are asked for in order.

        Raises:
            OutOfMemoryError: there is not enough memory for the inputs.

        """
        if not self._stretch.first <= first < last <= self._stretch.last:
            self._stretch = self._prepared(first, min(first + self._inputs.together(last - first), self._last))
        started = perf_counter()
        found = self._stretch.batch(first, last)
        return found, self._stretch.seconds_of(last - first) + perf_counter() - started

    def _prepared(self, first: int, last: int) -> _Stretch:
        started = perf_counter()
        try:
            prepared = self._inputs.prepare(first, last)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise OutOfMemoryError(f"out of memory for the inputs of {last - first} rows; lower batch.rows") from error
        before = None if prepared.reasons is None else np.concatenate([[0], np.cumsum(prepared.reasons == 0)])
        return _Stretch(first, last, prepared, before, perf_counter() - started)


class _Stretch(NamedTuple):
    """Rows that were prepared at once. `valid_before` int64 [N + 1] counts the valid ones before each; None if all are."""

    first: int
    last: int
    prepared: Prepared
    valid_before: np.ndarray[Any, np.dtype[np.int64]] | None
    seconds: float

    def batch(self, first: int, last: int) -> Prepared:
        """Some of them."""
        if (first, last) == (self.first, self.last):
            return self.prepared
        begin, end = first - self.first, last - self.first
        reasons: Codes | None = None
        if self.valid_before is not None and self.prepared.reasons is not None:
            reasons = self.prepared.reasons[begin:end]
            begin, end = self.valid_before[[begin, end]].tolist()
            if end - begin == last - first:
                reasons = None
        inputs = mapped(lambda tensor: tensor[begin:end], self.prepared.inputs) if end > begin else ()
        return Prepared(inputs, end - begin, reasons)

    def seconds_of(self, rows: int) -> float:
        """What so many of them have taken."""
        return self.seconds * rows / (self.last - self.first)


_NOTHING = _Stretch(0, 0, Prepared((), 0, None), None, 0.0)
