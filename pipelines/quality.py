"""Quality from counts: accuracy, recall, precision, F1 and their bounds. Pure numpy, no tables, no tensors.

Counts per class are int64 arrays of shape `[C]`. Every figure is None where there is nothing to divide by:
never 0, never NaN. The positive class of a binary task is index 1.

Macro figures are those of scikit-learn with `labels=` the classes that have examples, `average="macro"` and
`zero_division=np.nan`: a class without examples takes no part in any macro figure, and one that was never
predicted takes no part in macro precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.report import ClassReport, Estimate, SliceReport

Counts = npt.NDArray[np.int64]
Task = Literal["binary", "multiclass"]

NORMAL_QUANTILE = 1.959963984540054
"""The standard normal's 97.5 % point: two-sided 95 %."""

_SQUARE = NORMAL_QUANTILE**2
_POSITIVE = 1


class ClassCounts(NamedTuple):
    """Rows of each class, each `[C]` int64: `examples` are of it, `predicted` were said to be, `correct` were both."""

    examples: Counts
    predicted: Counts
    correct: Counts


class Figures(NamedTuple):
    """The four figures of a holdout. Binary: of the positive class; multiclass: macro. Accuracy is of all rows."""

    accuracy: Estimate | None
    recall: Estimate | None
    precision: float | None
    f1_score: float | None


