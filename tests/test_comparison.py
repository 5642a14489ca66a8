"""Whether a candidate is better: the tests against their sources, and what a verdict rests on."""

from __future__ import annotations

from itertools import product
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped]  # it publishes no types

from pipelines.comparison import ALPHA, Contest, Figure, Limits, contest, judge, mcnemar, weighted_signs
from pipelines.pairs import Pair
from pipelines.quality import Task

NONE = Limits(None, None)


def pair(
    examples: list[int], champion: list[int], won: list[int], lost: list[int], *, dimension: str = "", value: str = ""
) -> Pair:
    return Pair(dimension, value, *(np.asarray(counts, np.int64) for counts in (examples, champion, won, lost)))


def entered(one: Pair, figure: Figure = "accuracy", task: Task = "binary", holdout: str = "labelled") -> Contest:
    found = contest(task, holdout, figure, one)
    assert found is not None
    return found


@given(won=st.integers(0, 120), lost=st.integers(0, 120))
def test_mcnemar_is_the_exact_binomial_test(won: int, lost: int) -> None:
    """scipy is the oracle; no discordant row proves nothing."""
    wanted = binomtest(won, won + lost, alternative="greater").pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("won", "lost"), [(520, 490), (560, 460), (5_200, 4_900), (600, 600), (1_000_000, 997_000)])
def test_mcnemar_of_many_rows_is_close_to_exact(won: int, lost: int) -> None:
    """The normal approximation with continuity correction takes over at 1,000 rows."""
    assert mcnemar(won, lost) == pytest.approx(binomtest(won, won + lost, alternative="greater").pvalue, rel=0.02)


def test_known_values_of_mcnemar() -> None:
    """Five heads in five tosses; and the sign test's classic table for n = 12."""
    assert mcnemar(5, 0) == 1 / 32
    assert mcnemar(10, 2) == pytest.approx(0.0193, abs=5e-5)
    assert mcnemar(0, 0) == 1.0


