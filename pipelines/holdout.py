"""A labelled holdout: from rows with their labels and predictions to counts that add, and from those to a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import quality, slice_counts, slices
from pipelines.errors import DataError, ModelError
from pipelines.labels import UNLABELLED, Labels, listed
from pipelines.quality import ClassCounts, Counts, Task
from pipelines.report import HoldoutReport, SliceReport
from pipelines.settings import HoldoutSettings
from pipelines.slice_counts import SliceCounts
from pipelines.values import ClassName


@dataclass(frozen=True, slots=True, eq=False)
class HoldoutCounts:
    """What was counted on some rows of a holdout; adds in any order and grouping (see `SliceCounts` for its one limit).

    The confusion matrix is sparse: `cells` (int64 `[K]`, rising) are true class × number of classes + predicted
    class, `rows` their rows. `slices` is in the order of the dimensions. `unlabelled` rows had no label and
    are in none of the others. Memory is bounded by the classes and `max_slices`, whatever the data.
    """

    cells: Counts
    rows: Counts
    slices: tuple[SliceCounts, ...]
    unlabelled: int

    @classmethod
    def empty(cls) -> Self:
        """No rows: the neutral element of addition."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), (), 0)

    def __add__(self, other: HoldoutCounts) -> HoldoutCounts:
        if np.array_equal(self.cells, other.cells):  # as of most parts
            cells, rows = self.cells, self.rows + other.rows
        else:
            cells, positions = np.unique(np.concatenate([self.cells, other.cells]), return_inverse=True)
            rows = np.zeros(len(cells), np.int64)
            np.add.at(rows, positions, np.concatenate([self.rows, other.rows]))
        summed = tuple(mine + theirs for mine, theirs in zip(self.slices, other.slices, strict=False))
        return HoldoutCounts(cells, rows, summed or self.slices or other.slices, self.unlabelled + other.unlabelled)


