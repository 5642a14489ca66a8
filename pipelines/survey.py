"""Which configurations are measured, in which order, and for how long: a few seconds must do.

Here is no model and no thread: a `Try` runs one configuration for a while, and a clock says what time it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pipelines.errors import ModelError
from pipelines.measuring import SIZES, Comparison, Configuration, Measurement, Trial, fastest
from pipelines.report import exact_quantiles
from pipelines.tuning import WORTH_WHILE

Try = Callable[[Configuration, float], Trial]
"""Runs a configuration for about so many seconds, but each of its workers for one batch at least."""

_MOST_ROUNDS = 15
_FEW_ROUNDS = 3
"""What is measured in rounds is chosen so that there is time for as many as these."""
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.05, 0.4
"""What one try gets, unless one batch takes longer."""
_FELL_BEHIND = 0.8
"""A larger batch this much slower than the best so far ends the climb at once: the next might not even fit into memory."""
_STRIDE = 4
"""So many times as many rows has each batch on the way from what is set now to a first step that is far above it."""
_LEAST_COMPARED = 2
"""What is set now and another are in each round, if one round of both fits."""
_PATIENCE = 2
"""So many larger batches in succession that don't pay end the climb."""


@dataclass(frozen=True, slots=True)
class Climb:
    """Configurations that differ in their rows alone; `most_rows` is as many as a batch can have on the job's data."""

    device: str
    workers: int
    kernel_threads: int
    most_rows: int

    def steps(self) -> tuple[Configuration, ...]:
        """`SIZES`, fewest rows first; the last is all that a batch can have, unless that is more than the largest size."""
        sizes = [size for size in SIZES if size < self.most_rows]
        return tuple(map(self.step, [*sizes, self.most_rows] if self.most_rows <= SIZES[-1] else sizes))

    def step(self, rows: int) -> Configuration:
        """The one with so many rows to a batch."""
        return Configuration(self.device, rows, self.workers, self.kernel_threads)


