"""One part, from Parquet to durable predictions: read → prepare → infer, batch by batch → write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipelines import model, reading, sink, tables, tuning
from pipelines.batches import Batch, Batches
from pipelines.cancellation import Cancellation
from pipelines.casting import REASONS, Codes
from pipelines.engines import Rest
from pipelines.errors import DataError, ModelError, UnreadableError
from pipelines.features import Features
from pipelines.inferring import Inference
from pipelines.inputs import PartInputs
from pipelines.objects import place
from pipelines.planning import Part
from pipelines.predictions import Predictions, class_names, decode
from pipelines.report import BatchTrial, ModelReport, PartReport, Reason
from pipelines.settings import PipelineSettings
from pipelines.values import ClassName
from pipelines.warming import Walk

_DEFAULT_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """A part with its predictions, not written.

    `table` has the columns asked for, of the n rows that were scored, in order; `rows` int64 [n] are their places in
    the part; `predicted` int64 [n] are positions in the classes; `rejected` counts the other rows by reason;
    `seconds` is the time that reading, preparing and inferring took.
    """

    table: pa.Table
    rows: np.ndarray[Any, np.dtype[np.int64]]
    predicted: np.ndarray[Any, np.dtype[np.int64]]
    rejected: dict[str, int]
    seconds: float


class Scorer:
    """A job's model and features, ready to score parts. One for a process; safe to share between its workers.

    `fingerprint` is the SHA-256 over all that decides a part's output: the bytes of the model file, factory, version
    and task, the features, and the columns that are written.

    Raises:
        ModelError: the model can't be loaded.
        SpecError: an entrypoint can't be loaded, or two columns of the output have the same name.

    """

    def __init__(self, settings: PipelineSettings, folder: Path) -> None:
        self._settings = settings.model
        self._input = settings.input
        self._output = settings.output
        self._batch = settings.batch
        self._reader = reading.Reader()
        self._model = model.load(settings.model, folder)
        labels = frozenset(holdout.label for holdout in settings.holdout)
        self._features = Features(settings.input, folder, self._model.device.staging, labels=labels)
        self._columns: tuple[str, ...] = ()
        self._float = np.float64 if settings.input.dtype == "float64" else np.float32
        self._batch_rows: int = _DEFAULT_BATCH_ROWS if settings.batch.rows == "auto" else settings.batch.rows
        self._inference = Inference(self._model, settings.model)
        self.warm = False
        self.fingerprint = _fingerprint(self._model.fingerprint, settings)

    @property
    def model(self) -> ModelReport:
        """Which model it is."""
        return self._model.report

    def accelerator_memory_peak_bytes(self) -> int | None:
        """The most accelerator memory allocated so far; None on the CPU."""
        return self._model.device.memory_peak_bytes()

    @property
    def batch_rows(self) -> int:
        """Rows in a batch, for all workers: settled by `warm_up`, unless the job does, and halved for what doesn't fit."""
        return self._inference.fitting.at_most(self._batch_rows)

    @batch_rows.setter
    def batch_rows(self, rows: int) -> None:
        self._batch_rows = rows

    @property
    def warnings(self) -> tuple[str, ...]:
        """What did not go as the job asked, though nothing was lost by it."""
        found = self._inference.fitting.warning(self.model.device, self.batch_rows), self._model.warning
        return tuple(warning for warning in found if warning)

    @property
    def classes(self) -> tuple[ClassName, ...]:
        """Class names by position. Raises ModelError when the job has none and no batch was inferred yet."""
        if not self._inference.width:
            raise ModelError("the number of classes is not known before the first batch: give 'classes'")
        return class_names(self._settings, self._inference.width)

    @property
    def width(self) -> int:
        """How many classes the model tells apart; 0 while neither the job nor a batch has said so."""
        return self._inference.width

    def take_over(self, columns: tuple[str, ...], width: int) -> None:
        """Know what the same scorer has found out elsewhere: the feature columns, and how many classes there are."""
        self._columns = columns
        self._inference.width = width or self._inference.width

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature columns, in the model's order; none before the first schema was checked."""
        return self._columns

    def check_schema(self, schema: pa.Schema) -> None:
        """Raise DataError unless a file with this schema can be scored: it has the id columns and the features."""
        for name in self._input.id:
            if schema.names.count(name) != 1:
                raise DataError(f"id column {name!r} is there {schema.names.count(name)} times, not once; check input.id")
        self.check_features(schema)

    def check_features(self, schema: pa.Schema) -> None:
        """Raise DataError unless the schema has the features; a holdout needs no more of a file.

        The first schema that passes settles which columns the globs stand for, and their order: later ones must
        have them all, in any order, and what else they have is not looked at.
        """
        if self._columns:
            self._features.check(schema, self._columns)
        else:
            self._columns = self._features.columns(schema)

    def warm_up(
        self,
        part: Part,
        cancellation: Cancellation,
        *,
        kernel_threads: int = 1,
        rows: int | None = None,
        limit_seconds: float | None = None,
        batch_rows: int | None = None,
    ) -> tuple[BatchTrial, ...]:
        """Run the part's first rows until the model is warm, and settle `batch_rows`. Nothing of it is counted.

        `rows` is how many will be scored: for few of them the best batch size is not looked for as long. `limit_seconds` is
        what a batch may take; `batch_rows` is known from an earlier run. Returns what was tried, one batch at least.

        Raises:
            DataError: the part can't be read, or none of its first rows is valid; another part may do.
            ModelError: the model doesn't fit the data.
            Cancelled: between two batches.

        """
        table = self._reader.read(part, self._columns).slice(0, max(tuning.ENOUGH_ROWS, self.batch_rows))
        inputs = self._features.inputs(table)
        infer = self._walk(inputs, len(table), cancellation).infer
        asked = self._batch.rows
        if asked == "auto" and batch_rows is not None:
            self.batch_rows = batch_rows
        with tuning.kernel_threads(kernel_threads):
            cold = infer(self.batch_rows)
            if not cold.valid:
                tried = min(self.batch_rows, len(table))
                raise DataError(f"{part.source}: none of its first {tried} rows is valid; check the feature columns")
            warm = infer(self.batch_rows)
            self.warm = True
            timed = warm if warm.valid else cold
            trial = BatchTrial(min(self.batch_rows, len(table)), timed.prepare_seconds + timed.latency_seconds)
            if asked != "auto" or batch_rows is not None:
                return (trial,)
            budget = tuning.budget_seconds(part.rows if rows is None else rows, trial.seconds / trial.rows)
            trials = tuning.measured(
                lambda count: infer(count).valid / count,
                available=len(table),
                budget_seconds=budget,
                limit_seconds=limit_seconds,
            ) or (trial,)
            self.batch_rows = tuning.fastest(trials, limit_seconds)
            infer(self.batch_rows)
            return trials

    def compile_if_faster(self, part: Part, cancellation: Cancellation, *, kernel_threads: int) -> None:
        """Where the job asks for it, compile the model for so many kernel threads, and use that if it is faster.

        Measured on the part's first batch, after `warm_up`; raises as that does.
        """
        if not self._settings.compile:
            return
        rows = min(self.batch_rows, part.rows)
        inputs = self._features.inputs(self._reader.read(part, self._columns).slice(0, rows))

        walk = self._walk(inputs, rows, cancellation)
        with tuning.kernel_threads(kernel_threads):
            self._model.compile_if_faster(lambda: walk.infer(rows))

    def held(self, part: Part) -> Callable[[int, int], Batch]:
        """The part's rows in memory, to be inferred again and again: nothing of it is counted, kept or written.

        The function prepares and infers the rows from `first` up to, and without, `last` as `score` would; it may be
        called from several threads, and raises `DataError` and `ModelError` as `score` does, but `OutOfMemoryError` where
        `score` would go on with smaller batches.

        Raises:
            DataError: the part can't be read.

        """
        inputs = self._features.inputs(self._reader.read(part, self._columns))
        return lambda first, last: self._inference.batch(inputs, first, last)

    def can_read(self, part: Part) -> bool:
        """Whether the part's features can be read here and now."""
        try:
            self._reader.read(part, self._columns)
        except UnreadableError:
            return False
        return True

    def score(self, part: Part, cancellation: Cancellation) -> Rest[PartReport]:
        """Score one part, and write its predictions (and rejects); the rest puts them in the output folder, durably.

        A part that can't be read is reported with `error`, all its rows rejected, and writes nothing.

        Raises:
            DataError: the output can't be written, or a row is invalid and `invalid_rows` is `fail`; so may the rest.
            ModelError: the model doesn't fit the data.
            Cancelled: between two batches; nothing was written.

        """
        try:
            table, batches = self._run(part, self._input.id, cancellation)
        except UnreadableError as error:
            report = self._report(part, {Reason.UNREADABLE: part.rows}, error=_located(part, error))
            return Rest(lambda: report)
        started = perf_counter()
        staged = self._stage(part, table, batches)
        batches.write_seconds = perf_counter() - started

        def finish() -> PartReport:
            started = perf_counter()
            staged.publish()
            batches.write_seconds += perf_counter() - started
            return self._report(part, batches.rejected(), batches)

        return Rest(finish)

    def predict(
        self, part: Part, extra_columns: Sequence[str], cancellation: Cancellation, *, repeating: Sequence[str] = ()
    ) -> ScoredPart:
        """What `score` would write, by the very same way, with `extra_columns` in place of the id columns.

        Text of the `repeating` ones comes as dictionaries (see `Reader.read`), unless the model reads it too.

        Raises:
            DataError: the part can't be read, or a row is invalid and `invalid_rows` is `fail`.
            ModelError, Cancelled: as `score`.

        """
        table, batches = self._run(part, extra_columns, cancellation, repeating)
        reasons = batches.reasons()
        rows = np.arange(len(table)) if reasons is None else np.flatnonzero(reasons == 0)
        rejected = {str(reason): count for reason, count in batches.rejected().items()}
        seconds = sum(batches.stage_seconds().values())
        return ScoredPart(tables.scored(table, reasons), rows, batches.predicted(), rejected, seconds)

    def _run(
        self, part: Part, extra_columns: Sequence[str], cancellation: Cancellation, repeating: Sequence[str] = ()
    ) -> tuple[pa.Table, Batches]:
        """Read, prepare and infer: the extra columns of all rows, and what became of each row."""
        cancellation.check()
        started = perf_counter()
        coded = [name for name in repeating if name not in self._columns]
        table = self._reader.read(part, list(dict.fromkeys([*self._columns, *extra_columns])), repeating=coded)
        read = perf_counter()
        inputs = self._features.inputs(table.select(list(self._columns)))
        batches = Batches(
            part.name, len(table), self._decoded, read_seconds=read - started, prepare_seconds=perf_counter() - read
        )
        for first, batch in self._inference.batches(inputs, 0, len(table), self._batch_rows, cancellation):
            if self._input.invalid_rows == "fail" and batch.reasons is not None:
                raise self._invalid(part, table, first, batch.reasons)
            batches.add(first, batch)
        batches.decode()
        return table.select(list(extra_columns)), batches

    def _walk(self, inputs: PartInputs, rows: int, cancellation: Cancellation) -> Walk:
        return Walk(self._inference, inputs, rows, cancellation, forgiving=self._batch.rows == "auto")

    def _decoded(self, outputs: torch.Tensor) -> Predictions:
        return decode(outputs, self._settings, probabilities="probabilities" in self._output.columns)

    def _invalid(self, part: Part, table: pa.Table, first: int, reasons: Codes) -> DataError:
        flawed = int(np.argmax(reasons > 0))
        row, reason = first + flawed, REASONS[reasons[flawed]]
        column = self._features.first_flaw(table.select(list(self._columns)), row)
        return DataError(
            f"{part.source}, row {part.first_row + row} (from 0), column {column!r}: {reason}; "
            'mend the row, or set invalid_rows = "reject"'
        )

    def _stage(self, part: Part, table: pa.Table, batches: Batches) -> sink.StagedPart:
        reasons = batches.reasons()
        folder = place(self._output.path)
        path = folder / part.name
        predictions = tables.predictions(
            tables.scored(table, reasons),
            batches,
            self._output.columns,
            names=pa.array(class_names(self._settings, self._inference.width), None if self._settings.classes else pa.int64()),
            float_type=self._float,
        )
        return sink.stage_part(
            sink.signed(predictions, part.source),
            path,
            compression=self._output.compression,
            rejects=None if reasons is None else tables.rejects(table, reasons, part),
            rejects_path=sink.rejects_path(path, folder),
        )

    def _report(
        self, part: Part, rejected: dict[Reason, int], batches: Batches | None = None, error: str | None = None
    ) -> PartReport:
        return PartReport(
            name=part.name,
            source=part.source,
            output=str(place(self._output.path) / part.name),
            fingerprint=part.fingerprint,
            model=self.fingerprint,
            rows_read=part.rows,
            rows_scored=part.rows - sum(rejected.values()),
            rows_rejected=rejected,
            stage_seconds=batches.stage_seconds() if batches else {},
            batches=batches.records() if batches else (),
            batches_out_of_memory=self._inference.fitting.take(),
            error=error,
        )


def _located(part: Part, error: Exception) -> str:
    """The error with the file and row groups it is about, unless it names the file itself."""
    if part.source in str(error):
        return str(error)
    return f"{part.source}, row groups {part.first_group} to {part.last_group}: {error}"


def _fingerprint(model_sha256: str, settings: PipelineSettings) -> str:
    model = settings.model.model_dump(include={"factory", "version", "task", "output", "classes", "decision_threshold"})
    if settings.model.precision != "float32":
        model["precision"] = settings.model.precision  # left out otherwise: what was scored before there was a choice stands
    decisive = {
        "sha256": model_sha256,
        "model": model,
        "input": settings.input.model_dump(include={"features", "shape", "dtype", "collate", "id"}),
        "output": settings.output.model_dump(include={"columns"}),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
