"""Is the candidate better than the champion? Both were asked about the same rows, so the tests are paired. Pure.

All tests are one-sided at 2.5 %: what a 95 % interval leaves on one side. They look only at rows of which exactly one
model was right; under the hypothesis that neither is better, each such row is the toss of a coin.

- The candidate must be better, with confidence, in **every** figure in which the champion is surely below its limit.
  Demanding all at once needs no correction for their number (R. L. Berger, Technometrics 24 (1982), 295-300).
- Where the champion is below none, the candidate must be better in accuracy on every holdout.
- In no other figure, and in no judged slice, may it be worse by more than the margin **and** with confidence. The
  margin lets a loss through that nobody would mind. These tests are not corrected for their number: with many
  slices an equal candidate is now and then refused by chance, which costs a night; a correction would let
  harm through in the slices, which costs more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb, erfc, sqrt
from typing import Literal

import numpy as np

from pipelines import quality
from pipelines.pairs import Pair
from pipelines.quality import Counts, Task
from pipelines.report import Estimate

ALPHA = 0.025
_EXACT_UP_TO = 1_000
_POSITIVE = 1
_RADEMACHER = 1 / (2 * erfc(1))
"""1 / (4 P(Z >= sqrt 2)), about 3.178."""

Figure = Literal["accuracy", "recall"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The job's thresholds for quality; None means no limit."""

    accuracy: float | None
    recall: float | None

    def of(self, figure: Figure) -> float | None:
        """That figure's."""
        return self.accuracy if figure == "accuracy" else self.recall