def wilson(successes: int, trials: int) -> Estimate | None:
    """A proportion with its 95 % Wilson score bounds; None for no trials.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22 (1927), 209-212; without continuity correction.

    Raises ValueError unless `0 <= successes <= trials`.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    return _wilson(np.array([successes]), np.array([trials]))[0]


def macro_recall(examples: Counts, correct: Counts) -> Estimate | None:
    """The mean recall of the classes that have examples, with 95 % bounds; None for no examples.

    The bounds are Wilson's at the *effective* number of examples: as many as a plain proportion would need
    to vary as much as this mean does. With recalls `p = correct / examples` of k classes, their mean m has the
    variance `V = sum(p (1 - p) / examples) / k**2`, and the effective number is `m (1 - m) / V`. For both, p is
    drawn towards one half, `(correct + z**2 / 2) / (examples + z**2)`: a class of three rows that are all right
    isn't one without variance. For one class this is exactly the Wilson interval.

    Sources: for a Wilson interval at the effective sample size of a stratified mean, C. Franco, R. Little,
    T. Louis and E. Slud, Journal of Survey Statistics and Methodology 7 (2019), 334-364; for the shift, A. Agresti
    and B. Coull, The American Statistician 52 (1998), 119-126. Adding up the squared arms of each class's Wilson
    interval (Newcombe's MOVER) was tried and covered only 80 to 90 % where many classes are small and good.
    """
    return macro_recalls(examples[None], correct[None])[0]


def macro_recalls(examples: Counts, correct: Counts) -> list[Estimate | None]:
    """`macro_recall` of each row, from `[S, C]`."""
    present = examples > 0
    classes = np.maximum(present.sum(axis=1), 1)
    rows, right = np.where(present, examples, 1), np.where(present, correct, 0)
    shifted = (right + _SQUARE / 2) / (rows + _SQUARE)
    means = _sums(shifted, present) / classes
    variances = _sums(shifted * (1 - shifted) / rows, present) / classes**2
    trials = np.divide(means * (1 - means), variances, out=np.zeros(len(means)), where=variances > 0)
    return _score_intervals(_sums(right / rows, present) / classes, trials)


def _sums(values: npt.NDArray[np.float64], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Of the classes that have examples, `[S]` from `[S, C]`."""
    sums: npt.NDArray[np.float64] = np.where(present, values, 0.0).sum(axis=1)
    return sums


def _wilson(successes: Counts, trials: Counts) -> list[Estimate | None]:
    """`wilson` of each, from `[S]`."""
    return _score_intervals(successes / np.maximum(trials, 1), trials.astype(np.float64))


def _score_intervals(shares: npt.NDArray[np.float64], trials: npt.NDArray[np.float64]) -> list[Estimate | None]:
    """Shares with their bounds, from `[S]`; None for no trials."""
    tried = trials > 0
    known = np.where(tried, trials, 1.0)
    spread = NORMAL_QUANTILE * np.sqrt(shares * (1 - shares) / known + _SQUARE / (4 * known**2))
    centre = shares + _SQUARE / (2 * known)
    widened = 1 + _SQUARE / known
    # Rounding must not carry a bound past the share that it bounds, nor out of 0 to 1.
    lower = np.maximum(0.0, np.minimum(shares, (centre - spread) / widened))
    upper = np.minimum(1.0, np.maximum(shares, (centre + spread) / widened))
    found = map(Estimate, shares.tolist(), lower.tolist(), upper.tolist())
    return [one if there else None for one, there in zip(found, tried.tolist(), strict=True)]


def accuracy(examples: Counts, correct: Counts) -> Estimate | None:
    """Right ÷ all rows, (TP + TN) / (TP + TN + FP + FN) for two classes, with its Wilson bounds."""
    return accuracies(examples[None], correct[None])[0]


def accuracies(examples: Counts, correct: Counts) -> list[Estimate | None]:
    """`accuracy` of each row, from `[S, C]`."""
    return _wilson(correct.sum(axis=1), examples.sum(axis=1))


def recall(task: Task, examples: Counts, correct: Counts) -> Estimate | None:
    """Binary: TP / (TP + FN) with its Wilson bounds. Multiclass: `macro_recall`."""
    return recalls(task, examples[None], correct[None])[0]


def recalls(task: Task, examples: Counts, correct: Counts) -> list[Estimate | None]:
    """`recall` of each row, from `[S, C]`."""
    if task == "binary":
        return _wilson(correct[:, _POSITIVE], examples[:, _POSITIVE])
    return macro_recalls(examples, correct)


def figures(task: Task, counts: ClassCounts) -> Figures:
    """All figures of one holdout.

    Binary: precision is TP / (TP + FP), F1 is 2 TP / (2 TP + FP + FN). Multiclass: their macro means, as
    the module says.
    """
    judged = np.array([_POSITIVE]) if task == "binary" else np.flatnonzero(counts.examples)
    examples, predicted, correct = (array[judged] for array in counts)
    return Figures(
        accuracy=accuracy(counts.examples, counts.correct),
        recall=recall(task, counts.examples, counts.correct),
        precision=_mean_ratio(correct, predicted),
        f1_score=_mean_ratio(2 * correct, examples + predicted),
    )


def _mean_ratio(numerators: Counts, denominators: Counts) -> float | None:
    divisible = denominators > 0
    return float((numerators[divisible] / denominators[divisible]).mean()) if divisible.any() else None


def class_reports(names: Sequence[str], counts: ClassCounts) -> tuple[ClassReport, ...]:
    """One report for each class, in the order of `names`."""
    rows = zip(names, *(array.tolist() for array in counts), strict=True)
    return tuple(
        ClassReport(
            name=name,
            examples=examples,
            predicted=predicted,
            correct=correct,
            recall=correct / examples if examples else None,
            precision=correct / predicted if predicted else None,
        )
        for name, examples, predicted, correct in rows
    )


def slice_reports(
    task: Task, dimension: str, values: Sequence[str], *, examples: Counts, correct: Counts, min_examples: int
) -> list[SliceReport]:
    """One report for each slice, from its rows per true class (`examples`, `[S, C]`) and those predicted right (`correct`)."""
    rows = examples.sum(axis=1)
    return list(
        map(
            SliceReport,
            repeat(dimension),
            values,
            rows.tolist(),
            correct.sum(axis=1).tolist(),
            accuracies(examples, correct),
            recalls(task, examples, correct),
            (rows >= min_examples).tolist(),
        )
    )
