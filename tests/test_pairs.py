"""Two models counted side by side: the same rows, slices and figures as one model alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import pairs, quality
from pipelines.errors import DataError
from pipelines.holdout import HoldoutCounter
from pipelines.pairs import PairCounter, PairCounts
from pipelines.settings import HoldoutSettings

CLASSES = (0, 1, 2)
SETTINGS = HoldoutSettings.model_validate(
    {
        "name": "labelled",
        "path": "x",
        "label": "truth",
        "slices": ["side", ["side", "size"]],
        "min_examples": 3,
        "max_slices": 4,
    }
)


def counter(**changes: object) -> PairCounter:
    return PairCounter(SETTINGS.model_copy(update=changes), CLASSES, "multiclass")


def table(rows: int, seed: int) -> tuple[pa.Table, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    truth = [
        None if gone else int(one) for one, gone in zip(random.integers(0, 3, rows), random.random(rows) < 0.1, strict=True)
    ]
    columns = {
        "truth": pa.array(truth, pa.int64()),
        "side": random.choice(["a", "b", "c"], rows),
        "size": random.integers(0, 3, rows),
    }
    return pa.table(columns), random.integers(0, 3, rows), random.integers(0, 3, rows)


@given(rows=st.integers(1, 80), seed=st.integers(0, 1_000), cuts=st.lists(st.integers(0, 80), max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_split_into_parts_counts_the_same(rows: int, seed: int, cuts: list[int]) -> None:
    """Counts add."""
    whole, ours, theirs = table(rows, seed)
    one = counter()
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    counts: PairCounts = ()
    for low, high in pairwise(edges):
        counts = pairs.add(counts, one.count(whole.slice(low, high - low), ours[low:high], theirs[low:high]))

    def shown(found: PairCounts) -> list[tuple[object, ...]]:
        return [
            (pair.dimension, pair.value, *(array.tolist() for array in (pair.examples, pair.champion, pair.won, pair.lost)))
            for pair in one.pairs(found)
        ]

    assert sorted(shown(counts), key=str) == sorted(shown(one.count(whole, ours, theirs)), key=str)


@given(seed=st.integers(0, 1_000))
@settings(max_examples=40, deadline=None)
def test_each_models_figures_are_those_of_a_run(seed: int) -> None:
    """What a run's holdout report says of either model is what the pair says of it, slice by slice."""
    rows, ours, theirs = table(200, seed)
    found = {(pair.dimension, pair.value): pair for pair in counter().pairs(counter().count(rows, ours, theirs))}
    alone = HoldoutCounter(SETTINGS, CLASSES, "multiclass")
    for predicted, side in ((ours, "champion"), (theirs, "candidate")):
        report = alone.report(alone.count(rows, predicted), evaluated_at=0.0, rejected={}, seconds=0.0)
        whole = found["", ""]
        assert report.accuracy == quality.accuracy(whole.examples, getattr(whole, side))
        assert report.recall == quality.recall("multiclass", whole.examples, getattr(whole, side))
        judged = {(one.dimension, one.value): one for one in report.slices if one.judged and one.value != "__other__"}
        assert judged.keys() == found.keys() - {("", "")}
        for key, one in judged.items():
            assert one.accuracy == quality.accuracy(found[key].examples, getattr(found[key], side))
            assert one.recall == quality.recall("multiclass", found[key].examples, getattr(found[key], side))


def test_won_and_lost_are_rows_that_one_model_alone_had_right() -> None:
    """A row that both had wrong, each in its way, is neither."""
    rows = pa.table({"truth": [0, 0, 1, 2, None], "side": list("aaaaa"), "size": [0] * 5})
    whole, *_ = counter().pairs(counter().count(rows, np.array([0, 1, 1, 0, 2]), np.array([1, 0, 1, 1, 2])))
    assert (whole.examples.tolist(), whole.champion.tolist()) == ([2, 1, 1], [1, 1, 0])
    assert (whole.won.tolist(), whole.lost.tolist(), whole.candidate.tolist()) == ([1, 0, 0], [1, 0, 0], [1, 1, 0])


def test_no_rows_and_no_labels_give_nothing() -> None:
    """Nothing to compare on."""
    rows, ours, theirs = table(5, 0)
    assert counter().count(rows.slice(0, 0), ours[:0], theirs[:0]) == ()
    unlabelled = rows.set_column(0, "truth", pa.nulls(5, pa.int64()))
    assert counter().pairs(counter().count(unlabelled, ours, theirs)) == []


def test_small_slices_are_not_judged() -> None:
    """As in a report."""
    rows, ours, theirs = table(50, 0)
    assert [pair.dimension for pair in counter(min_examples=51).pairs(counter().count(rows, ours, theirs))] == [""]


def test_an_unknown_label_is_an_error() -> None:
    """As it is for one model."""
    with pytest.raises(DataError, match="does not know"):
        counter().count(pa.table({"truth": [7], "side": ["a"], "size": [0]}), np.array([0]), np.array([0]))
