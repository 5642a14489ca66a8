"""Measuring configurations: what is tried, in which order, and how passes add up. Time is the test's own."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cancellation import Cancellation, Cancelled
from pipelines.errors import DataError
from pipelines.measuring import MOST_ROUNDS, SIZES, Configuration, Measurement, Measuring, Pass, configurations
from pipelines.report import BatchRecord, PartReport, Reason, Stage
from pipelines.source import Part

PARTS = tuple(Part(f"{name}.parquet", f"/data/{name}.parquet", 0, 0, 1000, "f") for name in "ab")


class FakeTime:
    """A clock that only the scorers move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeScorer:
    """Takes as long for a batch as `seconds` says, by its rows. Keeps with which batch sizes it was asked."""

    def __init__(self, clock: FakeTime, seconds: Mapping[int, float], *, rejected: bool = False) -> None:
        self.batch_rows = 0
        self.asked: list[int] = []
        self._clock = clock
        self._seconds = seconds
        self._rejected = rejected

    def score(self, part: Part, cancellation: Cancellation) -> PartReport:
        cancellation.check()
        self.asked.append(self.batch_rows)
        each = self._seconds[self.batch_rows]
        batches = math.ceil(part.rows / self.batch_rows)
        self._clock.now += each * batches
        lost = {Reason.NULL: part.rows} if self._rejected else {}
        return PartReport(
            name=part.name,
            source=part.source,
            output="",
            fingerprint="",
            model="",
            rows_read=part.rows,
            rows_scored=part.rows - sum(lost.values()),
            rows_rejected=lost,
            stage_seconds={Stage.READ: 0.01, Stage.INFER: each * batches},
            batches=tuple(BatchRecord(part.name, n, self.batch_rows, each, 0, 0, 0) for n in range(batches)),
        )


def one(rows: int, device: str = "cpu") -> Configuration:
    return Configuration(device, 1, 2, rows)


def measured(
    scorer: FakeScorer, clock: FakeTime, rows: list[int], *, keep: int, seconds: float = 1000.0, bound: float | None = None
) -> dict[int, Measurement]:
    measuring = Measuring({"cpu": scorer}, PARTS, cores=2, cancellation=Cancellation(), clock=clock)
    said: list[str] = []
    found = measuring.measure(
        [one(size) for size in rows], keep=one(keep), seconds=seconds, said=said.append, bound_seconds=bound
    )
    assert len(said) == sum(len(measurement.passes) for measurement in found)
    return {measurement.configuration.batch_rows: measurement for measurement in found}


def test_configurations_are_measured_in_turn_and_the_hopeless_only_once() -> None:
    """What now is in use is measured in every round, however slow."""
    clock = FakeTime()
    scorer = FakeScorer(clock, {10: 0.1, 100: 0.5, 500: 0.6, 1000: 1.0})
    found = measured(scorer, clock, [10, 100, 500, 1000], keep=10)
    assert {rows: len(one.passes) for rows, one in found.items()} == {
        10: MOST_ROUNDS,
        100: 1,
        500: MOST_ROUNDS,
        1000: MOST_ROUNDS,
    }
    order = [rows for rows, before in zip(scorer.asked, [0, *scorer.asked], strict=False) if rows != before]
    assert order == [10, 100, 500, 1000, *[10, 500, 1000] * (MOST_ROUNDS - 1)]
    assert found[1000].throughput == pytest.approx(1000.0)
    assert found[10].throughput == pytest.approx(100.0)


def test_a_pass_that_is_short_is_repeated_until_it_counts() -> None:
    """Two parts in two milliseconds say nothing; the repetitions are one pass."""
    clock = FakeTime()
    found = measured(FakeScorer(clock, {1000: 0.001}), clock, [1000], keep=1000, seconds=0.0)
    for one_pass in found[1000].passes:
        assert one_pass.seconds >= 0.2
        assert one_pass.rows == pytest.approx(1000 * one_pass.seconds / 0.001)


def test_time_is_kept_for_telling_apart_the_best() -> None:
    """Half of it is for first passes; what is in use is measured whatever it takes, and in three rounds at least."""
    clock = FakeTime()
    scorer = FakeScorer(clock, dict.fromkeys((10, 100, 500, 1000), 1.0))
    assert {rows: len(one.passes) for rows, one in measured(scorer, clock, [500, 1000], keep=500, seconds=8.0).items()} == {
        500: 3
    }
    longer = measured(scorer, clock, [500, 1000], keep=500, seconds=24.0)
    assert {rows: len(one.passes) for rows, one in longer.items()} == {500: 4, 1000: 4}


