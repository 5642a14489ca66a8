"""What is measured, in which order and for how long, on a machine whose clock shows nothing but its work."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pipelines.errors import ModelError
from pipelines.measuring import Configuration, Trial
from pipelines.survey import Climb, Survey

NOW = Configuration("cpu", 256, 1, 2)


class Machine:
    """A batch takes `fixed` seconds, and `each` for a row; two workers get in each other's way by `friction`."""

    def __init__(self, *, fixed: float = 0.001, each: float = 1e-6, friction: float = 1.0, most_rows: int = 10**9) -> None:
        self.now = 0.0
        self.tried: Counter[Configuration] = Counter()
        self._fixed = fixed
        self._each = each
        self._friction = friction
        self._most_rows = most_rows

    def clock(self) -> float:
        return self.now

    def run(self, configuration: Configuration, seconds: float) -> Trial:
        if configuration.rows > self._most_rows:
            raise ModelError("out of memory")
        self.tried[configuration] += 1
        batch = self._fixed + self._each * configuration.rows
        if configuration.workers > 1:
            batch *= self._friction
        count = max(1, round(seconds / batch))
        self.now += batch * (count + 1)
        rows = configuration.rows * configuration.workers
        return Trial(rows / batch, rows * count, 0.0, batch * count * configuration.workers, (batch,) * count)


def surveyed(machine: Machine, climbs: list[Climb], *, seconds: float = 20.0, limit: float | None = None) -> Survey:
    survey = Survey(machine.run, NOW, machine.clock, limit_seconds=limit)
    survey.scout(climbs, seconds * 0.3)
    survey.measure(seconds * 0.5)
    return survey


def sizes(survey: Survey) -> list[int]:
    return [one.configuration.rows for one in survey.measurements()]


def test_larger_batches_are_tried_while_they_pay_and_then_what_lies_beside_the_best() -> None:
    """What is fastest is found, also between the sizes that are tried first."""
    machine = Machine(fixed=0.01)
    survey = surveyed(machine, [Climb("cpu", 1, 2, 10**6)])
    assert sizes(survey) == [256, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072]
    assert survey.fastest().configuration.rows == 131_072


def test_a_batch_size_that_hardly_matters_ends_the_climb() -> None:
    """Two more sizes that are no faster are enough."""
    survey = surveyed(Machine(fixed=0.0), [Climb("cpu", 1, 2, 10**6)])
    assert sizes(survey) == [128, 256, 512, 1024, 2048]
    assert survey.fastest().configuration.rows == 128


@pytest.mark.parametrize(("rows", "expected"), [(1500, [256, 750, 1024, 1500]), (100, [100, 256]), (1, [1, 256])])
def test_no_batch_has_more_rows_than_there_are(rows: int, expected: list[int]) -> None:
    """But for what is set now, which is always measured."""
    found = sizes(surveyed(Machine(fixed=0.0005), [Climb("cpu", 1, 2, rows)]))
    assert [size for size in found if size in expected] == expected
    assert all(size <= rows or size == NOW.rows for size in found)


@pytest.mark.parametrize("each", [1e-6, 1e-4, 1e-2])
def test_it_takes_about_the_time_it_was_given(each: float) -> None:
    """A slow model is tried in fewer ways; what is set now is measured however long it takes."""
    machine = Machine(each=each)
    survey = surveyed(machine, [Climb("cpu", workers, 1, 10**6) for workers in (1, 2)])
    a_batch = 0.001 + each * NOW.rows
    assert machine.now <= 16 + 4 * a_batch
    assert machine.tried[NOW] >= 2
    assert bool(survey.unaffordable) is (each == 1e-2)


def test_what_does_not_fit_into_memory_is_a_failure_and_not_the_end() -> None:
    """The climb ends there; what is set now must run."""
    survey = surveyed(Machine(most_rows=5_000), [Climb("cpu", 1, 2, 10**6)])
    assert set(survey.failures.values()) == {"out of memory"}
    assert min(one.rows for one in survey.failures) > 5_000
    assert survey.fastest().configuration.rows <= 5_000
    with pytest.raises(ModelError, match="out of memory"):
        surveyed(Machine(most_rows=100), [])


def test_under_a_limit_larger_batches_are_not_tried_and_smaller_ones_are() -> None:
    """One size above the limit says what the limit costs; below it, sizes halve until one is within."""
    machine = Machine(fixed=0.005, each=1e-3)
    survey = surveyed(machine, [Climb("cpu", 1, 2, 10**6)], limit=0.05)
    assert survey.fastest().configuration.rows == 32
    assert sizes(survey) == [16, 32, 64, 256]
    hopeless = surveyed(Machine(fixed=0.1), [Climb("cpu", 1, 2, 10**6)], limit=0.05)
    assert hopeless.fastest().configuration.rows == 1


