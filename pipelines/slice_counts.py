"""What was counted in each slice of a holdout: counts that add, within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import ModelError
from pipelines.labels import are_below
from pipelines.quality import Counts
from pipelines.slices import Coded, countable

_TRACKED_BUDGETS = 64
_TRACKED_CELLS = 2**20
_CACHED_ROWS = 32_768


@dataclass(frozen=True, slots=True, eq=False)
class SliceCounts:
    """What was counted in each slice of one dimension. Adds in any order and grouping.

    `examples` and `correct` are int64 `[len(values) + 1, C]`: rows by slice and true class, and those predicted
    right; the last row is of what was folded, `folded` its number of values. At most `limit` values are tracked,
    many times the budget; where a dimension has more, those with the fewest examples are folded. Totals stay
    exact then. Which slices are kept depends a little on the order of the parts, a slice that grew large late
    may lack the rows that it had when it was folded, and one that was folded twice is counted twice in `folded`.
    """

    values: pa.LargeStringArray
    examples: Counts
    correct: Counts
    limit: int
    folded: int = 0

    @classmethod
    def tally(cls, coded: Coded, true: Counts, predicted: Counts, *, classes: int, limit: int) -> Self:
        """Count rows by slice and class. `true` and `predicted` are class indexes, int64 `[n]`."""
        values, codes, folded = coded.values, coded.codes.astype(np.int64, copy=False), 0
        if len(values) > limit:  # so many cells are not made for what is folded anyway
            rows = np.bincount(codes, minlength=len(values))
            keep = largest_first(values, rows)[:limit]
            positions = np.full(len(values), limit)
            positions[keep] = np.arange(limit)
            folded = int(np.count_nonzero(rows)) - int(np.count_nonzero(rows[keep]))
            values, codes = values.take(pa.array(keep)), positions[codes]
        cells = 2 * (codes * classes + true) + (true == predicted)
        counted = np.bincount(cells, minlength=2 * (len(values) + 1) * classes).reshape(-1, classes, 2)
        return cls._of_those_that_occur(values, counted.sum(axis=2), counted[:, :, 1], limit, folded)

    @classmethod
    def of_confusions(cls, values: pa.LargeStringArray, confusions: Counts, *, limit: int) -> Self:
        """What `tally` counts, from the confusion matrix of each value: int64 `[len(values), C, C]`, true × predicted."""
        examples, correct = np.zeros((2, len(values) + 1, confusions.shape[1]), np.int64)
        confusions.sum(axis=2, out=examples[:-1])
        correct[:-1] = confusions.diagonal(axis1=1, axis2=2)
        return cls._of_those_that_occur(values, examples, correct, limit, 0).largest(limit)

    @classmethod
    def _of_those_that_occur(
        cls, values: pa.LargeStringArray, examples: Counts, correct: Counts, limit: int, folded: int
    ) -> Self:
        occurs: npt.NDArray[np.bool_] = examples.sum(axis=1) > 0
        if not occurs[:-1].all():
            values = values.filter(pa.array(occurs[:-1]))
            occurs[-1] = True  # there is always one for the others
            examples, correct = examples[occurs], correct[occurs]
        return cls(values, examples, np.ascontiguousarray(correct), limit, folded)

    def __add__(self, other: SliceCounts) -> SliceCounts:
        folded = self.folded + other.folded
        if self.values.equals(other.values):  # as of most parts
            return SliceCounts(self.values, self.examples + other.examples, self.correct + other.correct, self.limit, folded)
        merged = pa.concat_arrays([self.values, other.values]).dictionary_encode()
        mine, theirs = np.split(merged.indices.to_numpy(), [len(self.values)])
        last = len(merged.dictionary)
        shape = (last + 1, self.examples.shape[1])
        examples, correct = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for counts, positions in ((self, mine), (other, theirs)):
            rows = np.append(positions, last)
            examples[rows] += counts.examples
            correct[rows] += counts.correct
        return SliceCounts(merged.dictionary, examples, correct, self.limit, folded).largest(self.limit)

    def largest(self, limit: int) -> Self:
        """The same counts with at most `limit` values: the smallest are folded, ties by value."""
        if len(self.values) <= limit:
            return self
        order = largest_first(self.values, self.examples[:-1].sum(axis=1))
        keep, fold = order[:limit], np.append(order[limit:], len(order))
        examples, correct = (np.vstack([array[keep], array[fold].sum(axis=0)]) for array in (self.examples, self.correct))
        return type(self)(self.values.take(pa.array(keep)), examples, correct, self.limit, self.folded + len(fold) - 1)


def confusions(coded: Sequence[Coded], true: Counts, predicted: Counts, *, classes: int) -> list[Counts | None]:
    """The confusion matrix of each value of each dimension, `[len(values), C, C]`, true × predicted; None for too many cells.

    `true` and `predicted` are class indexes, int64 `[n]`, the matrices int64. They say all that is asked of the rows later,
    and are counted in one pass over the rows, so many at a time as stay in the cache. No rows give zeros.

    Raises ModelError for a prediction that is none of the classes, whether it is counted or not.
    """
    sizes = [len(one.values) * classes**2 for one in coded]
    found = [np.zeros(size, np.int64) if countable(size, len(true)) else None for size in sizes]
    counted = [(one.codes, counts) for one, counts in zip(coded, found, strict=True) if counts is not None]
    at_once = max(_CACHED_ROWS, *(len(counts) for _, counts in counted), 0)  # each time costs a look at all cells too
    for first in range(0, len(true), at_once):
        rows = slice(first, first + at_once)
        if not are_below(predicted[rows], classes):
            raise ModelError(f"a prediction outside the model's {classes} classes")
        pairs = true[rows] * classes
        pairs += predicted[rows]
        for codes, counts in counted:
            cells = codes[rows].astype(np.int64)
            cells *= classes**2
            cells += pairs
            np.add(counts, np.bincount(cells, minlength=len(counts)), out=counts)
    return [None if counts is None else counts.reshape(-1, classes, classes) for counts in found]


def within_budget(counted: Sequence[tuple[str, SliceCounts]], budget: int) -> list[int]:
    """How many values of each dimension (name, counts) are among the `budget` largest of all, ties by name and value."""
    sizes = [
        (-rows, name, value, position)
        for position, (name, counts) in enumerate(counted)
        for rows, value in zip(counts.examples[:-1].sum(axis=1).tolist(), counts.values.to_pylist(), strict=True)
    ]
    largest = [position for *_, position in sorted(sizes)[:budget]]
    return [largest.count(position) for position in range(len(counted))]


def largest_first(values: pa.LargeStringArray, rows: Counts) -> npt.NDArray[np.int64]:
    """Positions of the slices by falling number of rows, ties by value."""
    table = pa.table({"rows": rows, "value": values})
    order = pc.sort_indices(table, sort_keys=[("rows", "descending"), ("value", "ascending")])
    return np.asarray(order).astype(np.int64)


def tracked_slices(max_slices: int, classes: int) -> int:
    """How many values of one dimension are tracked while streaming.

    64 times the budget, fewer with many classes (about a million cells, 8 MiB), never less than twice the budget.
    """
    return max(2 * max_slices, min(_TRACKED_BUDGETS * max_slices, _TRACKED_CELLS // classes))
