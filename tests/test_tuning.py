"""The batch size is the fastest of a few, measured."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.tuning import SIZES, budget_seconds, fastest


class Machine:
    """Infers in as many seconds as it is told; its clock shows nothing else."""

    def __init__(self, fixed_seconds: float, seconds_for_each_row: dict[int, float]) -> None:
        self.now = 0.0
        self.calls: Counter[int] = Counter()
        self._fixed = fixed_seconds
        self._each = seconds_for_each_row

    def infer(self, size: int) -> None:
        self.calls[size] += 1
        self.now += self._fixed + size * self._each.get(size, 1e-6)

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fixed", "each", "expected"),
    [
        (0.001, {}, 16_384),
        (0.0, {256: 1e-6, 1_024: 0.99e-6, 2_048: 0.985e-6, 4_096: 0.98e-6, 16_384: 0.97e-6}, 256),
        (0.001, {16_384: 5e-6}, 4_096),
        (0.0001, {4_096: 9e-6, 16_384: 9e-6}, 1_024),
    ],
)
def test_the_fastest_for_each_row_wins_and_a_tie_goes_to_the_smaller(
    fixed: float, each: dict[int, float], expected: int
) -> None:
    """A larger batch must be worth its memory."""
    machine = Machine(fixed, each)
    assert fastest(machine.infer, available=100_000, clock=machine.clock) == expected
    assert set(machine.calls) == set(SIZES)
    assert machine.now < 0.6


def test_only_sizes_that_the_data_fills_are_tried() -> None:
    """With few rows, all of them are one batch."""
    machine = Machine(0.001, {})
    assert fastest(machine.infer, available=1_500, clock=machine.clock) == 1_024
    assert set(machine.calls) == {256, 1_024}
    assert fastest(machine.infer, available=10, clock=machine.clock) == 10


def test_a_slow_model_is_not_tried_for_long() -> None:
    """A size that would take longer than what is left isn't begun."""
    machine = Machine(0.0, dict.fromkeys(SIZES, 0.01))
    assert fastest(machine.infer, available=100_000, clock=machine.clock) == 256
    assert machine.calls == {256: 1}


def test_few_rows_are_not_worth_long_measuring() -> None:
    """A tenth of what inferring them takes, and never more than half a second."""
    assert budget_seconds(10**6, 1e-6) == pytest.approx(0.1)
    assert budget_seconds(10**9, 1e-6) == 0.5
    assert budget_seconds(10, 1e-6) == 0.05
    machine = Machine(0.0001, {})
    fastest(machine.infer, available=100_000, clock=machine.clock, budget_seconds=budget_seconds(10, 1e-6))
    assert set(machine.calls) > {256, 1_024, 2_048}
    assert machine.now < 0.1