class HoldoutCounter:
    """Counts one holdout. Holds no rows and doesn't change, so any number of workers may share it.

    `classes` are the model's, in the order of its outputs. Errors name the column; who asked knows the holdout.
    """

    def __init__(self, settings: HoldoutSettings, classes: tuple[ClassName, ...], task: Task) -> None:
        self._settings = settings
        self._size = len(classes)
        self._task: Task = task
        self._dimensions = slices.dimensions(settings)
        self._tracked = slice_counts.tracked_slices(settings.max_slices, len(classes))
        self._labels = Labels(settings.label, classes)

    def columns(self) -> tuple[str, ...]:
        """The columns it reads: the label, then those of the slices, each once."""
        sliced = (column for dimension in self._dimensions for column in dimension.columns)
        return tuple(dict.fromkeys([self._settings.label, *sliced]))

    def repeating(self) -> tuple[str, ...]:
        """Those of the slices, whose values come again and again: text may come as dictionaries, which is counted sooner."""
        return tuple(column for column in self.columns() if column != self._settings.label)

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError when a column is missing, ambiguous or of a type that can't serve, naming it."""
        self._check_columns(schema)
        for dimension in self._dimensions:
            dimension.check(schema)

    def count(self, table: pa.Table, predicted: npt.NDArray[np.int64]) -> HoldoutCounts:
        """Count the rows of `table` (which has `columns()`) and what the model said of each.

        `predicted` are class indexes, int64 `[rows]`. No rows give no counts. A row with a null or NaN label
        is counted as unlabelled and not judged.

        Raises DataError as `check` does and for a label that isn't one of the model's classes; ModelError
        when `predicted` doesn't fit the table or the classes.
        """
        self._check_columns(table.schema)
        if predicted.shape != (table.num_rows,):
            raise ModelError(f"predictions of shape {predicted.shape} for {table.num_rows:,} rows")
        labels = slices.plain(table.column(self._settings.label))
        true, unlabelled = self._labels.indexes(labels), 0
        if labels.null_count:
            labelled = true != UNLABELLED
            unlabelled = len(true) - int(labelled.sum())
            table, true, predicted = table.filter(pa.array(labelled)), true[labelled], predicted[labelled]
        coded = [dimension.code(table) for dimension in self._dimensions]
        confusions = slice_counts.confusions(coded, true, predicted, classes=self._size)
        counted = tuple(
            SliceCounts.tally(one, true, predicted, classes=self._size, limit=self._tracked)
            if matrices is None
            else SliceCounts.of_confusions(one.values, matrices, limit=self._tracked)
            for one, matrices in zip(coded, confusions, strict=True)
        )
        whole = next((matrices.sum(axis=0).ravel() for matrices in confusions if matrices is not None), None)
        cells, rows = _counted(true * self._size + predicted, self._size**2) if whole is None else _occurring(whole)
        return HoldoutCounts(cells, rows, counted, unlabelled)

    def report(
        self, counts: HoldoutCounts, *, evaluated_at: float, rejected: Mapping[str, int], seconds: float
    ) -> HoldoutReport:
        """All that the counts say. `rejected` are rows that were not scored, by reason; `label` is added to it.

        Slices are in the order of the dimensions, the largest first, `__other__` last.
        """
        true, said = np.divmod(counts.cells, self._size)
        classes = self._class_counts(true, said, counts.rows)
        found = quality.figures(self._task, classes)
        kept = self._within_budget(counts.slices)
        return HoldoutReport(
            name=self._settings.name,
            min_examples=self._settings.min_examples,
            evaluated_at=evaluated_at,
            examples=int(classes.examples.sum()),
            correct=int(classes.correct.sum()),
            rejected={**rejected, **({"label": counts.unlabelled} if counts.unlabelled else {})},
            accuracy=found.accuracy,
            recall=found.recall,
            precision=found.precision,
            f1_score=found.f1_score,
            classes=quality.class_reports(self._labels.names(), classes),
            confusion=tuple(zip(true.tolist(), said.tolist(), counts.rows.tolist(), strict=True)),
            slices=tuple(
                one
                for dimension, counted in zip(self._dimensions, kept, strict=False)
                for one in self._slice_reports(dimension.name, counted)
            ),
            slices_dropped=sum(counted.folded for counted in kept),
            seconds=seconds,
        )

    def _class_counts(self, true: Counts, said: Counts, rows: Counts) -> ClassCounts:
        examples, predicted, correct = (np.zeros(self._size, np.int64) for _ in ClassCounts._fields)
        np.add.at(examples, true, rows)
        np.add.at(predicted, said, rows)
        right = true == said
        correct[true[right]] = rows[right]
        return ClassCounts(examples, predicted, correct)

    def _within_budget(self, counted: tuple[SliceCounts, ...]) -> list[SliceCounts]:
        """Keep the holdout's `max_slices` largest slices; fold the others."""
        names = (dimension.name for dimension in self._dimensions)
        kept = slice_counts.within_budget(list(zip(names, counted, strict=False)), self._settings.max_slices)
        return [counts.largest(size) for counts, size in zip(counted, kept, strict=True)]

    def _slice_reports(self, dimension: str, counts: SliceCounts) -> list[SliceReport]:
        order = slice_counts.largest_first(counts.values, counts.examples[:-1].sum(axis=1))
        values = counts.values.take(pa.array(order)).to_pylist()
        if counts.examples[-1].any():
            order, values = np.append(order, len(order)), [*values, slices.OTHER]
        return quality.slice_reports(
            self._task,
            dimension,
            values,
            examples=counts.examples[order],
            correct=counts.correct[order],
            min_examples=self._settings.min_examples,
        )

    def _check_columns(self, schema: pa.Schema) -> None:
        for column in self.columns():
            self._check_present(schema, column)
        self._labels.check(schema.field(self._settings.label).type)

    def _check_present(self, schema: pa.Schema, column: str) -> None:
        found = len(schema.get_all_field_indices(column))
        role = "label" if column == self._settings.label else "slices"
        if found > 1:
            raise DataError(f"column {column!r} ({role}) is there {found} times; rename all but one")
        if not found:
            near = get_close_matches(column, schema.names)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"its columns are {listed(schema.names)}"
            raise DataError(f"no column {column!r} ({role}); {hint}")


def _counted(cells: Counts, size: int) -> tuple[Counts, Counts]:
    """The numbers below `size` that occur, rising, and how often each does."""
    if slices.countable(size, len(cells)):
        return _occurring(np.bincount(cells, minlength=size))
    occurring, rows = np.unique(cells, return_counts=True)
    return occurring, rows.astype(np.int64)


def _occurring(rows: Counts) -> tuple[Counts, Counts]:
    """The positions of what isn't 0, and it."""
    occurring = np.flatnonzero(rows)
    return occurring, rows[occurring]
