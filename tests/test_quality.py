"""Quality from counts: every figure is held against scikit-learn, every bound against scipy or a simulation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped]  # scipy publishes no type information
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from pipelines.quality import ClassCounts, Task, class_reports, figures, macro_recall, slice_reports, wilson
from pipelines.report import Estimate

Indexes = npt.NDArray[np.int64]


def counted(true: Indexes, predicted: Indexes, classes: int) -> ClassCounts:
    matrix = confusion_matrix(true, predicted, labels=range(classes)) if len(true) else np.zeros((classes, classes), np.int64)
    return ClassCounts(matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix))


def numbers(*values: int) -> Indexes:
    return np.array(values, np.int64)


def drawn(seed: int, rows: int, weights: list[float], *, right: float) -> tuple[Indexes, Indexes]:
    generator = np.random.default_rng(seed)
    true = generator.choice(len(weights), rows, p=weights)
    guesses = generator.integers(0, len(weights), rows)
    return true, np.where(generator.random(rows) < right, true, guesses)


MULTICLASS = {
    "balanced": (*drawn(1, 500, [0.25] * 4, right=0.8), 4),
    "imbalanced": (*drawn(2, 2_000, [0.9, 0.08, 0.015, 0.005], right=0.7), 4),
    "ten classes": (*drawn(3, 300, [0.1] * 10, right=0.5), 10),
    "a class without examples": (numbers(0, 0, 2, 2, 2), numbers(0, 1, 2, 2, 0), 3),
    "a class never predicted": (numbers(0, 1, 2, 2), numbers(0, 1, 1, 0), 3),
    "a class only predicted": (numbers(0, 0), numbers(0, 3), 4),
    "all wrong": (numbers(0, 1, 2), numbers(1, 2, 0), 3),
    "one row, right": (numbers(1), numbers(1), 3),
    "one row, wrong": (numbers(1), numbers(0), 3),
}

BINARY = {
    "balanced": drawn(4, 400, [0.5, 0.5], right=0.8),
    "rare positives": drawn(5, 3_000, [0.99, 0.01], right=0.9),
    "no positives": (numbers(0, 0, 0), numbers(0, 1, 0)),
    "never predicted": (numbers(0, 1, 1), numbers(0, 0, 0)),
    "positives only": (numbers(1, 1), numbers(1, 0)),
    "negatives only": (numbers(0, 0), numbers(0, 0)),
    "one row": (numbers(1), numbers(1)),
}


def same(ours: float | None, theirs: float) -> bool:
    """Equal, where scikit-learn's NaN (nothing to divide by) is our None."""
    return ours is None if np.isnan(theirs) else ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("case", MULTICLASS)
def test_multiclass_figures_are_scikit_learns_macro_over_classes_with_examples(case: str) -> None:
    """Accuracy, recall, precision and F1 equal scikit-learn's, classes without examples left out."""
    true, predicted, classes = MULTICLASS[case]
    found = figures("multiclass", counted(true, predicted, classes))
    present = np.unique(true)

    assert found.accuracy is not None
    assert found.recall is not None
    assert same(found.accuracy.value, accuracy_score(true, predicted))
    options = {"labels": present, "average": "macro", "zero_division": np.nan}
    assert same(found.recall.value, recall_score(true, predicted, **options))
    assert same(found.precision, precision_score(true, predicted, **options))
    assert same(found.f1_score, f1_score(true, predicted, **options))


@pytest.mark.parametrize("case", BINARY)
def test_binary_figures_are_of_the_positive_class(case: str) -> None:
    """Recall, precision and F1 equal scikit-learn's for class 1; where it divides by zero, there is no figure."""
    true, predicted = BINARY[case]
    found = figures("binary", counted(true, predicted, 2))

    assert found.accuracy is not None
    assert same(found.accuracy.value, accuracy_score(true, predicted))
    options = {"pos_label": 1, "zero_division": np.nan}
    assert same(found.recall and found.recall.value, recall_score(true, predicted, **options))
    assert same(found.precision, precision_score(true, predicted, **options))
    assert same(found.f1_score, f1_score(true, predicted, **options))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_nothing_counted_has_no_figures(task: Task) -> None:
    """Without a single row every figure is None, not 0 and not NaN."""
    assert figures(task, counted(numbers(), numbers(), 2)) == (None, None, None, None)


@pytest.mark.parametrize("case", MULTICLASS)
def test_class_reports_equal_scikit_learn_per_class(case: str) -> None:
    """Each class has scikit-learn's recall and precision, or None where there is nothing to divide by."""
    true, predicted, classes = MULTICLASS[case]
    reports = class_reports([f"c{index}" for index in range(classes)], counted(true, predicted, classes))

    options = {"labels": range(classes), "average": None, "zero_division": np.nan}
    recalls, precisions = recall_score(true, predicted, **options), precision_score(true, predicted, **options)
    assert [report.name for report in reports] == [f"c{index}" for index in range(classes)]
    for report, recall, precision in zip(reports, recalls, precisions, strict=True):
        assert same(report.recall, recall)
        assert same(report.precision, precision)