@dataclass(slots=True)
class Survey:
    """Configurations on their way through scouting, rounds and a duel.

    `current` is what is set now. `limit_seconds` bounds what is looked for (see `Measurement.within`). `watch` hears what is
    tried next. `failures` says why the model could not run in a configuration (for want of memory, say); `unaffordable` are
    those that were left out because they would have taken too long; `slow_seconds` is how long the first try of `current`
    took, if that left no time for anything else.
    """

    run: Try
    current: Configuration
    clock: Callable[[], float]
    limit_seconds: float | None = None
    watch: Callable[[Configuration], None] = lambda _: None
    failures: dict[Configuration, str] = field(default_factory=dict)
    unaffordable: list[Configuration] = field(default_factory=list)
    slow_seconds: float | None = None
    _scouted: dict[Configuration, Trial] = field(default_factory=dict)
    _rounds: dict[Configuration, list[Trial]] = field(default_factory=dict)
    _took: dict[Configuration, float] = field(default_factory=dict)  # all of the latest trial, what isn't timed included

    def scout(self, climbs: Sequence[Climb], seconds: float) -> None:
        """Try what is set now, and each climb upwards while that pays and the time allows; then what lies beside the best.

        Raises `ModelError` when the model can't run as it is set now.
        """
        until = self.clock() + seconds
        self._scouted[self.current] = self._run(self.current, _SHORTEST_SECONDS)
        if self.clock() >= until:
            self.slow_seconds = self._took[self.current]
            self._leave_out([step for climb in climbs for step in climb.steps()])
            return
        for position, climb in enumerate(climbs):
            now = self.clock()
            self._climb(climb, now + (until - now) / (len(climbs) - position))
        self._shrink(until)
        best = self.fastest().configuration
        for climb in climbs:
            if climb.step(best.rows) == best:
                self._look_beside(best, climb, until)

    def measure(self, seconds: float) -> None:
        """Run the promising ones in rounds, one after the other in each, so that what slows the machine slows all of them.

        Those for which there is no time in all rounds drop out, the slowest first. There is none where not even one round fits.
        """
        until = self.clock() + seconds
        chosen = self._promising(seconds / _FEW_ROUNDS)
        round_seconds = sum(self._took[one] for one in chosen)
        if round_seconds > seconds:
            return
        spare = seconds / _FEW_ROUNDS - round_seconds
        slot = _slot(_SHORTEST_SECONDS + spare / len(chosen))
        for done in range(1, _MOST_ROUNDS + 1):
            for configuration in chosen if done % 2 else reversed(chosen):  # so that none always follows the same
                self._rounds.setdefault(configuration, []).append(self._run(configuration, slot))
            left = until - self.clock()
            chosen = self._promising(left / max(1, _FEW_ROUNDS - done))
            if sum(self._took[one] for one in chosen) > left:
                return

    def duel(self, challenger: Configuration, seconds: float) -> Comparison:
        """Run the challenger and what is set now in turns, once more."""
        until = self.clock() + seconds
        slot = _slot(seconds / _MOST_ROUNDS / 2)
        ratios: list[float] = []
        for done in range(_MOST_ROUNDS):
            began = self.clock()
            pair = (challenger, self.current) if done % 2 else (self.current, challenger)
            speeds = {configuration: self._run(configuration, slot).rows_per_second for configuration in pair}
            ratios.append(speeds[challenger] / speeds[self.current])
            if self._too_late(began, until):
                break
        return Comparison(tuple(ratios))

    def measurements(self) -> tuple[Measurement, ...]:
        """All that was run, by device, workers and rows; what was in no round counts with the one time that it was tried."""
        found: dict[Configuration, tuple[Trial, ...]] = {one: (trial,) for one, trial in self._scouted.items()}
        found |= {one: tuple(trials) for one, trials in self._rounds.items()}
        ordered = sorted(found, key=lambda one: (one.device, one.workers, one.rows, one.kernel_threads))
        return tuple(Measurement(one, found[one]) for one in ordered)

    def fastest(self) -> Measurement:
        """The best so far; of those that were in more than one round, if others than what is set now were."""
        found = self.measurements()
        often = [one for one in found if len(one.trials) > 1]
        compared = any(one.configuration != self.current for one in often)
        return fastest(often if compared else found, self.limit_seconds)

    def _run(self, configuration: Configuration, seconds: float) -> Trial:
        self.watch(configuration)
        began = self.clock()
        trial = self.run(configuration, seconds)
        self._took[configuration] = self.clock() - began
        return trial

    def _scout(self, configuration: Configuration) -> Trial | None:
        """Its first trial; None when the model can't run so."""
        if configuration not in self._scouted:
            try:
                self._scouted[configuration] = self._run(configuration, _SHORTEST_SECONDS)
            except ModelError as error:
                self.failures[configuration] = str(error)
                return None
        return self._scouted[configuration]

    def _climb(self, climb: Climb, until: float) -> None:
        steps = self._in_order(climb, until)
        best, unpaid = 0.0, 0
        for position, step in enumerate(steps):
            if not self._affordable(step, until):
                self._leave_out(steps[position:])
                return
            trial = self._scout(step)
            smaller_follow = any(later.rows < step.rows for later in steps[position:])
            if trial is None or trial.rows_per_second < best * _FELL_BEHIND or self._too_slow(trial):
                if smaller_follow:
                    continue
                return
            unpaid = 0 if trial.rows_per_second * WORTH_WHILE > best else unpaid + 1
            best = max(best, trial.rows_per_second)
            if unpaid == _PATIENCE:
                return

    def _in_order(self, climb: Climb, until: float) -> Sequence[Configuration]:
        """Its steps upwards, with others before the first where that may be far above what is set now.

        Where there is no time for so many tries, the largest batch that there is time for comes first: if a batch has a fixed
        cost that is long, no other is as fast.
        """
        steps, now = climb.steps(), self.current.rows
        if len(steps) * self._took[self.current] > until - self.clock():
            largest = [step for step in reversed(steps) if self._affordable(step, until)][:1]
            steps = (*largest, *(step for step in steps if step not in largest))
        stones = list[Configuration]()
        while not self._affordable(steps[0], until) and (now := now * _STRIDE) < steps[0].rows:
            stones.append(climb.step(now))
        return (*stones, *steps)

    def _look_beside(self, best: Configuration, climb: Climb, until: float) -> None:
        """Half and double the best one's rows, or all that a batch can have."""
        for rows in (best.rows // 2, min(best.rows * 2, climb.most_rows)):
            neighbour = climb.step(rows)
            if not 0 < rows <= climb.most_rows:
                continue
            if self._affordable(neighbour, until):
                self._scout(neighbour)
            elif rows > best.rows:
                self._leave_out([neighbour])

    def _shrink(self, until: float) -> None:
        """Where even the quickest batch is above the limit: fewer rows, until one is within it or has one row."""
        quickest = self.fastest()
        while self.limit_seconds is not None and not quickest.within(self.limit_seconds) and quickest.configuration.rows > 1:
            one = quickest.configuration
            fitting = int(one.rows * self.limit_seconds / quickest.batch_seconds[1])
            rows = 2 ** (max(1, min(fitting, one.rows // 2)).bit_length() - 1)
            smaller = Configuration(one.device, rows, one.workers, one.kernel_threads)
            if not self._affordable(smaller, until):
                self._leave_out([smaller])
                return
            trial = self._scout(smaller)
            if trial is None:
                return
            quickest = Measurement(smaller, (trial,))

    def _leave_out(self, configurations: Sequence[Configuration]) -> None:
        tried = {*self._scouted, *self.failures, *self.unaffordable}
        self.unaffordable += [one for one in configurations if one not in tried]

    def _too_slow(self, trial: Trial) -> bool:
        """Whether larger batches would be even further above the limit."""
        return self.limit_seconds is not None and exact_quantiles(trial.latencies, (0.95,))[0.95] > self.limit_seconds

    def _affordable(self, configuration: Configuration, until: float) -> bool:
        """Whether a try would be over by then, as far as is known: a batch that doesn't count, and the slot or one batch."""
        if configuration in self._scouted:
            return True
        batch = self._batch_seconds(configuration)
        return self.clock() + batch + max(_SHORTEST_SECONDS, batch) <= until

    def _batch_seconds(self, configuration: Configuration) -> float:
        """What a batch will take: on the line through the next two that differ in their rows alone, which has the fixed cost.

        By one of them, or by what is set now, if there are no two: the seconds are in proportion to the rows then.
        """
        rows = configuration.rows
        alike = [one for one in self._scouted if replace(one, rows=rows) == configuration] or [self.current]
        near, *others = sorted(alike, key=lambda one: (abs(one.rows - rows), one.rows))
        seconds = self._seconds_of(near)
        slope = seconds / near.rows
        if others:
            slope = min(max((self._seconds_of(others[0]) - seconds) / (others[0].rows - near.rows), 0.0), slope)
        return seconds + slope * (rows - near.rows)

    def _seconds_of(self, scouted: Configuration) -> float:
        return scouted.rows * scouted.workers / self._scouted[scouted].rows_per_second

    def _promising(self, seconds: float) -> list[Configuration]:
        """What is set now, the fastest other within the limit, and as many more, by their speed, as there is time for."""

        def rank(one: Measurement) -> tuple[bool, bool, float]:
            return one.configuration != self.current, not one.within(self.limit_seconds), -one.rows_per_second

        chosen: list[Configuration] = []
        for one in sorted(self.measurements(), key=rank):
            seconds -= self._took[one.configuration]
            if seconds < 0 and len(chosen) >= _LEAST_COMPARED:
                break
            chosen.append(one.configuration)
        return chosen

    def _too_late(self, began: float, until: float) -> bool:
        """Whether another round like the one that began then would last too long."""
        now = self.clock()
        return now + (now - began) > until


def _slot(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS)
