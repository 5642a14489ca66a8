"""Quality from counts: accuracy, recall, precision, F1 and their bounds. Pure numpy, no tables, no tensors.

Counts per class are int64 arrays of shape `[C]`. Every figure is None where there is nothing to divide by:
never 0, never NaN. The positive class of a binary task is index 1.

Macro figures are those of scikit-learn with `labels=` the classes that have examples, `average="macro"` and
`zero_division=np.nan`: a class without examples takes no part in any macro figure, and one that was never
predicted takes no part in macro precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
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
    return _score_interval(successes / trials, trials) if trials else None


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
    present = examples > 0
    if not present.any():
        return None
    rows, right = examples[present], correct[present]
    shifted = (right + _SQUARE / 2) / (rows + _SQUARE)
    mean = float(shifted.mean())
    variance = float((shifted * (1 - shifted) / rows).sum()) / len(rows) ** 2
    return _score_interval(float((right / rows).mean()), mean * (1 - mean) / variance)


def _score_interval(share: float, trials: float) -> Estimate:
    spread = NORMAL_QUANTILE * sqrt(share * (1 - share) / trials + _SQUARE / (4 * trials**2))
    centre = share + _SQUARE / (2 * trials)
    widened = 1 + _SQUARE / trials
    lower, upper = (centre - spread) / widened, (centre + spread) / widened
    # Rounding must not carry a bound past the share that it bounds, nor out of 0 to 1.
    return Estimate(share, max(0.0, min(share, lower)), min(1.0, max(share, upper)))


def accuracy(examples: Counts, correct: Counts) -> Estimate | None:
    """Right ÷ all rows, (TP + TN) / (TP + TN + FP + FN) for two classes, with its Wilson bounds."""
    return wilson(int(correct.sum()), int(examples.sum()))


def recall(task: Task, examples: Counts, correct: Counts) -> Estimate | None:
    """Binary: TP / (TP + FN) with its Wilson bounds. Multiclass: `macro_recall`."""
    if task == "binary":
        return wilson(int(correct[_POSITIVE]), int(examples[_POSITIVE]))
    return macro_recall(examples, correct)


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


def slice_report(
    task: Task, dimension: str, value: str, *, examples: Counts, correct: Counts, min_examples: int
) -> SliceReport:
    """One slice, from its rows per true class (`examples`, `[C]`) and those predicted right (`correct`, `[C]`)."""
    rows = int(examples.sum())
    return SliceReport(
        dimension=dimension,
        value=value,
        examples=rows,
        correct=int(correct.sum()),
        accuracy=accuracy(examples, correct),
        recall=recall(task, examples, correct),
        judged=rows >= min_examples,
    )
