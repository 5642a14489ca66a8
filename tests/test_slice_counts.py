"""What is counted in each slice: counts that add, within bounds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import slice_counts
from pipelines.errors import ModelError
from pipelines.slice_counts import SliceCounts, confusions, tracked_slices
from pipelines.slices import Coded, SliceDimension


def tallied(texts: list[str], hits: list[bool], limit: int = 1_000) -> SliceCounts:
    coded = SliceDimension("column", ("column",)).code(pa.table({"column": pa.array(texts, pa.string())}))
    true = np.array([len(text) % 2 for text in texts], np.int64)
    return SliceCounts.tally(coded, true, np.where(hits, true, 1 - true), classes=2, limit=limit)


def shown(counts: SliceCounts) -> dict[str, tuple[list[int], list[int]]]:
    names = [*counts.values.to_pylist(), "__other__"]
    return {name: (e, c) for name, e, c in zip(names, counts.examples.tolist(), counts.correct.tolist(), strict=True)}


def test_rows_are_counted_by_slice_and_true_class() -> None:
    """Examples and correct predictions of each slice, by class; nothing is folded under the limit."""
    counts = tallied(["a", "bb", "a", "a"], [True, False, True, False])
    assert shown(counts) == {"a": ([0, 3], [0, 2]), "bb": ([1, 0], [0, 0]), "__other__": ([0, 0], [0, 0])}
    assert counts.folded == 0


@given(
    rows=st.lists(st.tuples(st.sampled_from(["a", "bb", "c", "dd", "", "null"]), st.booleans()), max_size=40),
    cut=st.integers(0, 40),
)
def test_counts_of_two_halves_add_to_the_counts_of_all(rows: list[tuple[str, bool]], cut: int) -> None:
    """Wherever the rows are cut, and whichever half comes first."""
    texts, hits = [text for text, _ in rows], [hit for _, hit in rows]
    first, second = tallied(texts[:cut], hits[:cut]), tallied(texts[cut:], hits[cut:])
    assert shown(first + second) == shown(tallied(texts, hits)) == shown(second + first)


def test_over_the_limit_the_smallest_are_folded_and_totals_stay() -> None:
    """The largest are tracked (ties by value); what is folded is counted, and no row is lost."""
    texts = [*("a" * 3), *("b" * 2), "e", "d", "c"]
    counts = tallied(texts, [True] * 8, limit=3)
    assert shown(counts) == {"a": ([0, 3],) * 2, "b": ([0, 2],) * 2, "c": ([0, 1],) * 2, "__other__": ([0, 2],) * 2}
    assert counts.folded == 2

    more = counts + tallied(["d", "d", "z"], [False] * 3, limit=3)
    assert shown(more) == {"a": ([0, 3],) * 2, "b": ([0, 2],) * 2, "d": ([0, 2], [0, 0]), "__other__": ([0, 4], [0, 3])}
    assert more.folded == 4


def test_a_million_values_take_bounded_memory() -> None:
    """Ten parts of 100,000 new values each: never more than the limit is tracked, and every row is counted."""
    limit = tracked_slices(200, 10)
    total: SliceCounts | None = None
    for part in range(10):
        coded = SliceDimension("user", ("user",)).code(pa.table({"user": np.arange(part * 100_000, (part + 1) * 100_000)}))
        true = np.arange(100_000) % 10
        counts = SliceCounts.tally(coded, true, true, classes=10, limit=limit)
        total = counts if total is None else total + counts
        assert len(total.values) <= limit
        assert total.examples.nbytes <= 8 * 10 * (limit + 1)
    assert total is not None
    assert total.examples.sum() == total.correct.sum() == 1_000_000
    assert total.folded == 1_000_000 - limit


def test_fewer_slices_are_tracked_with_many_classes() -> None:
    """64 times the budget, about a million cells at most, and never less than twice the budget."""
    assert tracked_slices(200, 10) == 12_800
    assert tracked_slices(200, 1_000) == 1_048
    assert tracked_slices(1_000, 100_000) == 2_000


def test_no_rows_have_no_counts() -> None:
    """There is a row of zeros for what was folded, and nothing else."""
    coded, nothing = coded_as(np.zeros(0, np.int64), 0), np.zeros(0, np.int64)
    assert shown(SliceCounts.tally(coded, nothing, nothing, classes=2, limit=5)) == {"__other__": ([0, 0], [0, 0])}
    assert confusions([], nothing, nothing, classes=2) == []


def coded_as(codes: np.ndarray[tuple[int], np.dtype[np.int64]], values: int) -> Coded:
    return Coded(codes, pa.array([f"v{number}" for number in range(values)], pa.large_string()))


@pytest.mark.parametrize("cached_rows", [1, 7, 1_000])
def test_confusions_of_several_dimensions_say_what_tallies_say(cached_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are counted at a time; a dimension of too many cells is left to the tally."""
    monkeypatch.setattr(slice_counts, "_CACHED_ROWS", cached_rows)
    random = np.random.default_rng(20261128)
    rows, classes = 5_000, 3
    true, predicted = random.integers(0, classes, rows), random.integers(0, classes, rows)
    few, several = (coded_as(random.integers(0, size, rows), size) for size in (4, 30))
    many = coded_as(random.integers(0, rows, rows), rows)
    first, none, second = confusions([few, many, several], true, predicted, classes=classes)
    assert none is None
    for coded, matrices in ((few, first), (several, second)):
        assert matrices is not None
        assert matrices.sum() == rows
        found = SliceCounts.of_confusions(coded.values, matrices, limit=100)
        assert shown(found) == shown(SliceCounts.tally(coded, true, predicted, classes=classes, limit=100))


@pytest.mark.parametrize("stranger", [-1, 2, 2**62])
def test_a_prediction_that_is_no_class_is_refused(stranger: int) -> None:
    """Wherever it stands, and whether or not anything is sliced: it would be counted as another pair of classes."""
    true = np.zeros(100_000, np.int64)
    predicted = true.copy()
    predicted[-1] = stranger
    for coded in ([], [coded_as(true, 1)]):
        with pytest.raises(ModelError, match="a prediction outside the model's 2 classes"):
            confusions(coded, true, predicted, classes=2)
