"""What was measured, as values: figures, comparisons with their noise, and the fastest within a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.measuring import Comparison, Configuration, Measurement, Trial, WholeParts, fastest, splits
from pipelines.report import Stage


def trial(speed: float = 1000.0, *, rows: int = 100, infer: float = 0.1, latencies: tuple[float, ...] = (0.1,)) -> Trial:
    return Trial(speed, rows, 0.0, infer, latencies)


def measured(rows: int, *speeds: float, latency: float = 0.1, workers: int = 1) -> Measurement:
    trials = tuple(trial(speed, latencies=(latency,)) for speed in speeds)
    return Measurement(Configuration("cpu", rows, workers, 1), trials)


def test_speed_is_the_median_of_the_rounds_and_noise_half_their_range() -> None:
    """One slow round doesn't move the figure, but it is seen."""
    one = measured(256, 100.0, 104.0, 40.0, 102.0, 101.0)
    assert one.rows_per_second == 101.0
    assert one.spread == pytest.approx(32 / 101)
    assert measured(256, 100.0).spread is None


def test_latency_is_what_a_run_reports() -> None:
    """Seconds of inference, summed over workers, by rows; percentiles over all batches, by nearest rank."""
    trials = (trial(rows=100, infer=1.0, latencies=(0.1, 0.2)), trial(rows=300, infer=1.0, latencies=(0.3,) * 18))
    one = Measurement(Configuration("cpu", 10, 1, 1), trials)
    assert one.seconds_per_row == pytest.approx(2 / 400)
    assert one.batch_seconds == (0.3, 0.3)


def test_a_limit_is_for_batches_and_for_the_mean_row() -> None:
    """Both alerts on latency have the one threshold."""
    assert measured(256, 100.0, latency=0.2).within(0.2)
    assert not measured(256, 100.0, latency=0.2).within(0.19)
    slow_rows = Measurement(Configuration("cpu", 1, 1, 1), (trial(rows=1, infer=0.5, latencies=(0.1,)),))
    assert not slow_rows.within(0.2)
    assert slow_rows.within(None)


# Conover, Practical Nonparametric Statistics, table A3: the rank that the sign test allows at 95 %.
@pytest.mark.parametrize(("pairs", "rank"), [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8)])
def test_the_interval_is_the_sign_tests(pairs: int, rank: int) -> None:
    """The k-th smallest and the k-th largest."""
    assert Comparison(tuple(map(float, range(1, pairs + 1)))).interval == (rank, pairs + 1 - rank)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_the_median_lies_in_its_interval(ratios: list[float]) -> None:
    """In any order, of any number."""
    low, high = Comparison(tuple(ratios)).interval
    assert min(ratios) <= low <= Comparison(tuple(ratios)).ratio <= high <= max(ratios)


@pytest.mark.parametrize(
    ("ratios", "sure"),
    [
        ((1.3,) * 6, True),
        ((1.3,) * 5, False),  # too few: chance does that once in sixteen times
        ((1.03,) * 9, False),  # too little
        ((1.5, 1.6, 0.9, 1.5, 1.5, 1.6), False),  # one of six the other way
        ((1.5, 1.6, 0.9, 1.5, 1.5, 1.6, 1.4, 1.5, 1.5), True),  # one of nine
        ((0.5,) * 9, False),
    ],
)
def test_faster_is_said_with_confidence_only(ratios: tuple[float, ...], *, sure: bool) -> None:
    """Neither by luck nor by a trifle."""
    assert Comparison(ratios).surely_faster is sure


def test_of_those_nearly_as_fast_the_one_with_the_fewest_rows_wins() -> None:
    """Small batches take less memory, and less time each."""
    found = [measured(256, 900.0), measured(1024, 960.0), measured(1024, 970.0, workers=2), measured(4096, 1000.0)]
    assert fastest(found, None).configuration == Configuration("cpu", 1024, 2, 1)


def test_the_limit_comes_before_speed_and_without_anything_within_it_the_quickest_batch_wins() -> None:
    """What is closest to the limit, where nothing keeps it."""
    found = [measured(64, 100.0, latency=0.01), measured(256, 500.0, latency=0.2), measured(1024, 1000.0, latency=0.9)]
    assert [fastest(found, limit).configuration.rows for limit in (None, 0.5, 0.1, 0.001)] == [1024, 256, 64, 64]


@pytest.mark.parametrize(
    ("cores", "parts", "expected"),
    [
        (1, 9, ((1, 1),)),
        (2, 9, ((1, 2), (2, 1))),
        (6, 9, ((1, 6), (2, 3), (4, 1), (6, 1))),
        (16, 99, ((1, 16), (2, 8), (4, 4), (8, 2), (16, 1))),
        (16, 3, ((1, 16), (2, 8), (3, 5))),
        (16, 1, ((1, 16),)),
    ],
)
def test_cores_are_shared_out_by_powers_of_two_for_as_many_workers_as_have_work(
    cores: int, parts: int, expected: tuple[tuple[int, int], ...]
) -> None:
    """A worker without a part does nothing."""
    assert splits(cores, parts) == expected


@given(st.integers(1, 300), st.integers(1, 300))
def test_no_split_uses_more_than_the_cores(cores: int, parts: int) -> None:
    """And each worker has a thread."""
    assert all(0 < workers * threads <= cores and workers <= parts for workers, threads in splits(cores, parts))


STAGES = st.fixed_dictionaries(
    {stage: st.floats(0.001, 100) for stage in (Stage.READ, Stage.PREPARE, Stage.INFER, Stage.WRITE)}
)


@given(STAGES, st.floats(1, 1000))
def test_shares_add_up_and_no_stage_can_gain_more_than_its_share(seconds: dict[Stage, float], speed: float) -> None:
    """Amdahl's law, against the seconds themselves."""
    whole = WholeParts(1, 1, 1, 1.0, seconds)
    assert sum(map(whole.share, seconds)) == pytest.approx(1)
    total = sum(seconds.values())
    without = total - seconds[Stage.INFER] + seconds[Stage.INFER] / speed
    assert whole.times_as_fast(Stage.INFER, speed) == pytest.approx(total / without)
