"""The batch size is the fastest of a few, measured."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.planning import Part
from pipelines.report import BatchTrial
from pipelines.tuning import ENOUGH_ROWS, SIZES, budget_seconds, fastest, measured, to_measure_on


class Machine:
    """Infers in as many seconds as it is told; its clock shows nothing else."""

    def __init__(self, fixed_seconds: float, seconds_for_each_row: dict[int, float]) -> None:
        self.now = 0.0
        self.calls: Counter[int] = Counter()
        self._fixed = fixed_seconds
        self._each = seconds_for_each_row

    def infer(self, size: int) -> float:
        self.calls[size] += 1
        self.now += self._fixed + size * self._each.get(size, 1e-6)
        return 1.0

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fixed", "each", "expected"),
    [
        (0.001, {}, 16_384),
        (0.0, {256: 1e-6, 1_024: 0.995e-6, 2_048: 0.99e-6, 4_096: 0.988e-6, 8_192: 0.985e-6, 16_384: 0.98e-6}, 256),
        (0.0, {256: 1e-6, 1_024: 0.97e-6, 2_048: 0.97e-6}, 1_024),
        (0.001, {8_192: 5e-6, 16_384: 5e-6}, 4_096),
        (0.0001, {4_096: 9e-6, 8_192: 9e-6, 16_384: 9e-6}, 2_048),
    ],
)
def test_the_fastest_for_each_row_wins_and_a_tie_goes_to_the_smaller(
    fixed: float, each: dict[int, float], expected: int
) -> None:
    """A larger batch must be worth its memory."""
    machine = Machine(fixed, each)
    assert fastest(measured(machine.infer, available=100_000, clock=machine.clock)) == expected
    assert set(machine.calls) == set(SIZES)
    assert machine.now < 0.6


def test_only_sizes_that_the_data_fills_are_tried() -> None:
    """With few rows, all of them are one batch."""
    machine = Machine(0.001, {})
    assert fastest(measured(machine.infer, available=1_500, clock=machine.clock)) == 1_024
    assert set(machine.calls) == {256, 1_024}
    assert fastest(measured(machine.infer, available=10, clock=machine.clock)) == 10


def test_a_slow_model_is_not_tried_for_long() -> None:
    """A size that would take longer than what is left isn't begun."""
    machine = Machine(0.0, dict.fromkeys(SIZES, 0.01))
    assert fastest(measured(machine.infer, available=100_000, clock=machine.clock)) == 256
    assert machine.calls == {256: 1}


def test_few_rows_are_not_worth_long_measuring() -> None:
    """A tenth of what inferring them takes, and never more than a third of a second."""
    assert budget_seconds(10**6, 1e-6) == pytest.approx(0.1)
    assert budget_seconds(10**9, 1e-6) == 0.35
    assert budget_seconds(10, 1e-6) == 0.05
    machine = Machine(0.0001, {})
    measured(machine.infer, available=100_000, clock=machine.clock, budget_seconds=budget_seconds(10, 1e-6))
    assert set(machine.calls) > {256, 1_024, 2_048}
    assert machine.now < 0.1


def test_what_was_tried_can_be_told() -> None:
    """Each size once, with what a batch of it took at its best."""
    machine = Machine(0.001, {})
    found = measured(machine.infer, available=100_000, clock=machine.clock)
    assert [trial.rows for trial in found] == list(SIZES)
    assert [trial.seconds for trial in found] == pytest.approx([0.001 + size * 1e-6 for size in SIZES])


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, 16_384), (0.01, 8_192), (0.0021, 1_024), (0.0011, 64), (0.001_002, 1), (0.0005, 1)]
)
def test_a_batch_keeps_the_limit_on_latency(limit: float | None, expected: int) -> None:
    """A larger one would be faster for each row; where none keeps it, it is the quickest batch there is."""
    machine = Machine(0.001, {2**power: 1e-6 for power in range(15)})
    found = measured(machine.infer, available=100_000, clock=machine.clock, limit_seconds=limit)
    assert fastest(found, limit) == expected


def test_rows_that_are_not_valid_take_no_time_and_count_for_nothing() -> None:
    """Batches of rows that the model isn't asked of are the quickest there are, and say nothing of it."""
    machine = Machine(0.0, {})
    shares = iter([1.0, 0.5, 0.0] * 10_000)

    def infer(size: int) -> float:
        share = next(shares)
        machine.infer(round(size * share))
        return share

    for trial in measured(infer, available=100_000, clock=machine.clock):
        assert trial.seconds == pytest.approx(trial.rows * 1e-6)


@pytest.mark.parametrize("limit", [None, 0.001])
def test_where_no_row_is_valid_nothing_is_known(limit: float | None) -> None:
    """And time that measures nothing ends too."""
    machine = Machine(0.001, {})

    def infer(size: int) -> float:
        machine.infer(size)
        return 0.0

    assert measured(infer, available=100_000, clock=machine.clock, limit_seconds=limit) == ()
    assert machine.now < 1


def test_larger_batches_say_what_smaller_ones_could_not() -> None:
    """The smallest met no valid row, the others did."""
    machine = Machine(0.0, {})

    def infer(size: int) -> float:
        machine.infer(size)
        return float(size > 256)

    found = measured(infer, available=100_000, clock=machine.clock)
    assert [trial.rows for trial in found] == list(SIZES[1:])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_of_a_few_rows_there_is_no_quarter(rows: int) -> None:
    """However slow they are."""
    machine = Machine(0.02, {})
    assert [trial.rows for trial in measured(machine.infer, available=rows, clock=machine.clock)] == [rows]


def test_it_is_measured_on_the_first_part_that_has_enough_rows() -> None:
    """Else on the largest; a part of one row would have the whole night scored row by row."""

    def part(rows: int) -> Part:
        return Part(f"{rows}", "s", 0, 0, rows, "f", 0)

    sizes = (1, 500, ENOUGH_ROWS, 20 * ENOUGH_ROWS, 600)
    assert [one.rows for one in to_measure_on(map(part, sizes))] == [ENOUGH_ROWS, 20 * ENOUGH_ROWS, 600, 500, 1]


def test_above_the_limit_no_larger_size_is_tried() -> None:
    """It would take even longer."""
    machine = Machine(0.0, dict.fromkeys(SIZES, 1e-5))
    measured(machine.infer, available=100_000, clock=machine.clock, limit_seconds=0.005)
    assert set(machine.calls) == {256, 1_024}
    assert fastest([BatchTrial(256, 0.00256)], 0.005) == 256


@pytest.mark.parametrize(("each", "expected"), [({64: 1e-4}, 64), ({64: 3e-4}, 256), ({}, 64)])
def test_where_the_smallest_is_the_best_and_slow_a_quarter_of_it_is_tried(each: dict[int, float], expected: int) -> None:
    """A transformer's batch of 256 has long left the caches; of two that are as fast it is the smaller, as ever."""
    machine = Machine(0.0, dict.fromkeys(SIZES, 2e-4) | {64: 2e-4} | each)
    found = measured(machine.infer, available=100_000, clock=machine.clock)
    assert {trial.rows for trial in found} >= {64, 256}
    assert fastest(found) == expected
    assert machine.now < 0.6