def test_workers_are_compared_too() -> None:
    """Two that hinder each other are worse than one, two that don't are better."""
    climbs = [Climb("cpu", 1, 2, 300), Climb("cpu", 2, 1, 300)]
    assert surveyed(Machine(friction=3.0), climbs).fastest().configuration.workers == 1
    assert surveyed(Machine(friction=1.2), climbs).fastest().configuration.workers == 2


def test_rounds_are_interleaved() -> None:
    """What slows the machine for a while slows all of them: none is measured twice before the others were once."""
    machine = Machine()
    order: list[Configuration] = []
    survey = Survey(machine.run, NOW, machine.clock)
    survey.scout([Climb("cpu", 1, 2, 1024)], 5.0)
    survey.watch = order.append
    survey.measure(10.0)
    tried = len(survey.measurements())
    rounds = [order[first : first + tried] for first in range(0, len(order), tried)]
    assert len(rounds) >= 3
    assert all(set(each) == set(rounds[0]) and len(each) == len(set(each)) for each in rounds)
    assert rounds[1] == rounds[0][::-1]


def test_a_duel_is_fought_with_fresh_trials_in_turns() -> None:
    """Neither always comes first, and one ratio is one pair."""
    machine = Machine()
    order: list[Configuration] = []
    survey = Survey(machine.run, NOW, machine.clock, watch=order.append)
    challenger = Configuration("cpu", 1024, 1, 2)
    comparison = survey.duel(challenger, 2.0)
    assert order[:4] == [NOW, challenger, challenger, NOW]
    assert len(order) == 2 * len(comparison.ratios) >= 12
    assert comparison.ratio == pytest.approx((1024 / 0.002024) / (256 / 0.001256))


class Parts(Machine):
    """Parts of so many rows, cut as a run cuts them: what is left over is a batch of its own."""

    def __init__(self, rows: int, *, fixed: float) -> None:
        super().__init__(fixed=fixed, each=0.0)
        self._part = rows

    def run(self, configuration: Configuration, seconds: float) -> Trial:
        before, warm = self.now, self.tried[configuration] and self._fixed > seconds
        trial = super().run(configuration, seconds)
        batches = -(-self._part // configuration.rows)
        kinds = 2 if self._part % configuration.rows else 1
        self.now = before + self._fixed * max(kinds, len(trial.latencies)) + (0 if warm else self._fixed)
        return replace(trial, rows_per_second=self._part / (self._fixed * batches))


@pytest.mark.parametrize(("rows", "fixed", "now"), [(40_000, 0.05, 256), (4_160, 0.8, 2080), (1500, 0.01, 256)])
def test_where_a_batch_has_a_fixed_cost_all_that_a_part_has_is_tried_and_wins(rows: int, fixed: float, now: int) -> None:
    """Also if that is no round number, and if there is time for a few tries only."""
    machine = Parts(rows, fixed=fixed)
    survey = Survey(machine.run, Configuration("cpu", now, 1, 2), machine.clock)
    survey.scout([Climb("cpu", 1, 2, rows)], 5.0)
    survey.measure(8.0)
    best = survey.fastest().configuration
    assert best.rows == rows
    assert survey.duel(best, 4.0).ratio >= 1.99
    assert machine.now <= 18.0


def test_a_part_larger_than_the_largest_size_may_still_be_one_batch() -> None:
    """Doubling the best one stops at all that there is."""
    machine = Parts(100_000, fixed=0.01)
    assert surveyed(machine, [Climb("cpu", 1, 2, 100_000)]).fastest().configuration.rows == 100_000


def test_a_first_step_far_above_what_is_set_is_reached_over_steps_between() -> None:
    """One row at a time says next to nothing about what 256 rows take."""
    machine = Machine(fixed=0.05, each=1e-6)
    survey = Survey(machine.run, Configuration("cpu", 1, 1, 2), machine.clock)
    survey.scout([Climb("cpu", 1, 2, 4_000)], 5.0)
    assert survey.fastest().configuration.rows == 4_000


def test_where_one_try_takes_all_the_time_there_is_no_other_and_no_round() -> None:
    """What is left out is said."""
    machine = Machine(fixed=20.0)
    survey = surveyed(machine, [Climb("cpu", workers, 2, 1024) for workers in (1, 2)], seconds=8.0)
    assert sum(machine.tried.values()) == 1
    assert survey.slow_seconds == pytest.approx(40.0, rel=0.01)
    assert {one.rows for one in survey.unaffordable} == {256, 1024}