@dataclass(frozen=True, slots=True)
class Contest:
    """One figure of both models on one holdout, or on a slice of it (else `dimension` and `value` are empty).

    `won` rows only the candidate had right, `lost` only the champion. `better` is the probability of so many won, or
    more, were neither model better; `worse` likewise of those lost.
    """

    holdout: str
    figure: Figure
    dimension: str
    value: str
    examples: int
    champion: Estimate
    candidate: Estimate
    won: int
    lost: int
    better: float
    worse: float

    def sentence(self) -> str:
        """For a person."""
        where = f"{self.holdout}, {self.dimension} = {self.value}" if self.dimension else self.holdout
        p = f"p {self.better:.2g} for better" if self.better <= self.worse else f"p {self.worse:.2g} for worse"
        return (
            f"{self.figure} on {where}: candidate {self.candidate.value:.4g}, champion {self.champion.value:.4g} "
            f"({self.examples:,} examples: {self.won:,} only the candidate had right, {self.lost:,} only the champion; {p})"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the candidate may replace the champion, and why, in sentences with figures.

    `wholes` are the contests on whole holdouts, `harmed` the slices that speak against it; `slices` were looked at.
    """

    promote: bool
    reasons: tuple[str, ...]
    wholes: tuple[Contest, ...]
    harmed: tuple[Contest, ...]
    slices: int


def mcnemar(won: int, lost: int) -> float:
    """The probability of at least `won` of `won + lost` heads: one-sided McNemar; 1 for no rows.

    Exact (binomial) up to 1,000 rows, then normal with continuity correction. Sources: Q. McNemar, Psychometrika 12
    (1947), 153-157; A. L. Edwards, Psychometrika 13 (1948), 185-187, for the correction.
    """
    rows = won + lost
    if rows <= _EXACT_UP_TO:
        heads = sum(comb(rows, one) for one in range(won, rows + 1))
        return heads / int(2**rows)
    return min(1.0, erfc((won - lost - 1) / sqrt(2 * rows)) / 2)


def weighted_signs(won: Counts, lost: Counts, weights: Iterable[float]) -> float:
    """An upper bound of the probability of `sum(weights * (won - lost))` or more, were each row the toss of a coin.

    `won` and `lost` are int64 `[C]`; a row of class c counts `weights[c]`. With z the sum over its standard deviation
    the bound is c P(Z >= z), c = 1 / (4 P(Z >= sqrt 2)), about 3.178, and it holds for any number of rows and any
    weights: V. K. Bentkus and D. Dzindzalieta, "A tight Gaussian bound for weighted sums of Rademacher random variables",
    Bernoulli 21 (2015), 1231-1237.
    """
    each = np.asarray(tuple(weights))
    variance = float((each**2 * (won + lost)).sum())
    if variance == 0:
        return 1.0
    z = float((each * (won - lost)).sum()) / sqrt(variance)
    return min(1.0, _RADEMACHER * erfc(z / sqrt(2)) / 2)


def contest(task: Task, holdout: str, figure: Figure, pair: Pair) -> Contest | None:
    """The models in one figure. None where there is nothing to divide by.

    Accuracy: McNemar over all rows. Recall: binary, McNemar over the rows of the positive class; multiclass, the mean
    over the classes that have examples, so a row of a class of n examples weighs 1/n.
    """
    judge = quality.accuracy if figure == "accuracy" else lambda *counts: quality.recall(task, *counts)
    champion, candidate = judge(pair.examples, pair.champion), judge(pair.examples, pair.candidate)
    if champion is None or candidate is None:
        return None
    of_figure = slice(_POSITIVE, None) if figure == "recall" and task == "binary" else slice(None)
    won, lost, examples = (counts[of_figure] for counts in (pair.won, pair.lost, pair.examples))
    if figure == "recall" and task == "multiclass":
        weights = [1 / rows if rows else 0.0 for rows in examples.tolist()]
        better, worse = weighted_signs(won, lost, weights), weighted_signs(lost, won, weights)
    else:
        better, worse = mcnemar(int(won.sum()), int(lost.sum())), mcnemar(int(lost.sum()), int(won.sum()))
    return Contest(
        holdout=holdout,
        figure=figure,
        dimension=pair.dimension,
        value=pair.value,
        examples=int(examples.sum()),
        champion=champion,
        candidate=candidate,
        won=int(won.sum()),
        lost=int(lost.sum()),
        better=better,
        worse=worse,
    )


def judge(contests: Sequence[Contest], limits: Limits, *, margin: float) -> Verdict:
    """Whether the candidate may replace the champion, as the module says. `margin` is a difference of two ratios."""
    wholes = tuple(one for one in contests if not one.dimension)
    sliced = [one for one in contests if one.dimension]
    breached = [one for one in wholes if _surely_below(one.champion, limits.of(one.figure))]
    wanted = breached or [one for one in wholes if one.figure == "accuracy"]
    missed = [one for one in wanted if one.better > ALPHA]
    harmed = tuple(one for one in (*wholes, *sliced) if one not in missed and _harmed(one, margin))
    claim = "the champion is below its threshold" if breached else "the champion is below no threshold"
    reasons = [f"not better with confidence, and {claim}: {one.sentence()}" for one in missed]
    reasons += [f"worse by more than {margin:g} with confidence: {one.sentence()}" for one in harmed]
    if not wanted:
        reasons = ["there is no row on which the models could be compared"]
    promote = not reasons
    won = tuple(f"better with confidence, and {claim}: {one.sentence()}{_yet(one, limits)}" for one in wanted)
    looked_at = len({(one.holdout, one.dimension, one.value) for one in sliced})
    return Verdict(
        promote, won if promote else tuple(reasons), wholes, tuple(one for one in harmed if one.dimension), looked_at
    )


def _surely_below(estimate: Estimate, limit: float | None) -> bool:
    return limit is not None and estimate.upper < limit


def _yet(one: Contest, limits: Limits) -> str:
    """Better is not always good."""
    limit = limits.of(one.figure)
    return f"; still below the threshold of {limit:g}" if limit is not None and one.candidate.value < limit else ""


def _harmed(one: Contest, margin: float) -> bool:
    return one.champion.value - one.candidate.value > margin and one.worse <= ALPHA