def test_what_lies_beyond_a_hopeless_size_is_not_tried() -> None:
    """Batches of ten would take a hundred times as long as what is in use, only to say so."""
    clock = FakeTime()
    scorer = FakeScorer(clock, dict.fromkeys((10, 100, 500, 1000), 1.0))
    assert set(measured(scorer, clock, [10, 100, 500, 1000], keep=500)) == {100, 500, 1000}


def test_smaller_batches_are_tried_until_the_bound_is_kept() -> None:
    """Speed is not what is asked for then; what is still smaller would only be slower."""
    clock = FakeTime()
    seconds = {1: 0.05, 10: 0.1, 100: 0.5, 500: 0.7, 1000: 1.0}
    found = measured(FakeScorer(clock, seconds), clock, [1, 10, 100, 500, 1000], keep=1000, bound=0.2)
    assert set(found) == {10, 100, 500, 1000}


def test_asked_to_stop_it_stops() -> None:
    """Between two batches, with the reason."""
    clock, cancellation = FakeTime(), Cancellation()
    measuring = Measuring({"cpu": FakeScorer(clock, {1000: 1.0})}, PARTS, cores=2, cancellation=cancellation, clock=clock)
    cancellation.request("stopped by SIGINT", grace_seconds=0.0)
    with pytest.raises(Cancelled, match="stopped by SIGINT"):
        measuring.measure([one(1000)], keep=one(1000), seconds=1.0, said=lambda _: None)


def test_rows_that_are_all_rejected_are_nothing_to_measure() -> None:
    """And would be measured for ever."""
    clock = FakeTime()
    with pytest.raises(DataError, match=r"/data/a\.parquet: no row could be scored \(rejected: null\)"):
        measured(FakeScorer(clock, {1000: 1.0}, rejected=True), clock, [1000], keep=1000)


@given(st.integers(1, 9), st.integers(1, 200), st.integers(1, 10_000_000))
def test_what_is_tried_fits_the_machine_and_the_data(cores: int, parts: int, longest: int) -> None:
    """Never more workers than parts or cores, never a batch beyond the part; one worker and all that can work are among it."""
    tried = list(configurations(["cpu", "cuda:0"], cores=cores, parts=parts, longest_part=longest))
    assert len(set(tried)) == len(tried) > 0
    here = [one for one in tried if one.device == "cpu"]
    assert {min(one.workers for one in here), max(one.workers for one in here)} == {1, min(cores, parts)}
    assert all(one.workers * one.kernel_threads <= cores for one in here)
    assert max(one.workers for one in tried if one.device == "cuda:0") <= min(2, parts)
    assert {one.batch_rows for one in tried} == {
        *(size for size in SIZES if size < longest),
        *([longest] if longest <= SIZES[-1] else []),
    }


@given(st.lists(st.lists(st.floats(0.001, 10.0), max_size=20), min_size=1, max_size=6), st.floats(0.01, 1.0))
def test_latencies_are_exact_over_all_passes(passes: list[list[float]], quantile: float) -> None:
    """However the batches are cut into passes: the smallest latency that so large a share does not exceed."""
    measurement = Measurement(one(1), [Pass(1, 1.0, tuple(latencies), {}) for latencies in passes])
    everything = sorted(latency for latencies in passes for latency in latencies)
    found = measurement.latency(quantile)
    if not everything:
        assert found == 0.0
        return
    assert found in everything
    assert sum(latency <= found for latency in everything) >= quantile * len(everything)
    assert sum(latency < found for latency in everything) < quantile * len(everything)


def test_shares_and_seconds_for_each_row_are_of_all_passes() -> None:
    """Sums divided by sums; nothing to divide is none."""
    stages = {Stage.READ: 1.0, Stage.PREPARE: 1.0, Stage.INFER: 2.0, Stage.WRITE: 0.0}
    measurement = Measurement(one(1), [Pass(100, 1.0, (), stages), Pass(300, 3.0, (), {Stage.INFER: 4.0})])
    assert measurement.shares == {Stage.READ: 0.125, Stage.PREPARE: 0.125, Stage.INFER: 0.75, Stage.WRITE: 0.0}
    assert measurement.seconds_for_each_row == pytest.approx(6.0 / 400)
    assert (measurement.throughput, measurement.spread) == (100.0, 0.0)
    nothing = Measurement(one(1), [Pass(0, 0.0, (), {})])
    assert (nothing.shares, nothing.seconds_for_each_row, nothing.throughput, nothing.spread) == ({}, 0.0, 0.0, 0.0)
