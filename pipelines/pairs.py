"""Two models on the same labelled rows: counts of which of them was right, that add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import slice_counts, slices
from pipelines.holdout import HoldoutCounter
from pipelines.labels import UNLABELLED, Labels
from pipelines.quality import Counts, Task
from pipelines.settings import HoldoutSettings
from pipelines.slice_counts import SliceCounts
from pipelines.slices import Coded
from pipelines.values import ClassName


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The rows of one slice, counted per true class, each int64 `[C]`.

    All `examples`, those that the `champion` had right, and those that only the candidate (`won`) or only the champion
    (`lost`) had right. `dimension` and `value` are empty for the whole holdout.
    """

    dimension: str
    value: str
    examples: Counts
    champion: Counts
    won: Counts
    lost: Counts

    @property
    def candidate(self) -> Counts:
        """Those that the candidate had right, `[C]`."""
        return self.champion + self.won - self.lost


@dataclass(frozen=True, slots=True, eq=False)
class PairedSlices:
    """One dimension. The three count the same rows in the same slices, each another thing as right: see `Pair`."""

    champion: SliceCounts
    won: SliceCounts
    lost: SliceCounts

    def __add__(self, other: PairedSlices) -> PairedSlices:
        return PairedSlices(self.champion + other.champion, self.won + other.won, self.lost + other.lost)

    def largest(self, limit: int) -> PairedSlices:
        """The same with at most `limit` values."""
        return PairedSlices(self.champion.largest(limit), self.won.largest(limit), self.lost.largest(limit))

    def pairs(self, dimension: str) -> list[Pair]:
        """A pair for each value; what was folded is no slice."""
        return [
            Pair(
                dimension,
                value,
                self.champion.examples[row],
                *(one.correct[row] for one in (self.champion, self.won, self.lost)),
            )
            for row, value in enumerate(self.champion.values.to_pylist())
        ]


PairCounts = tuple[PairedSlices, ...]
"""What was counted on some rows of a holdout: the whole, then its dimensions in order. Empty for no rows."""


def add(one: PairCounts, other: PairCounts) -> PairCounts:
    """The counts of both."""
    return tuple(mine + theirs for mine, theirs in zip(one, other, strict=True)) if one and other else one or other


class PairCounter:
    """Counts one holdout for two models. Holds no rows and doesn't change, so any number of workers may share it.

    Labels, slices and their budget are those of `HoldoutCounter`, whose `columns` and `check` hold here too.
    """

    def __init__(self, settings: HoldoutSettings, classes: tuple[ClassName, ...], task: Task) -> None:
        counter = HoldoutCounter(settings, classes, task)
        self.columns, self.check = counter.columns, counter.check
        self._settings = settings
        self._size = len(classes)
        self._labels = Labels(settings.label, classes)
        self._dimensions = slices.dimensions(settings)
        self._tracked = slice_counts.tracked_slices(settings.max_slices, len(classes))

    def count(self, table: pa.Table, champion: npt.NDArray[np.int64], candidate: npt.NDArray[np.int64]) -> PairCounts:
        """Count the rows of `table` (which has `columns()`) and what the models said of each: class indexes, `[rows]`.

        A row with a null or NaN label is left out. Raises DataError as `HoldoutCounter.count` does.
        """
        true = self._labels.indexes(slices.plain(table.column(self._settings.label)))
        labelled = true != UNLABELLED
        table, true = table.filter(pa.array(labelled)), true[labelled]
        if not len(true):
            return ()
        ours, theirs = champion[labelled] == true, candidate[labelled] == true
        whole = Coded(np.zeros(len(true), np.int64), pa.array([""], pa.large_string()))
        coded = (whole, *(dimension.code(table) for dimension in self._dimensions))

        def tally(one: Coded, right: npt.NDArray[np.bool_]) -> SliceCounts:
            said = np.where(right, true, UNLABELLED)
            return SliceCounts.tally(one, true, said, classes=self._size, limit=self._tracked)

        return tuple(PairedSlices(tally(one, ours), tally(one, theirs & ~ours), tally(one, ours & ~theirs)) for one in coded)

    def pairs(self, counts: PairCounts) -> list[Pair]:
        """The whole, then the slices that a report would show and that have `min_examples`. Empty for no rows."""
        if not counts:
            return []
        whole, *counted = counts
        names = [dimension.name for dimension in self._dimensions]
        sizes = [(name, one.champion) for name, one in zip(names, counted, strict=True)]
        kept = slice_counts.within_budget(sizes, self._settings.max_slices)
        found = [
            pair
            for name, one, size in zip(names, counted, kept, strict=True)
            for pair in one.largest(size).pairs(name)
            if pair.examples.sum() >= self._settings.min_examples
        ]
        return [*whole.pairs(""), *found]