@given(
    weights=st.lists(st.floats(0.01, 10.0), min_size=1, max_size=8),
    signs=st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_weighted_signs_never_promise_too_much(weights: list[float], signs: list[bool]) -> None:
    """For any weights the bound is at least the exact probability, counted over all patterns of signs."""
    chosen = np.array(signs[: len(weights)])
    seen = float(np.where(chosen, weights, np.negative(weights)).sum())
    patterns = np.array(list(product((-1, 1), repeat=len(weights))))
    exact = float((patterns @ np.array(weights) >= seen - 1e-9).mean())
    assert weighted_signs(chosen.astype(np.int64), (~chosen).astype(np.int64), weights) >= min(1.0, exact) - 1e-12


def test_weighted_signs_use_the_published_constant() -> None:
    """c = 1 / (4 P(Z >= sqrt 2)), about 3.178; two equal signs attain the bound."""
    assert 1 / (4 * (erfc(1) / 2)) == pytest.approx(3.178, abs=1e-3)
    both = weighted_signs(np.array([2]), np.array([0]), [1.0])
    assert both == pytest.approx(0.25)
    assert weighted_signs(np.array([90]), np.array([40]), [1.0]) == pytest.approx(
        3.178 * (1 - NormalDist().cdf(50 / sqrt(130))), rel=1e-3
    )
    assert weighted_signs(np.array([0]), np.array([0]), [1.0]) == 1.0


def test_recall_looks_only_at_rows_of_the_positive_class() -> None:
    """Binary: what happens to the negatives doesn't count."""
    one = entered(pair([500, 100], [480, 60], [0, 30], [20, 2]), "recall")
    assert (one.examples, one.won, one.lost) == (100, 30, 2)
    assert (one.champion.value, one.candidate.value) == (0.60, 0.88)
    assert one.better == mcnemar(30, 2)


def test_macro_recall_weighs_a_row_by_its_class() -> None:
    """Ten rows won in a class of ten outweigh twenty lost in one of a thousand."""
    one = entered(pair([1000, 20], [950, 5], [0, 14], [20, 0]), "recall", "multiclass")
    assert one.candidate.value == pytest.approx((0.93 + 0.95) / 2)
    assert one.better < ALPHA < one.worse
    assert entered(pair([1000, 20], [950, 5], [0, 14], [20, 0]), "accuracy", "multiclass").worse > ALPHA


def test_a_figure_without_examples_is_no_contest() -> None:
    """No positives, no recall."""
    assert contest("binary", "labelled", "recall", pair([10, 0], [9, 0], [1, 0], [0, 0])) is None


def both(*pairs: Pair, holdout: str = "labelled") -> list[Contest]:
    return [entered(one, figure, holdout=holdout) for one in pairs for figure in ("accuracy", "recall")]


BAD = pair([300, 300], [220, 220], [60, 60], [10, 10])
"""A champion at 0.733, a candidate at 0.9."""
FAIR = pair([300, 300], [285, 285], [4, 4], [3, 3])
"""Both at about 0.95."""


def test_a_champion_below_its_threshold_is_replaced_by_a_better_one() -> None:
    """And the reason has the figures in it."""
    verdict = judge(both(BAD), Limits(accuracy=0.9, recall=0.9), margin=0.02)
    assert verdict.promote
    assert len(verdict.reasons) == 2
    assert "accuracy on labelled: candidate 0.9, champion 0.7333 (600 examples: 120 only the candidate" in verdict.reasons[0]
    assert "below its threshold" in verdict.reasons[0]


def test_better_is_not_always_good() -> None:
    """One that is still below the threshold replaces one that is further below it, and the reason says so."""
    verdict = judge(both(BAD), Limits(accuracy=0.95, recall=None), margin=0.02)
    assert verdict.promote
    assert verdict.reasons[0].endswith("; still below the threshold of 0.95")
    assert "still below" not in judge(both(BAD), Limits(accuracy=0.9, recall=None), margin=0.02).reasons[0]


def test_better_without_confidence_is_refused() -> None:
    """Three more rows right of six hundred prove nothing."""
    few = pair([300, 300], [220, 220], [9, 9], [7, 8])
    verdict = judge(both(few), Limits(accuracy=0.9, recall=None), margin=0.02)
    assert not verdict.promote
    assert "not better with confidence" in verdict.reasons[0]
    assert "18 only the candidate had right, 15 only the champion" in verdict.reasons[0]


def test_every_figure_that_is_surely_low_must_be_better() -> None:
    """Accuracy mended at the price of a recall that stays as low as it was is refused."""
    one = pair([300, 300], [200, 150], [95, 5], [0, 5])
    verdict = judge(both(one), Limits(accuracy=0.9, recall=0.9), margin=0.02)
    assert not verdict.promote
    assert [("recall" in reason) for reason in verdict.reasons] == [True]
    assert judge(both(one), Limits(accuracy=0.9, recall=None), margin=0.02).promote


def test_a_champion_that_is_fine_is_replaced_only_by_one_that_is_surely_better_everywhere() -> None:
    """In accuracy, on every holdout."""
    limits = Limits(accuracy=0.9, recall=0.9)
    assert not judge(both(FAIR), limits, margin=0.02).promote
    better = pair([300, 300], [275, 275], [20, 20], [1, 1])
    assert judge(both(better), limits, margin=0.02).promote
    mixed = judge([*both(better), *both(FAIR, holdout="other")], limits, margin=0.02)
    assert not mixed.promote
    assert "on other" in mixed.reasons[0]


def test_a_slice_that_gets_surely_worse_is_in_the_way() -> None:
    """Beyond the margin and with confidence; either alone is not enough."""
    sure = pair([20, 20], [19, 19], [0, 0], [6, 6], dimension="side", value="left")
    unsure = pair([20, 20], [19, 19], [0, 0], [2, 1], dimension="side", value="left")
    slight = pair([5_000, 5_000], [4_900, 4_900], [0, 0], [50, 50], dimension="side", value="left")
    limits = Limits(accuracy=0.9, recall=None)
    verdict = judge(both(BAD, sure), limits, margin=0.02)
    assert not verdict.promote
    assert next((one.dimension, one.value, one.figure) for one in verdict.harmed) == ("side", "left", "accuracy")
    assert "worse by more than 0.02 with confidence: accuracy on labelled, side = left" in verdict.reasons[0]
    assert judge(both(BAD, unsure), limits, margin=0.02).promote
    assert judge(both(BAD, slight), limits, margin=0.02).promote
    assert not judge(both(BAD, slight), limits, margin=0.005).promote


def test_a_figure_that_was_fine_must_not_be_harmed_either() -> None:
    """Recall given up for accuracy is refused, whole holdout or slice."""
    one = pair([500, 100], [300, 95], [150, 0], [0, 20])
    verdict = judge(both(one), Limits(accuracy=0.9, recall=0.5), margin=0.02)
    assert not verdict.promote
    assert ["recall on labelled" in reason for reason in verdict.reasons] == [True]


def test_without_rows_nobody_is_promoted() -> None:
    """Nothing was compared."""
    assert not judge([], NONE, margin=0.02).promote


def test_equal_models_are_hardly_ever_promoted() -> None:
    """Simulated: two models that are right equally often, on 600 rows; about 2.5 % pass, as was asked."""
    random = np.random.default_rng(20261122)
    promoted, trials = 0, 2_000
    for _ in range(trials):
        ours, theirs = random.random((2, 600)) < 0.85
        won, lost = int((theirs & ~ours).sum()), int((ours & ~theirs).sum())
        one = entered(pair([600, 0], [int(ours.sum()), 0], [won, 0], [lost, 0]))
        promoted += judge([one], Limits(accuracy=0.9, recall=None), margin=0.02).promote
    assert 0.01 <= promoted / trials <= 0.0355  # three standard deviations above