@given(trials=st.integers(1, 100_000), share=st.floats(0, 1))
def test_wilson_bounds_equal_scipys(trials: int, share: float) -> None:
    """The bounds are scipy's Wilson interval without continuity correction, and hold the proportion."""
    successes = round(trials * share)
    found = wilson(successes, trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")

    assert found is not None
    assert found == pytest.approx((successes / trials, expected.low, expected.high), abs=1e-9)
    assert 0 <= found.lower <= found.value <= found.upper <= 1


@pytest.mark.parametrize(
    ("successes", "trials", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_bounds_equal_the_published_table(successes: int, trials: int, lower: float, upper: float) -> None:
    """Newcombe's Table I (Statistics in Medicine 17 (1998), 857-872), method 3, to its four digits."""
    found = wilson(successes, trials)
    assert found is not None
    assert (round(found.lower, 4), round(found.upper, 4)) == (lower, upper)


def test_wilson_has_no_bounds_without_trials() -> None:
    """Nothing tried gives no estimate; more successes than trials is a mistake of the caller."""
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_macro_recall_of_one_class_is_its_wilson_interval(trials: int, share: float) -> None:
    """With a single class that has examples, macro recall and its bounds are that class's own."""
    right = round(trials * share)
    found = macro_recall(numbers(0, trials, 0), numbers(0, right, 0))
    assert found == pytest.approx(wilson(right, trials), abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=40))
def test_macro_recall_bounds_hold_the_recall_and_stay_ratios(classes: list[tuple[int, float]]) -> None:
    """Whatever the classes, 0 <= lower <= recall <= upper <= 1, and the order of the classes doesn't matter."""
    examples = np.array([rows for rows, _ in classes], np.int64)
    correct = np.array([round(rows * share) for rows, share in classes], np.int64)
    found = macro_recall(examples, correct)
    if not examples.any():
        assert found is None
        return
    assert found is not None
    assert 0 <= found.lower <= found.value <= found.upper <= 1
    assert found.lower < found.upper
    assert found == pytest.approx(macro_recall(examples[::-1], correct[::-1]), abs=1e-12)


COVERED = {
    "ten even classes": ([0.97] * 10, [60] * 10),
    "ten small classes": ([0.95] * 10, [5] * 10),
    "ten good classes": ([0.98] * 10, [20] * 10),
    "a hundred classes of three": ([0.9] * 100, [3] * 100),
    "a hundred classes of one": ([0.9] * 100, [1] * 100),
    "a thousand classes of two": ([0.8] * 1000, [2] * 1000),
    "imbalanced": ([0.95, 0.8], [1_000, 20]),
    "one small bad class": ([0.99] * 9 + [0.3], [100] * 9 + [10]),
    "all kinds": (np.linspace(0.5, 0.99, 10).tolist(), [3, 5, 10, 20, 50, 100, 200, 5, 8, 30]),
    "three tiny classes": ([0.9, 0.8, 0.95], [10, 8, 5]),
    "guessing": ([0.5] * 10, [5] * 10),
}


@pytest.mark.parametrize("case", COVERED)
def test_macro_recall_bounds_cover_the_true_recall(case: str) -> None:
    """In at least 93 % of repeated evaluations the bounds hold the true macro recall, also with small classes."""
    recalls, rows = (np.array(values) for values in COVERED[case])
    repeats = 3_000
    correct = np.random.default_rng(7).binomial(rows, recalls, size=(repeats, len(rows)))
    found = [macro_recall(rows, one) for one in correct]
    truth = recalls.mean()
    # A bound that misses by rounding alone has not missed.
    covered = sum(one is not None and one.lower - 1e-9 <= truth <= one.upper + 1e-9 for one in found)
    assert covered / repeats >= 0.93


def test_macro_recall_bounds_narrow_with_more_examples() -> None:
    """A hundred times the rows at the same recalls make the interval about ten times narrower."""
    few, many = (macro_recall(numbers(10, 30) * times, numbers(7, 27) * times) for times in (1, 100))
    assert few is not None
    assert many is not None
    assert (few.upper - few.lower) / (many.upper - many.lower) == pytest.approx(10, rel=0.15)


def test_a_slice_is_judged_from_min_examples_on() -> None:
    """Figures are of the slice's own rows; one row short of `min_examples` and it is shown, not judged."""
    examples, correct = np.array([[10, 20], [10, 19]]), np.array([[9, 15], [9, 15]])
    found, short = slice_reports("binary", "scanner", ["a", "b"], examples=examples, correct=correct, min_examples=30)
    assert (found.dimension, found.value, found.examples, found.correct, found.judged) == ("scanner", "a", 30, 24, True)
    assert found.accuracy == wilson(24, 30)
    assert found.recall == wilson(15, 20)
    assert (short.value, short.examples, short.judged) == ("b", 29, False)


def test_a_slice_without_positives_has_no_recall() -> None:
    """A recall of nothing is absent; the accuracy is there."""
    examples, correct = np.array([[5, 0]]), np.array([[4, 0]])
    (found,) = slice_reports("binary", "scanner", ["a"], examples=examples, correct=correct, min_examples=1)
    assert found.recall is None
    assert isinstance(found.accuracy, Estimate)
